package timeline_test

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
	"stemma/timeline"
	"stemma/timeline/timelinetest"
	"stemma/wal"
	"stemma/wal/storefs"
)

// script runs the commands of a datadriven file on one store. LSNs are symbols:
// "as=L1" names that of a commit, "at=L1" reads there, "at=L1-1" one below.
type script struct {
	t     *testing.T
	mem   *storefs.MemFS
	store *timeline.Store
	lsns  map[string]wal.LSN
	clock *timelinetest.Clocks
	snaps map[string]timeline.SnapshotID
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := &script{t: t, mem: storefs.NewMem(), lsns: map[string]wal.LSN{}, clock: timelinetest.NewClocks(), snaps: map[string]timeline.SnapshotID{}}
		s.open(s.mem)
		defer func() { s.check(s.store.Close()) }()
		datadriven.RunTest(t, path, s.run)
	})
}

func (s *script) open(fs vfs.FS) {
	s.t.Helper()
	st, err := timeline.Open(timeline.Options{
		FS: fs, Dir: "data", WALSegmentBytes: 64 << 10, Logger: strictLogger(s.t),
		Now:      func() time.Time { s.clock.Pass(time.Millisecond, time.Millisecond); return s.clock.Now() },
		Uptime:   s.clock.Uptime,
		L0Layers: 100, HorizonEvery: time.Hour,
	})
	s.check(err)
	s.store = st
}

func (s *script) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *script) lsn(d *datadriven.TestData) wal.LSN {
	if !d.HasArg("at") {
		return 0
	}
	var name string
	d.ScanArgs(s.t, "at", &name)
	base, minus, _ := strings.Cut(name, "-")
	l, ok := s.lsns[base]
	if !ok {
		d.Fatalf(s.t, "no LSN named %s", base)
	}
	if minus == "1" {
		l--
	}
	return l
}

func (s *script) done(d *datadriven.TestData, lsn wal.LSN, err error) string {
	if err != nil {
		return errorName(err)
	}
	if d.HasArg("as") {
		var name string
		d.ScanArgs(s.t, "as", &name)
		s.lsns[name] = lsn
	}
	return "ok"
}

func errorName(err error) string {
	for name, target := range map[string]error{
		"no such bucket": timeline.ErrNoSuchBucket, "bucket exists": timeline.ErrBucketExists,
		"bucket not empty": timeline.ErrBucketNotEmpty, "not found": timeline.ErrNotFound,
		"future": timeline.ErrFuture, "no such snapshot": timeline.ErrNoSuchSnapshot,
	} {
		if errors.Is(err, target) {
			return "error: " + name
		}
	}
	return "error: " + err.Error()
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	ctx := context.Background()
	arg := func(i int) string { return d.CmdArgs[i].Key }
	switch d.Cmd {
	case "create":
		i, err := s.store.CreateBucket(ctx, timeline.NewBucket{Name: arg(0)})
		return s.done(d, i.Created, err)
	case "fork": // fork SRC DST... [at=]
		o := timeline.ForkOptions{Source: arg(0), At: s.lsn(d)}
		for _, a := range d.CmdArgs[1:] {
			if len(a.Vals) == 0 {
				o.Forks = append(o.Forks, timeline.NewBucket{Name: a.Key})
			}
		}
		infos, err := s.store.Fork(ctx, o)
		var lsn wal.LSN
		if err == nil {
			lsn = infos[0].Created
		}
		return s.done(d, lsn, err)
	case "delete-bucket":
		lsn, err := s.store.DeleteBucket(ctx, arg(0), timeline.DeleteOptions{Force: d.HasArg("force")})
		return s.done(d, lsn, err)
	case "rename":
		lsn, err := s.store.RenameBucket(ctx, arg(0), arg(1))
		return s.done(d, lsn, err)
	case "put", "del": // put BUCKET, a line per key: "key value"
		var b timeline.Batch
		for line := range strings.Lines(d.Input) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), " ")
			if d.Cmd == "put" {
				b.Put(layers.NamespaceObjects, []byte(k), []byte(v), nil)
			} else if lo, hi, isRange := strings.Cut(k, ".."); isRange {
				b.DeleteRange(layers.NamespaceObjects, []byte(lo), []byte(hi))
			} else {
				b.Delete(layers.NamespaceObjects, []byte(k))
			}
		}
		lsn, err := s.store.Commit(ctx, arg(0), &b)
		return s.done(d, lsn, err)
	case "get":
		v, err := s.store.View(ctx, arg(0), s.lsn(d))
		if err != nil {
			return errorName(err)
		}
		defer v.Close()
		rec, err := v.Get(layers.NamespaceObjects, []byte(arg(1)))
		if err != nil {
			return errorName(err)
		}
		return string(rec.Meta)
	case "scan":
		v, err := s.store.View(ctx, arg(0), s.lsn(d))
		if err != nil {
			return errorName(err)
		}
		defer v.Close()
		return s.scan(v)
	case "diff":
		return s.diff(d)
	case "buckets":
		var out []string
		for _, i := range s.store.Buckets("", "", 0) {
			line := i.Name
			if i.SourceBucket != 0 {
				line += fmt.Sprintf(" (fork of %s, depth %d)", i.SourceName, i.Depth)
			}
			if i.HasForks {
				line += " has forks"
			}
			out = append(out, line)
		}
		return strings.Join(out, "\n")
	case "snapshot":
		made, err := s.store.Snapshot(ctx, timeline.NewSnapshot{Buckets: []string{arg(0)}, At: s.lsn(d), SnapshotSettings: timeline.SnapshotSettings{Name: arg(1)}})
		if err != nil {
			return s.done(d, 0, err)
		}
		s.snaps[arg(1)] = made[0].ID
		return s.done(d, made[0].LSN, nil)
	case "delete-snapshot":
		_, err := s.store.DeleteSnapshots(ctx, s.snaps[arg(0)])
		return s.done(d, 0, err)
	case "snapshots":
		i, err := s.store.Bucket(arg(0), 0)
		s.check(err)
		var names []string
		for _, p := range s.store.Snapshots(i.Bucket, timeline.SnapshotCursor{}, 0) {
			names = append(names, p.Name+" at "+s.nameOf(p.LSN))
		}
		return strings.Join(names, "\n")
	case "flush":
		return s.done(d, 0, s.store.Flush(ctx))
	case "compact":
		return s.done(d, 0, s.store.Compact())
	case "reopen":
		s.check(s.store.Close())
		s.open(s.mem)
		return "ok"
	case "crash": // everything acknowledged was synced: the worst disk loses nothing of it
		clone := s.mem.CrashClone(vfs.CrashCloneCfg{})
		s.check(s.store.Close())
		s.mem = clone
		s.open(clone)
		return "ok"
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return ""
}

func (s *script) nameOf(lsn wal.LSN) string {
	var names []string
	for name, l := range s.lsns {
		if l == lsn {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return strings.Join(names, "=")
}

func (s *script) scan(v *timeline.View) string {
	scan := v.Scan(layers.NamespaceObjects, nil, nil)
	var out []string
	for ok := scan.First(); ok; ok = scan.Next() {
		out = append(out, fmt.Sprintf("%s=%s", scan.Record().Key.User(), scan.Record().Meta))
	}
	s.check(scan.Err())
	s.check(scan.Close())
	return strings.Join(out, " ")
}
