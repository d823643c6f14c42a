package benchmarks

import (
	"os/exec"
	"strings"
	"testing"
)

// TestPrograms runs every program in small, so that it still works on the day
// that somebody needs its figures.
func TestPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs programs")
	}
	for program, args := range map[string]string{
		"httpget":   "-depth 3 -keys 10 -rounds 2 -reads 20",
		"stream":    "-bytes 12582912 -part 5242880",
		"churn":     "-quick -window 0",
		"merge":     "-quick",
		"overwrite": "-quick",
		"tail":      "-quick",
	} {
		t.Run(program, func(t *testing.T) {
			if strings.HasPrefix(args, "-quick") {
				t.Parallel() // they wait for a store to come to rest, most of the time
			}
			args := append([]string{"run", "./" + program, "-dir", t.TempDir()}, strings.Fields(args)...)
			out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
			if err != nil {
				t.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		})
	}
}
