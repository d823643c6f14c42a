package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"stemma/gc"
	"stemma/timeline"
)

// Variables that only tests set, and no flag stands for.
const (
	// envKillAt ends the process with SIGKILL when background work reaches a
	// durability step for the n-th time: "<step>:<n>", a step of timeline.Steps.
	envKillAt = "STEMMA_KILL_AT"
	// envTestOptions is a JSON object of testOptions.
	envTestOptions = "STEMMA_TEST_OPTIONS"
)

// testOptions are settings of a store that no operator needs. Zero ones keep
// what the flags say.
type testOptions struct {
	LayerBytes, Level1Bytes          int64
	L0Layers                         int
	SegmentBytes, PackedSegmentBytes int64
	CollectEvery, HorizonEvery       time.Duration // nanoseconds
	Window, UndoTime                 *time.Duration
}

func (t *testOptions) apply(o *timeline.Options) {
	o.LayerBytes, o.Level1Bytes, o.L0Layers = t.LayerBytes, t.Level1Bytes, t.L0Layers
	o.Values.SegmentBytes, o.Values.PackedSegmentBytes = t.SegmentBytes, t.PackedSegmentBytes
	o.CollectEvery, o.HorizonEvery = t.CollectEvery, t.HorizonEvery
	if t.Window != nil {
		o.Window = gc.Window(orNone(*t.Window))
	}
	if t.UndoTime != nil {
		o.UndoTime = orNone(*t.UndoTime)
	}
}

// orNone says zero as the options of a store do, where zero is the default.
func orNone(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// testHooks sets in o what the environment of a test asks for.
func testHooks(o *timeline.Options, lookup func(string) (string, bool), log *slog.Logger) error {
	if v, ok := lookup(envTestOptions); ok && v != "" {
		var t testOptions
		if err := json.Unmarshal([]byte(v), &t); err != nil {
			return usagef("%s: %w", envTestOptions, err)
		}
		t.apply(o)
	}
	v, ok := lookup(envKillAt)
	if !ok || v == "" {
		return nil
	}
	step, n, err := parseKillAt(v)
	if err != nil {
		return usagef("%s=%q: %w", envKillAt, v, err)
	}
	log.Info("this process will kill itself, as " + envKillAt + " says")
	var reached atomic.Int64
	o.At = func(at timeline.Step) {
		if at == step && reached.Add(1) == n {
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way: nothing more may happen here
		}
	}
	return nil
}

// parseKillAt reads "<step>:<n>"; steps contain colons themselves.
func parseKillAt(v string) (timeline.Step, int64, error) {
	i := strings.LastIndexByte(v, ':')
	if i < 0 {
		return "", 0, fmt.Errorf("want <step>:<n>")
	}
	step := timeline.Step(v[:i])
	if !slices.Contains(timeline.Steps, step) {
		return "", 0, fmt.Errorf("no step %q", step)
	}
	n, err := strconv.ParseInt(v[i+1:], 10, 64)
	if err != nil || n < 1 {
		return "", 0, fmt.Errorf("count %q: want 1 or more", v[i+1:])
	}
	return step, n, nil
}
