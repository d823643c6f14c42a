package suite

import (
	"strings"
	"testing"

	"stemma/benchmarks/report"
)

func TestCheckLoopback(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"http://127.0.0.1:9000": true, "http://localhost": true, "http://[::1]:80": true, "http://127.9.9.9": true,
		"http://10.0.0.1:9000": false, "https://s3.example.com": false, "http://127.0.0.1.example.com": false, "http://": false, "::": false,
	} {
		if err := CheckLoopback(endpoint); (err == nil) != ok {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

func TestOps(t *testing.T) {
	c := Config{Sizes: []int{4 << 10, 64 << 10, 10 << 20}}
	for size, want := range map[int]string{4 << 10: "put get head list list-dirs delete delete-10 delete-1000 mixed", 64 << 10: "put get head delete mixed", 10 << 20: "put get head delete mixed"} {
		if got := strings.Join(c.ops(size), " "); got != want {
			t.Errorf("%d: %s", size, got)
		}
	}
}

// A ratio is of two figures in the same unit.
func TestInUnit(t *testing.T) {
	disk, bare := report.Number("limits", "disk", "MiB/s", false, 100), report.Number("limits", "bare", "op/s", false, 100)
	if got := inUnit(&disk, "op/s", 64<<10); got != 1600 {
		t.Errorf("%v, want 1600", got)
	}
	if got := inUnit(&disk, "MiB/s", 64<<10) + inUnit(&bare, "op/s", 64<<10); got != 200 {
		t.Errorf("%v, want 200", got)
	}
}
