package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTutorials runs the commands of the tutorial and of the cookbook as they are written, on one server each.
func TestTutorials(t *testing.T) {
	if testing.Short() {
		t.Skip("starts programs by the dozen")
	}
	for name, says := range map[string][]string{
		"tutorial.md": {"100 keys.txt\n", "agent-001 ", "├─ agent-001  @", "+ answers/1.txt", "questions/1.txt -> done/1.txt", "deleted", "question 2\n", "committed at", "is another since"},
		"cookbook.md": {"agent=ann", "a.txt", "1 put", "committed at", "one\n", "├─ try-1  @", "is another since"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(moduleRoot(t), "docs", name))
			if err != nil {
				t.Fatal(err)
			}
			script := "set -e\n"
			for i, part := range strings.Split(string(text), "```") {
				if commands, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 && !strings.Contains(commands, "stemma serve") {
					script += commands
				}
			}
			p := start(t, t.TempDir())
			bin, err := binary()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
			cmd.Dir = dir
			cmd.Env = environment("STEMMA_ENDPOINT="+p.s3, "STEMMA_ADMIN_ENDPOINT="+p.admin, "STEMMA_ROOT_ACCESS_KEY="+testAccess,
				"STEMMA_ROOT_SECRET_KEY="+testSecret, "PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"))
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); err != nil {
				t.Errorf("%v", err)
			}
			for _, want := range says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it did not say %q", want)
				}
			}
			if t.Failed() {
				t.Logf("%s", &out)
			}
			p.stop(t)
		})
	}
}
