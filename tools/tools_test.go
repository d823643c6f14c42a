package tools

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

// TestTools runs the script of every file in testdata: "build" makes a store,
// other commands are those of stemma tool.
func TestTools(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var fs *storefs.MemFS
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "build":
				fs = storefs.NewMem()
				buildStore(t, fs)
				return ""
			case "flip": // flip FILE offset=N: change one byte
				var off int64
				d.ScanArgs(t, "offset", &off)
				flip(t, fs, d.CmdArgs[0].Key, off)
				return ""
			case "remove":
				must(t, fs.Remove(d.CmdArgs[0].Key))
				return ""
			case "list":
				names, err := fs.List(d.CmdArgs[0].Key)
				must(t, err)
				slices.Sort(names)
				return strings.Join(names, "\n") + "\n"
			}
			args := []string{d.Cmd}
			for _, a := range d.CmdArgs {
				args = append(args, a.Key)
			}
			before := digest(t, fs, "data")
			out := runTool(fs, args...)
			if after := digest(t, fs, "data"); after != before {
				t.Errorf("%q changed the store:\n%s\nbefore:\n%s", args, after, before)
			}
			return out
		})
	})
}

// actions are the commands by name, as Command has them.
var actions = map[string]action{
	"wal dump": onStore(dumpWAL), "wal verify": onStore(verifyWAL), "layer dump": dumpLayer, "layer verify": verifyLayer,
	"values verify": onStore(verifyValues), "catalog dump": onStore(dumpCatalog), "tree": onStore(drawTree), "check": onStore(check),
}

func runTool(fs vfs.FS, args ...string) string {
	var out bytes.Buffer
	name, path := strings.Join(args[:len(args)-1], " "), args[len(args)-1]
	if err := actions[name](readOnlyFS{fs}, path, &out); err != nil {
		fmt.Fprintf(&out, "error: %v\n", err)
	}
	return out.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens the store with a clock that stands: LSNs count up by one.
func open(t *testing.T, fs vfs.FS) *timeline.Store {
	t.Helper()
	s, err := timeline.Open(timeline.Options{
		CollectEvery: -1,
		FS:           fs, Dir: "data", WALSegmentBytes: 32 << 10, HorizonEvery: time.Hour, L0Layers: 100,
		Now:    func() time.Time { return time.Unix(1_000_000, 0) },
		Uptime: func() time.Duration { return 0 },
	})
	must(t, err)
	return s
}

// buildStore makes a store with two layers, values of all kinds, a tree of
// timelines, a pin, and a log that is not flushed.
func buildStore(t *testing.T, fs vfs.FS) {
	t.Helper()
	ctx, s := t.Context(), open(t, fs)
	put := func(bucket string, keys ...string) {
		t.Helper()
		var b timeline.Batch
		for _, k := range keys {
			b.Put(layers.NamespaceObjects, []byte(k), []byte("meta"), layers.AppendInlineBody(nil, []byte("value of "+k)))
		}
		_, err := s.Commit(ctx, bucket, &b)
		must(t, err)
	}
	fork := func(o timeline.ForkOptions) timeline.Info {
		t.Helper()
		infos, err := s.Fork(ctx, o)
		must(t, err)
		return infos[0]
	}
	_, err := s.CreateBucket(ctx, timeline.NewBucket{Name: "data"})
	must(t, err)
	put("data", "a", "b", "c")
	must(t, streamValue(t, s, "data", "big", 100_000))
	first := fork(timeline.ForkOptions{Source: "data", Forks: timeline.Named("fork")})
	put("fork", "b")
	var b timeline.Batch
	b.Put(layers.NamespaceObjects, []byte("parted"), nil, layers.AppendInlineBody(nil, bytes.Repeat([]byte("x"), 5000)))
	b.Delete(layers.NamespaceObjects, []byte("a"))
	_, err = s.Commit(ctx, "fork", &b)
	must(t, err)
	must(t, s.Flush(ctx))

	fork(timeline.ForkOptions{Source: "fork", Forks: timeline.Named("deep")})
	fork(timeline.ForkOptions{Source: "data", At: first.Created, Forks: timeline.Named("side")})
	_, err = s.Snapshot(ctx, timeline.NewSnapshot{Buckets: []string{"data"}, At: first.Created, SnapshotSettings: timeline.SnapshotSettings{Name: "snapshot one"}})
	must(t, err)
	var r timeline.Batch
	r.DeleteRange(layers.NamespaceObjects, []byte("b"), []byte("p"))
	_, err = s.Commit(ctx, "deep", &r)
	must(t, err)
	must(t, s.Flush(ctx))

	_, err = s.DeleteBucket(ctx, "side", timeline.DeleteOptions{Force: true})
	must(t, err)
	_, err = s.RenameBucket(ctx, "deep", "renamed")
	must(t, err)
	put("renamed", "new")
	must(t, streamValue(t, s, "data", "later", 10))
	must(t, s.Close())
}

// streamValue puts a value that goes to a value segment at once.
func streamValue(t *testing.T, s *timeline.Store, bucket, key string, n int) error {
	w, err := s.Values().NewWriter(t.Context())
	if err != nil {
		return err
	}
	_, err = w.Write(bytes.Repeat([]byte(key), n/len(key)))
	ext, finishErr := w.Finish()
	if err := errors.Join(err, finishErr); err != nil {
		return errors.Join(err, w.Close())
	}
	var b timeline.Batch
	b.Put(layers.NamespaceObjects, []byte(key), nil, layers.AppendExtentsBody(nil, ext))
	_, err = s.Commit(t.Context(), bucket, &b)
	return errors.Join(err, w.Close())
}

// flip changes one byte of a file; a negative offset counts from the end.
func flip(t *testing.T, fs vfs.FS, name string, off int64) {
	t.Helper()
	p := readFile(t, fs, name)
	if off < 0 {
		off += int64(len(p))
	}
	p[off] ^= 0x40
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(p)
	must(t, errors.Join(err, f.Close()))
}

func readFile(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	must(t, err)
	p, err := io.ReadAll(f)
	must(t, errors.Join(err, f.Close()))
	return p
}

// digest lists every file below dir with a checksum.
func digest(t *testing.T, fs vfs.FS, dir string) string {
	t.Helper()
	names, err := fs.List(dir)
	must(t, err)
	slices.Sort(names)
	var s strings.Builder
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		st, err := fs.Stat(path)
		must(t, err)
		if st.IsDir() {
			s.WriteString(digest(t, fs, path))
		} else {
			fmt.Fprintf(&s, "%s %x\n", path, sha256.Sum256(readFile(t, fs, path)))
		}
	}
	return s.String()
}

// TestRefuseOpenStore: no tool looks into a store that is open, nor into what is no store.
func TestRefuseOpenStore(t *testing.T) {
	fs := storefs.NewMem()
	s := open(t, fs)
	for name := range actions {
		if strings.HasPrefix(name, "layer") {
			continue
		}
		if out := runTool(fs, append(strings.Fields(name), "data")...); !strings.Contains(out, "another process") {
			t.Errorf("%s of an open store: %s", name, out)
		}
		if out := runTool(fs, append(strings.Fields(name), "elsewhere")...); !strings.Contains(out, "holds no store") {
			t.Errorf("%s of nothing: %s", name, out)
		}
	}
	must(t, s.Close())
}

// TestReadOnly: what a decoder might do by mistake is refused.
func TestReadOnly(t *testing.T) {
	mem := storefs.NewMem()
	fs := readOnlyFS{mem}
	_, create := fs.Create("f", vfs.WriteCategoryUnspecified)
	_, rw := fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
	_, reuse := fs.ReuseForWrite("f", "g", vfs.WriteCategoryUnspecified)
	for i, err := range []error{create, rw, reuse, fs.Link("f", "g"), fs.Remove("f"), fs.RemoveAll("f"), fs.Rename("f", "g"),
		fs.MkdirAll("d", 0o700), storefs.Truncate(fs, "f", 0), storefs.PunchHole(fs, "f", 0, 1)} {
		if err == nil {
			t.Errorf("call %d passed", i)
		}
	}
	if names, err := mem.List(""); err != nil || len(names) != 0 {
		t.Errorf("made %q, %v", names, err)
	}
}

// A merge that went by way of a layer, after a crash: only the log names that. The tools count it as
// part of the store, and the next start finds it.
func TestAdoptedByTheLog(t *testing.T) {
	fs := storefs.NewMem()
	options := timeline.Options{FS: fs, Dir: "data", WALSegmentBytes: 256 << 10, MergeBytes: 1, CollectEvery: -1, HorizonEvery: time.Hour}
	s, err := timeline.Open(options)
	must(t, err)
	_, err = s.CreateBucket(t.Context(), timeline.NewBucket{Name: "main"})
	must(t, err)
	_, err = s.Fork(t.Context(), timeline.ForkOptions{Source: "main", Forks: timeline.Named("dev")})
	must(t, err)
	must(t, s.Flush(t.Context())) // the catalog has the tree
	must(t, streamValue(t, s, "dev", "big", 100_000))
	res, err := s.Merge(t.Context(), timeline.MergeOptions{Source: "dev", Target: "main"})
	must(t, err)
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	must(t, s.Close())
	dump := runTool(crashed, "catalog", "dump", "data")
	if strings.Contains(dump, "layer ") {
		t.Fatalf("the catalog names the layer:\n%s", dump)
	}
	log := runTool(crashed, "wal", "dump", "data")
	adopted := regexp.MustCompile(`adopt layer=([0-9]+)`).FindStringSubmatch(log)
	if adopted == nil || !strings.Contains(log, "entries=1 ") {
		t.Fatalf("log:\n%s", log)
	}
	num, err := strconv.ParseUint(adopted[1], 10, 64)
	must(t, err)
	// A flush that was under way may have left files.
	out := runTool(crashed, "check", "data")
	if !strings.Contains(out, "no problem found") || strings.Contains(out, layers.LayerName(layers.FileNum(num))) || strings.Contains(out, "nothing refers to segment") || !strings.Contains(out, "layers: 2 with 2 records") {
		t.Errorf("check:\n%s", out)
	}
	options.FS = crashed
	s, err = timeline.Open(options)
	must(t, err)
	v, err := s.View(t.Context(), "main", 0)
	must(t, err)
	if r, err := v.Get(layers.NamespaceObjects, []byte("big")); err != nil || r.LSN != res.LSN {
		t.Errorf("read after the start: %d, %v", r.LSN, err)
	}
	v.Close()
	must(t, s.Close())
	if out := runTool(crashed, "check", "data"); !strings.Contains(out, "no problem found") || strings.Contains(out, "nothing refers to") {
		t.Errorf("check after the start:\n%s", out)
	}
	// Without its layer it is no store.
	names, err := crashed.List("data/layers")
	must(t, err)
	for _, name := range names {
		must(t, crashed.Remove("data/layers/"+name))
	}
	if out := runTool(crashed, "check", "data"); !strings.Contains(out, "BAD: layer") {
		t.Errorf("check without the layers:\n%s", out)
	}
}
