package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"stemma/benchmarks/report"
)

// readReport reads what --json wrote.
func readReport(t *testing.T, name string) *report.Report {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := report.ReadJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// stemma bench runs as it is called, leaves nothing behind, and writes what it shows.
func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers")
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, t.TempDir())
	tiny := []string{"--duration", "30ms", "--warmup", "5ms", "--clients", "2"}
	small := append([]string{"--objects", "20", "--keys", "50", "--deletes", "30"}, tiny...)
	for name, c := range map[string]struct {
		args []string
		rows []string // in this order
	}{
		"own server": {
			append([]string{"s3", "--size", "1KiB", "--rounds", "2", "--verify"}, small...),
			[]string{
				"limits pebble set 1 KiB, 2 writers", "s3 put 1 KiB", "limits bare get 1 KiB", "s3 get 1 KiB", "limits bare head 1 KiB", "s3 head 1 KiB",
				"s3 list", "s3 list-dirs", "s3 delete 1 KiB", "s3 delete-10 1 KiB", "s3 delete-1000 1 KiB", "s3 mixed 1 KiB",
			},
		},
		"endpoint": {
			append([]string{
				"s3", "--endpoint", p.s3, "--access-key", testAccess, "--secret-key", testSecret, "--server-pid", strconv.Itoa(p.cmd.Process.Pid),
				"--size", "100KiB", "--ops", "put,get", "--rounds", "1", "--rate", "500", "--payload", "streaming", "--limits=false",
			}, small...),
			[]string{"s3 put 100 KiB", "s3 get 100 KiB"},
		},
		"binaries": {
			append([]string{"ab", "--a-binary", bin, "--b-binary", bin, "--size", "4KiB", "--ops", "get", "--rounds", "2"}, small...),
			[]string{"get 4 KiB"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, out := t.TempDir(), filepath.Join(t.TempDir(), "out.json")
			args := append(append([]string{"bench"}, c.args...), "--dir", dir, "--json", out)
			cmd := exec.CommandContext(t.Context(), bin, args...)
			cmd.Env = environment()
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, &stderr)
			}
			r := readReport(t, out)
			var rows []string
			for _, row := range r.Rows {
				rows = append(rows, row.Suite+" "+row.Name)
				if row.Errors > 0 || row.Latency == nil {
					t.Errorf("%+v", row)
				}
				if !strings.Contains(stdout.String(), row.Name) {
					t.Errorf("the table lacks %q", row.Name)
				}
			}
			for _, cmp := range r.Comparisons {
				rows = append(rows, cmp.Name)
			}
			if got, want := strings.Join(rows, "\n"), strings.Join(c.rows, "\n"); got != want {
				t.Errorf("rows\n%s\nwant\n%s", got, want)
			}
			if strings.Contains(r.Command, testSecret) {
				t.Errorf("the report holds a secret: %s", r.Command)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	left, err := p.client().ListBuckets(t.Context(), nil)
	if err != nil || len(left.Buckets) > 0 {
		t.Errorf("buckets are left: %+v, %v", left, err)
	}
	p.stop(t)
}

func TestBenchLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a file of 512 MiB")
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.json")
	cmd := exec.CommandContext(t.Context(), bin, "bench", "limits", "--size", "4KiB", "--duration", "20ms", "--warmup", "5ms", "--rounds", "1",
		"--clients", "2", "--dir", t.TempDir(), "--json", out)
	cmd.Env = environment()
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	if r := readReport(t, out); len(r.Rows) != 12 && len(r.Rows) != 6 { // 6 without direct I/O
		t.Errorf("%d rows", len(r.Rows))
	}
}
