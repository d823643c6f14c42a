package limits

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"testing"

	"stemma/benchmarks/load"
	"stemma/benchmarks/s3load"
)

// bareVar makes the test binary a bare server.
const bareVar = "STEMMA_TEST_BARE_SIZE"

func TestMain(m *testing.M) {
	if s := os.Getenv(bareVar); s != "" {
		size, err := strconv.Atoi(s)
		if err != nil {
			panic(err)
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := ServeBare(ctx, size, os.Stdout); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

func run(t *testing.T, w load.Workload, o load.Options) load.Result {
	t.Helper()
	res, err := load.Run(t.Context(), w, o)
	if err != nil {
		t.Fatal(err)
	}
	if n, first := res.Errors(); n > 0 {
		t.Errorf("%s: %d errors, first %s", w.Name, n, first)
	}
	return res
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	d, err := NewDisk(t.Context(), dir, 4<<20)
	if errors.Is(err, ErrNoDirect) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	seq, depth := d.SequentialWrite()
	if r := run(t, seq, load.Options{Workers: depth, Ops: 10, Rounds: 2}); r.Rounds[1].Bytes != 10<<20 {
		t.Errorf("%+v", r.Rounds[1])
	}
	if r := run(t, d.WriteSync(64<<10), load.Options{Workers: 1, Ops: 100}); r.Rounds[0].Bytes != 100*64<<10 {
		t.Errorf("%+v", r.Rounds[0])
	}
	const mean = 4096 * 3.25
	if r := run(t, d.WriteSyncMean("groups", func() float64 { return mean }), load.Options{Workers: 1, Ops: 100}); r.Rounds[0].Bytes != 100*mean {
		t.Errorf("%+v", r.Rounds[0])
	}
	if _, err := load.Run(t.Context(), d.WriteSyncMean("none", func() float64 { return 0 }), load.Options{Workers: 1, Ops: 1}); err == nil {
		t.Error("groups of nothing were written")
	}
	for _, depth := range []int{1, 32} {
		if r := run(t, d.RandomRead(depth), load.Options{Workers: depth, Ops: 100}); r.Rounds[0].Bytes != 100*4<<10 {
			t.Errorf("%+v", r.Rounds[0])
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestPebble(t *testing.T) {
	dir := t.TempDir()
	for _, writers := range []int{1, 8} {
		run(t, Pebble(dir, 4096, writers), load.Options{Workers: writers, Ops: 50, Rounds: 2})
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// The same client and workloads run against a bare server.
func TestBare(t *testing.T) {
	const size = 300 << 10
	t.Setenv(bareVar, strconv.Itoa(size))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := StartBare(exe)
	if err != nil {
		t.Fatal(err)
	}
	tg, err := s3load.New(s3load.Config{
		Endpoint: b.Endpoint, AccessKey: "a", SecretKey: "b", Region: "us-east-1", Buckets: "bare", Workers: 2, Size: size, Objects: 3, Deletes: 3, Keys: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{"put", "get", "head", "delete"} {
		w, err := tg.Workload(op)
		if err != nil {
			t.Fatal(err)
		}
		run(t, w, load.Options{Workers: 2, Ops: 20, CPU: load.CPUOf(b.Pid)})
	}
	if err := errors.Join(tg.Close(t.Context()), b.Stop()); err != nil {
		t.Error(err)
	}
}

func TestBareFails(t *testing.T) {
	if _, err := StartBare("/bin/true"); err == nil {
		t.Error("a program that says nothing is a bare server")
	}
}
