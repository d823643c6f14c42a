package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The page is whole, escapes what it is told, and needs nothing from elsewhere.
func TestPage(t *testing.T) {
	golden := filepath.Join("..", "report", "testdata", "report.json")
	sample, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	odd, out := filepath.Join(dir, "odd.json"), filepath.Join(dir, "page.html")
	if err := os.WriteFile(odd, []byte(strings.ReplaceAll(string(sample), "put 4 KiB", "put <4 KiB> & more")), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := run(out, []string{golden, odd}); err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	page := string(p)
	if n := strings.Count(page, "<svg"); n != 4 { // over time, latency, limits, intervals
		t.Errorf("%d plots, want 4", n)
	}
	for _, bad := range []string{"<4 KiB>", "<kill>", "<script", "src=", "NaN"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	for _, want := range []string{"99.9", "first: 500 InternalError", "the machine was busy", "</html>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if err := writePage(&strings.Builder{}, nil); err != nil {
		t.Error(err)
	}
	for _, files := range [][]string{nil, {filepath.Join(dir, "none.json")}, {"page.html"}} {
		if err := run(out, files); err == nil {
			t.Errorf("%v: accepted", files)
		}
	}
}
