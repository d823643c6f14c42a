package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func readme(t *testing.T) string {
	t.Helper()
	p, err := os.ReadFile(filepath.Join(moduleRoot(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

// TestReadmeFlags: the README's table has every flag of serve, its variable and
// its default.
func TestReadmeFlags(t *testing.T) {
	text := readme(t)
	newServe().LocalFlags().VisitAll(func(f *pflag.Flag) {
		for _, want := range []string{"`--" + f.Name + "`", "`" + envName(f.Name) + "`"} {
			if hasEnv(f) && !strings.Contains(text, want) {
				t.Errorf("README.md does not name %s", want)
			}
		}
		if d := f.DefValue; d != "[]" && d != "0" && hasEnv(f) && !strings.Contains(strings.ToLower(text), "`"+strings.ToLower(d)+"`") {
			t.Errorf("README.md does not name %s, the default of --%s", d, f.Name)
		}
	})
}

// TestReadmeQuickStart runs the quick start of the README as it is written, but
// for the port. It takes the AWS CLI a minute or two, so make soak runs it.
func TestReadmeQuickStart(t *testing.T) {
	if os.Getenv("STEMMA_TEST_README") == "" {
		t.Skip("STEMMA_TEST_README is not set")
	}
	findTool(t, "aws", "--version")
	findTool(t, "curl", "--version")
	_, text, _ := strings.Cut(readme(t), "## Quick start\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var blocks []string
	for i, part := range strings.Split(text, "```") {
		if i%2 == 1 {
			blocks = append(blocks, strings.TrimPrefix(part, "sh\n"))
		}
	}
	if len(blocks) != 3 || !strings.Contains(blocks[0], "make run") {
		t.Fatalf("README.md has %d blocks of commands in its quick start, want 3, the first with make run", len(blocks))
	}
	p := start(t, t.TempDir())
	script := strings.NewReplacer("127.0.0.1:9000", strings.TrimPrefix(p.s3, "http://"), "=demo-secret", "="+testSecret,
		"demo:demo-secret", testAccess+":"+testSecret, "=demo ", "="+testAccess+" ").Replace(blocks[1] + blocks[2])
	dir := t.TempDir()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(bin), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir, cmd.Env = dir, environment("TMPDIR="+dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v", err)
	}
	t.Logf("%s", &out)
	for _, want := range []string{"gone in the fork\n", "all as it was\n", "\nchanged\n", "make_bucket: data\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the quick start did not say %q", want)
		}
	}
	n := 0
	for line := range strings.Lines(out.String()) {
		if line == "module std\n" {
			n++
		}
	}
	if n != 4 { // parent, both in the past, and with curl
		t.Errorf("go.mod was read as it was %d times, want 4", n)
	}
	p.stop(t)
}
