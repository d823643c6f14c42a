package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mountBucket runs stemma mount until stop, which returns what it logged.
func mountBucket(t *testing.T, p *process, args ...string) (dir string, stop func() string) {
	t.Helper()
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skip("nothing can be mounted here: ", err)
	} else {
		f.Close()
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	cmd := exec.Command(bin, append([]string{"mount", "data", dir}, args...)...)
	cmd.Env = environment("STEMMA_ADMIN_ENDPOINT="+p.admin, "STEMMA_ROOT_ACCESS_KEY="+testAccess, "STEMMA_ROOT_SECRET_KEY="+testSecret)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var logs strings.Builder
	cmd.Stderr = &logs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "mounted data at "+dir+"\n" {
		err := cmd.Wait()
		if strings.Contains(logs.String(), "wants /dev/fuse") {
			t.Skip(logs.String())
		}
		t.Fatalf("%q, %v: %s", line, err, &logs)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	return dir, func() string {
		t.Helper()
		ended = true
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, &logs)
		}
		return logs.String()
	}
}

// A bucket is mounted by the command, now and as it was; a signal writes back and unmounts, at once even where files are open.
func TestMountCommand(t *testing.T) {
	p := start(t, t.TempDir())
	clearEnv(t)
	for name, value := range map[string]string{"STEMMA_ENDPOINT": p.s3, "STEMMA_ADMIN_ENDPOINT": p.admin, "STEMMA_ROOT_ACCESS_KEY": testAccess, "STEMMA_ROOT_SECRET_KEY": testSecret} {
		t.Setenv(name, value)
	}
	if code, _, stderr := runCLI(t, "bucket", "create", "data"); code != 0 {
		t.Fatal(stderr)
	}
	dir, stop := mountBucket(t, p)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for on, want := range map[string]string{file: "not a directory", file + "-none": "make the directory first"} {
		if code, _, stderr := runCLI(t, "mount", "data", on); code != exitFail || !strings.Contains(stderr, want) {
			t.Errorf("mount on %s: exit %d, %q; want %q", on, code, stderr, want)
		}
	}
	if p, err := os.ReadFile(file); string(p) != "kept" || err != nil {
		t.Errorf("the file that was no place to mount: %q, %v", p, err)
	}
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("before"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := runCLI(t, "snapshot", "create", "data", "--name", "good"); code != 0 {
		t.Fatal(stderr)
	}
	if f, err = os.OpenFile(filepath.Join(dir, "f"), os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("after!"); err != nil { // it waits
		t.Fatal(err)
	}
	ended := make(chan string)
	go func() { ended <- stop() }()
	for { // the directory goes while the file is open
		if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
			break
		}
	}
	if _, err := f.WriteString(" and more"); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if logs := <-ended; !strings.Contains(logs, "files are open") || !strings.Contains(logs, "msg=unmounted") {
		t.Error(logs)
	}
	if _, out, _ := runCLI(t, "cat", "data/f"); out != "after! and more" {
		t.Errorf("%q", out)
	}
	dir, stop = mountBucket(t, p, "--at", "good")
	if text, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(text) != "before" {
		t.Errorf("%q, %v", text, err)
	}
	stop()
	for _, args := range [][]string{{"mount", "data"}, {"mount", "none", dir}, {"mount", "data", dir, "--at", "nothing"}} {
		if code, _, stderr := runCLI(t, args...); code == 0 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, %q", args, code, stderr)
		}
	}
}
