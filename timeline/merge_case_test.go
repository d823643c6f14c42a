package timeline_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/timeline/timelinetest"
	"stemma/wal"
	"stemma/wal/storefs"
)

// mergeCase runs the lines of one case on a store of its own, which begins with the
// bucket main:
//
//	fork NEW SRC [LABEL]       a fork of SRC, at the tip or at a label
//	BUCKET k=v -k -[lo,hi)     one commit
//	label NAME                 remember the newest LSN
//	merge SRC [into=DST] [at=LABEL] [since=LABEL] [dry] [ours[:PREFIX]] [theirs[:PREFIX]]
//	pick SRC ...               as merge; keys=a,b or prefixes=p,q
//	revert DST FROM TO ...     the strategies as of merge
//	rebase SRC [onto=DST] ...  the strategies as of merge
//	show BUCKET [LABEL]        what it holds
//	flush, collect, reopen, detach BUCKET, delete BUCKET, rename BUCKET NEW, wait
//
// Every merge, pick, revert, rebase and show prints what came of it.
type mergeCase struct {
	t      *testing.T
	mem    *storefs.MemFS
	store  *timeline.Store
	clock  *timelinetest.Clocks
	window gc.Window
	labels map[string]wal.LSN
	out    strings.Builder
}

func TestMergeCases(t *testing.T) {
	cases := 0
	datadriven.Walk(t, "testdata/merges", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			cases++
			c := &mergeCase{t: t, mem: storefs.NewMem(), clock: timelinetest.NewClocks(), window: gc.Forever, labels: map[string]wal.LSN{}}
			if d.HasArg("nohistory") {
				c.window = -1
			}
			c.open()
			defer func() { c.check(c.store.Close()) }()
			_, err := c.store.CreateBucket(context.Background(), timeline.NewBucket{Name: "main"})
			c.check(err)
			for line := range strings.Lines(d.Input) {
				if f := strings.Fields(line); len(f) > 0 {
					c.run(f)
				}
			}
			return c.out.String()
		})
	})
	if cases < 60 {
		t.Errorf("%d cases, want at least 60", cases)
	}
}

func (c *mergeCase) open() {
	s, err := timeline.Open(timeline.Options{
		FS: c.mem, Dir: "data", WALSegmentBytes: 256 << 10, Logger: strictLogger(c.t), CollectEvery: -1, Window: c.window,
		Now:    func() time.Time { c.clock.Pass(time.Millisecond, time.Millisecond); return c.clock.Now() },
		Uptime: c.clock.Uptime, HorizonEvery: time.Hour, BackgroundShare: 100,
	})
	c.check(err)
	c.store = s
}

func (c *mergeCase) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *mergeCase) label(name string) wal.LSN {
	l, ok := c.labels[name]
	if !ok {
		c.t.Fatalf("no label %q", name)
	}
	return l
}

func (c *mergeCase) run(f []string) {
	ctx := context.Background()
	switch f[0] {
	case "fork":
		o := timeline.ForkOptions{Source: f[2], Forks: timeline.Named(f[1])}
		if len(f) > 3 {
			o.At = c.label(f[3])
		}
		_, err := c.store.Fork(ctx, o)
		c.check(err)
	case "label":
		c.labels[f[1]] = c.store.Visible()
	case "flush":
		c.check(c.store.Flush(ctx))
	case "collect":
		_, err := c.store.CollectFull(ctx)
		c.check(err)
	case "reopen":
		c.check(c.store.Close())
		c.open()
	case "detach":
		c.check(c.store.Detach(ctx, f[1]))
	case "delete":
		_, err := c.store.DeleteBucket(ctx, f[1], timeline.DeleteOptions{Force: true, Undo: -1})
		c.check(err)
	case "rename":
		_, err := c.store.RenameBucket(ctx, f[1], f[2])
		c.check(err)
	case "show":
		c.show(f[1:])
	case "merge", "pick", "revert", "rebase":
		c.apply(f)
	default:
		c.write(f[0], f[1:])
	}
}

func (c *mergeCase) write(bucket string, items []string) {
	var b timeline.Batch
	for _, item := range items {
		switch k, v, put := strings.Cut(item, "="); {
		case put:
			b.Put(layers.NamespaceObjects, []byte(k), []byte(v), layers.AppendInlineBody(nil, []byte("body of "+v)))
		case strings.HasPrefix(item, "-["):
			lo, hi, _ := strings.Cut(strings.Trim(item, "-[)"), ",")
			b.DeleteRange(layers.NamespaceObjects, []byte(lo), []byte(hi))
		default:
			b.Delete(layers.NamespaceObjects, []byte(item[1:]))
		}
	}
	_, err := c.store.Commit(context.Background(), bucket, &b)
	c.check(err)
}

func (c *mergeCase) show(f []string) {
	at := wal.LSN(0)
	if len(f) > 1 {
		at = c.label(f[1])
	}
	v, err := c.store.View(context.Background(), f[0], at)
	c.check(err)
	defer v.Close()
	scan := v.Scan(layers.NamespaceObjects, nil, nil)
	fmt.Fprintf(&c.out, "%s:", f[0])
	for ok := scan.First(); ok; ok = scan.Next() {
		r := scan.Record()
		fmt.Fprintf(&c.out, " %s=%s", r.Key.User(), r.Meta)
		if want := "body of " + string(r.Meta); r.Body.Tag() == layers.BodyInline && string(r.Body.Inline()) != want {
			c.t.Errorf("body %q, want %q", r.Body.Inline(), want)
		}
	}
	c.out.WriteString("\n")
	c.check(scan.Err())
	c.check(scan.Close())
}

// rules are decided by the last strategy whose prefix fits.
func (c *mergeCase) rules(f []string) timeline.MergeRules {
	return timeline.MergeRules{Resolve: func(e *timeline.MergeEntry) (timeline.Side, error) {
		side := timeline.Neither
		for _, o := range f {
			name, prefix, _ := strings.Cut(o, ":")
			if !strings.HasPrefix(string(e.Key), prefix) {
				continue
			}
			switch name {
			case "ours":
				side = timeline.Ours
			case "theirs":
				side = timeline.Theirs
			case "fail":
				side = timeline.Neither
			}
		}
		return side, nil
	}}
}

func (c *mergeCase) apply(f []string) {
	opt := func(name string) string {
		for _, o := range f {
			if k, v, ok := strings.Cut(o, "="); ok && k == name {
				return v
			}
		}
		return ""
	}
	value := func(r *layers.Record) string {
		if r == nil {
			return "none"
		}
		return string(r.Meta)
	}
	var lines []string
	visit := func(e *timeline.MergeEntry) (bool, error) {
		line := fmt.Sprintf("  %v %s: %s -> %s", e.Action, e.Key, value(e.Ours), value(e.Theirs))
		if e.Conflict && e.Action != timeline.MergeConflict {
			line += " (conflict)"
		}
		lines = append(lines, line)
		return true, nil
	}
	at := func(name string) wal.LSN {
		if v := opt(name); v != "" {
			return c.label(v)
		}
		return 0
	}
	target := opt("into")
	if target == "" {
		target = "main"
	}
	dry := false
	for _, o := range f {
		dry = dry || o == "dry"
	}
	var res timeline.MergeResult
	var err error
	switch f[0] {
	case "merge":
		res, err = c.store.Merge(context.Background(), timeline.MergeOptions{
			Source: f[1], At: at("at"), Target: target, IfUnchangedSince: at("since"), Rules: c.rules(f[2:]), Visit: visit, DryRun: dry,
		})
	case "rebase":
		source := opt("onto")
		if source == "" {
			source = "main"
		}
		res, err = c.store.Rebase(context.Background(), timeline.MergeOptions{
			Source: source, At: at("at"), Target: f[1], IfUnchangedSince: at("since"), Rules: c.rules(f[2:]), Visit: visit, DryRun: dry,
		})
	case "pick":
		var ranges []layers.UserRange
		for _, k := range strings.Split(opt("keys"), ",") {
			if k != "" {
				ranges = append(ranges, layers.UserRange{Lower: []byte(k), Upper: []byte(k + "\x00")})
			}
		}
		for _, k := range strings.Split(opt("prefixes"), ",") {
			if k != "" {
				ranges = append(ranges, layers.UserRange{Lower: []byte(k), Upper: []byte(k + "\xff")})
			}
		}
		res, err = c.store.Pick(context.Background(), timeline.PickOptions{
			Source: f[1], At: at("at"), Target: target, Ranges: ranges, IfUnchangedSince: at("since"), Rules: c.rules(f[2:]), Visit: visit, DryRun: dry,
		})
	case "revert":
		o := timeline.RevertOptions{Target: f[1], From: c.label(f[2]), IfUnchangedSince: at("since"), Rules: c.rules(f[4:]), Visit: visit, DryRun: dry}
		if f[3] != "tip" {
			o.To = c.label(f[3])
		}
		res, err = c.store.Revert(context.Background(), o)
	default:
		c.t.Fatalf("unknown command %q", f[0])
	}
	lines = append([]string{strings.Join(f, " ")}, lines...)
	var conflicts *timeline.MergeConflictError
	switch {
	case errors.As(err, &conflicts):
		lines = append(lines, fmt.Sprintf("  error: %d conflicts", conflicts.Count))
	case errors.Is(err, timeline.ErrNotDescendant):
		lines = append(lines, "  error: not a descendant")
	case errors.Is(err, timeline.ErrTargetChanged):
		lines = append(lines, "  error: target changed")
	case err != nil:
		lines = append(lines, "  error: "+err.Error())
	default:
		lines = append(lines, fmt.Sprintf("  => put %d, deleted %d, same %d, conflicts %d, kept %d, open %d, committed %v",
			res.Put, res.Deleted, res.Same, res.Conflicts, res.Kept, res.Open, res.Committed))
	}
	c.out.WriteString(strings.Join(lines, "\n") + "\n")
}
