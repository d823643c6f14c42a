package main

import (
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"stemma/client"
)

// fio writes to a device at random, with a checksum in every block, while the server is killed and started again under it, and finds what it
// wrote; and again after the device was killed.
func TestNBDFio(t *testing.T) {
	if engines, err := exec.Command("fio", "--enghelp").Output(); err != nil || !strings.Contains(string(engines), "\tnbd\n") {
		t.Skip("wants fio with the engine nbd: ", err)
	}
	d := &diskTest{t: t, dir: t.TempDir(), bucket: "disk", socket: filepath.Join(t.TempDir(), "s")}
	d.serve()
	if _, err := d.api.CreateBucket(t.Context(), client.NewBucket{Name: d.bucket}); err != nil {
		t.Fatal(err)
	}
	attach := func() {
		t.Helper()
		d.nbd = startNBD(t, d.p, d.socket, "--bucket", d.bucket, "--key", "disk.img", "--size", "33554432")
	}
	attach()
	dir := t.TempDir() // fio leaves files where it runs
	fio := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "fio", append([]string{"--name=job", "--ioengine=nbd", "--uri=nbd+unix:///?socket=" + url.QueryEscape(d.socket), "--size=32m",
			"--rw=randwrite", "--bsrange=4k-64k", "--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--randseed=7"}, args...)...)
		cmd.Dir = dir
		return cmd
	}
	ok := func(out []byte, err error) {
		t.Helper()
		if err != nil || !strings.Contains(string(out), "err= 0") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	var out strings.Builder
	job := fio("--fsync=64", "--end_fsync=1", "--rate=16m")
	job.Stdout, job.Stderr = &out, &out
	if err := job.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		time.Sleep(600 * time.Millisecond)
		d.p.kill()
		d.serve()
	}
	err := job.Wait()
	ok([]byte(out.String()), err)
	d.end(syscall.SIGKILL)
	d.p.kill()
	d.serve()
	attach()
	ok(fio("--verify_only").CombinedOutput())
	d.end(syscall.SIGTERM)
	if _, err := d.api.WritePages(t.Context(), d.bucket, "disk.img", []client.PageOp{{Kind: client.PageWrite, Off: 9_999_999, Data: []byte("!")}}, client.PagesOptions{}); err != nil {
		t.Fatal(err)
	}
	attach()
	if out, err := fio("--verify_only").CombinedOutput(); err == nil {
		t.Errorf("fio does not find a byte that was changed:\n%s", out)
	}
	d.end(syscall.SIGTERM)
	d.p.stop(t)
}
