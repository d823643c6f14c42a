package timeline_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

// usageStore is a store that collects only when it is told to, with a clock that
// runs by itself.
type usageStore struct {
	*timeline.Store
	t   testing.TB
	rng *rand.Rand
	fs  vfs.FS
	dir string

	clock sync.Mutex
	now   time.Time
}

func openUsage(t testing.TB, window gc.Window) *usageStore {
	t.Helper()
	return openUsageOn(t, storefs.NewMem(), "data", window)
}

func openUsageOn(t testing.TB, fs vfs.FS, dir string, window gc.Window) *usageStore {
	t.Helper()
	return openUsageTuned(t, fs, dir, window, func(*timeline.Options) {})
}

// openUsageWith is openUsage with other options.
func openUsageWith(t testing.TB, window gc.Window, tune func(*timeline.Options)) *usageStore {
	t.Helper()
	return openUsageTuned(t, storefs.NewMem(), "data", window, tune)
}

func openUsageTuned(t testing.TB, fs vfs.FS, dir string, window gc.Window, tune func(*timeline.Options)) *usageStore {
	t.Helper()
	s := &usageStore{t: t, rng: rand.New(rand.NewPCG(7, 7)), fs: fs, dir: dir, now: time.Unix(1_000_000, 0)}
	o := timeline.Options{
		FS: fs, Dir: dir, WALSegmentBytes: 1 << 20, Logger: strictLogger(t), Window: window, UndoTime: -1,
		CollectEvery: -1, HorizonEvery: time.Hour, L0Layers: 1000, LayerBytes: 64 << 10,
		Values: layers.ValuesOptions{SegmentBytes: 4 << 20, PackedSegmentBytes: 1 << 20},
		Now:    s.tick, Uptime: func() time.Duration { return time.Duration(s.tick().UnixNano()) },
	}
	tune(&o)
	st, err := timeline.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Store = st
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// tick returns the time, which moves with every look at it.
func (s *usageStore) tick() time.Time {
	s.clock.Lock()
	defer s.clock.Unlock()
	s.now = s.now.Add(time.Millisecond)
	return s.now
}

func (s *usageStore) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *usageStore) random(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(s.rng.Uint32())
	}
	return p
}

// put writes an object; bodies of 32 KiB and more are streamed.
func (s *usageStore) put(bucket, key string, n int) {
	s.t.Helper()
	var b timeline.Batch
	meta := s.random(60)
	if n < 32<<10 {
		b.Put(layers.NamespaceObjects, []byte(key), meta, layers.AppendInlineBody(nil, s.random(n)))
		_, err := s.Commit(s.t.Context(), bucket, &b)
		s.ok(err)
		return
	}
	w, err := s.Values().NewWriter(s.t.Context())
	s.ok(err)
	defer w.Close()
	_, err = w.Write(s.random(n))
	s.ok(err)
	ext, err := w.Finish()
	s.ok(err)
	b.Put(layers.NamespaceObjects, []byte(key), meta, layers.AppendExtentsBody(nil, ext))
	_, err = s.Commit(s.t.Context(), bucket, &b)
	s.ok(err)
}

func (s *usageStore) copyTo(from, to, key string) {
	s.t.Helper()
	v, err := s.View(s.t.Context(), from, 0)
	s.ok(err)
	defer v.Close()
	r, err := v.Get(layers.NamespaceObjects, []byte(key))
	s.ok(err)
	var b timeline.Batch
	b.Put(layers.NamespaceObjects, []byte(key), r.Meta, r.Body)
	_, err = s.Commit(s.t.Context(), to, &b)
	s.ok(err)
}

func (s *usageStore) create(name string) {
	s.t.Helper()
	_, err := s.CreateBucket(s.t.Context(), timeline.NewBucket{Name: name})
	s.ok(err)
}

func (s *usageStore) fork(from string, names ...string) {
	s.t.Helper()
	_, err := s.Fork(s.t.Context(), timeline.ForkOptions{Source: from, Forks: timeline.Named(names...)})
	s.ok(err)
}

func (s *usageStore) collect() timeline.CollectReport {
	s.t.Helper()
	r, err := s.CollectFull(s.t.Context())
	s.ok(err)
	return r
}

func (s *usageStore) usage() timeline.Usage {
	s.t.Helper()
	u, err := s.Usage(s.t.Context())
	s.ok(err)
	return u
}

// files adds up the files of layers and values, holes in them aside.
func (s *usageStore) files() (bytes int64) {
	s.t.Helper()
	names, err := s.fs.List(s.fs.PathJoin(s.dir, "layers"))
	s.ok(err)
	for _, name := range names {
		info, err := s.fs.Stat(s.fs.PathJoin(s.dir, "layers", name))
		s.ok(err)
		bytes += info.Size()
	}
	var told, allocated int64
	for _, seg := range s.Values().Segments() {
		told += seg.Allocated
		info, err := s.fs.Stat(s.fs.PathJoin(s.dir, "values", layers.ValueFileName(seg.Num, seg.Generation)))
		s.ok(err)
		n, ok := storefs.AllocatedBytes(info)
		if !ok {
			n = seg.Allocated // a file system in memory
		}
		allocated += n
	}
	if !within(told, allocated) {
		s.t.Errorf("value segments take %d bytes, and are said to take %d", allocated, told)
	}
	return bytes + allocated
}

func byName(u timeline.Usage, name string) timeline.TimelineUsage {
	i := slices.IndexFunc(u.Timelines, func(t timeline.TimelineUsage) bool { return t.Name == name && t.State == timeline.TimelineLive })
	if i < 0 {
		return timeline.TimelineUsage{}
	}
	return u.Timelines[i]
}

// within reports whether got is want, give or take 5 %.
func within(got, want int64) bool { return max(got-want, want-got)*20 <= max(want, 1) }

// fill makes a dataset with forks that changed a part of it each.
func (s *usageStore) fill() {
	s.create("base")
	size := func(i int) int {
		switch i % 10 {
		case 0:
			return 40<<10 + s.rng.IntN(80<<10)
		case 1, 2, 3:
			return s.rng.IntN(900)
		}
		return 1<<10 + s.rng.IntN(8<<10)
	}
	for i := range 400 {
		s.put("base", fmt.Sprintf("dir/%02d/object-%05d", i%20, i), size(i))
	}
	s.fork("base", "one", "two", "idle")
	for i := range 100 {
		s.put("one", fmt.Sprintf("dir/%02d/object-%05d", i%20, i), size(i))
		s.put("two", fmt.Sprintf("new/%02d/object-%05d", i%20, i), size(i))
	}
	for i := range 30 {
		s.copyTo("two", "one", fmt.Sprintf("new/%02d/object-%05d", i%20, i))
	}
	var b timeline.Batch
	for i := range 50 {
		b.Delete(layers.NamespaceObjects, fmt.Appendf(nil, "dir/%02d/object-%05d", i%20, i+200))
	}
	_, err := s.Commit(s.t.Context(), "base", &b)
	s.ok(err)
}

// After a full collection every byte on disk is somebody's.
func TestUsageAddsUpToTheFiles(t *testing.T) {
	disk, err := storefs.New(storefs.Options{Dir: t.TempDir(), BallastBytes: -1, Logger: strictLogger(t, "O_DIRECT")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	s := openUsageOn(t, disk, t.TempDir(), -1)
	s.fill()
	s.collect()
	s.checkFiles()
	for i := range 40 { // holes in segments of streamed values, and rewritten packed ones
		s.put("base", fmt.Sprintf("dir/%02d/object-%05d", i%20, i), 100)
	}
	_, err = s.DeleteBucket(t.Context(), "idle", timeline.DeleteOptions{Force: true})
	s.ok(err)
	s.collect()
	s.checkFiles()
}

func (s *usageStore) checkFiles() {
	s.t.Helper()
	u := s.usage()
	var sum int64
	for _, tl := range u.Timelines {
		sum += tl.Exclusive + tl.Shared
	}
	if n := int64(len(u.Timelines)); max(sum-u.Live, u.Live-sum) > 2*n+2 {
		s.t.Errorf("timelines add up to %d, live is %d", sum, u.Live)
	}
	if files := s.files(); !within(sum, files) {
		s.t.Errorf("timelines add up to %d bytes, the files to %d: %+v", sum, files, u)
	}
	if u.Garbage*20 > u.Live {
		s.t.Errorf("%d bytes of garbage after a full collection, %d live", u.Garbage, u.Live)
	}
	base, one, two := byName(u, "base"), byName(u, "one"), byName(u, "two")
	if base.Shared == 0 || one.Shared == 0 || one.Exclusive == 0 || two.Exclusive == 0 {
		s.t.Errorf("the forks share objects of base, one the bodies copied from two: %+v, %+v, %+v", base, one, two)
	}
}

// Deleting a fork frees what it had alone.
func TestDeletingAForkFreesItsExclusiveBytes(t *testing.T) {
	for _, name := range []string{"one", "two", "idle"} {
		t.Run(name, func(t *testing.T) {
			s := openUsage(t, -1)
			s.fill()
			if name == "idle" { // only then the deleted objects are its own
				for _, other := range []string{"one", "two"} {
					_, err := s.DeleteBucket(t.Context(), other, timeline.DeleteOptions{Force: true})
					s.ok(err)
				}
			}
			s.collect()
			before, want := s.files(), byName(s.usage(), name).Exclusive
			_, err := s.DeleteBucket(t.Context(), name, timeline.DeleteOptions{Force: true})
			s.ok(err)
			r := s.collect()
			if freed := before - s.files(); want == 0 || !within(freed, want) {
				t.Errorf("freed %d bytes, %d were exclusive", freed, want)
			} else if !within(r.LayerBytesFreed+r.ValueBytesFreed, freed) {
				t.Errorf("freed %d bytes, reported %+v", freed, r)
			}
			if r.TimelinesPurged != 1 || len(r.Timelines) != 1 || r.Timelines[0].Name != name || !within(r.Timelines[0].Exclusive, want) {
				t.Errorf("reported %+v; %d bytes were exclusive", r, want)
			}
		})
	}
}

// A window makes history; closing it makes garbage of it.
func TestUsageOfHistory(t *testing.T) {
	s := openUsage(t, gc.Forever)
	s.create("b")
	for round := range 3 {
		for i := range 50 {
			s.put("b", fmt.Sprint("key", i), 2000+round)
		}
	}
	s.collect()
	u := s.usage()
	b := byName(u, "b")
	if b.Logical != 50*2002 || !within(b.History, 2*u.Live/3) || u.Garbage > u.Live/20 {
		t.Errorf("%+v of %+v", b, u)
	}
	_, err := s.SetWindow(t.Context(), "b", 0)
	s.ok(err)
	s.create("later") // moves the horizon
	s.now = s.now.Add(time.Minute)
	before := s.files()
	s.collect()
	u = s.usage()
	if b = byName(u, "b"); b.History > u.Live/20 || !within(before-s.files(), 2*before/3) {
		t.Errorf("%+v, freed %d of %d", b, before-s.files(), before)
	}
}

// Logical bytes are what a listing adds up to, whatever was forked, deleted and
// rewritten, and none of the figures depends on how many passes they took.
func TestUsageAgainstListings(t *testing.T) {
	runs := uint64(6)
	if soaking {
		runs = 60
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			window := gc.Window(-1)
			if seed%2 == 1 {
				window = gc.Window(time.Second)
			}
			s := openUsage(t, window)
			s.rng = rand.New(rand.NewPCG(seed, 3))
			s.create("b0")
			buckets := []string{"b0"}
			for i := range 400 {
				name := buckets[s.rng.IntN(len(buckets))]
				key := fmt.Sprintf("k%02d", s.rng.IntN(40))
				switch p := s.rng.IntN(100); {
				case p < 60:
					s.put(name, key, s.rng.IntN(3000))
				case p < 75:
					var b timeline.Batch
					b.Delete(layers.NamespaceObjects, []byte(key))
					_, err := s.Commit(t.Context(), name, &b)
					s.ok(err)
				case p < 80:
					var b timeline.Batch
					b.DeleteRange(layers.NamespaceObjects, []byte(key), []byte(key+"~"))
					_, err := s.Commit(t.Context(), name, &b)
					s.ok(err)
				case p < 83:
					var b timeline.Batch
					b.DeleteRange(layers.NamespaceObjects, []byte("k1"), []byte("k2"))
					_, err := s.Commit(t.Context(), name, &b)
					s.ok(err)
				case p < 88:
					s.ok(s.Flush(t.Context()))
				case p < 90:
					s.collect()
				case p < 92 && len(buckets) > 2:
					j := 1 + s.rng.IntN(len(buckets)-1)
					_, err := s.DeleteBucket(t.Context(), buckets[j], timeline.DeleteOptions{Force: true})
					s.ok(err)
					buckets = slices.Delete(buckets, j, j+1)
				case p < 97:
					to := fmt.Sprint("b", i+1)
					s.fork(name, to)
					buckets = append(buckets, to)
				default:
					s.ok(s.Detach(t.Context(), name))
				}
				if i%40 == 39 {
					s.checkLogical(buckets)
				}
			}
			s.collect()
			s.checkLogical(buckets)
		})
	}
}

func (s *usageStore) checkLogical(buckets []string) {
	s.t.Helper()
	u := s.usage()
	few := s.usageInPasses(3)
	if fmt.Sprint(few) != fmt.Sprint(u) {
		s.t.Errorf("in passes of 3 values: %+v\nin one: %+v", few, u)
	}
	for _, name := range buckets {
		if got, want := byName(u, name).Logical, s.listed(name); got != want {
			s.t.Errorf("%s: %d logical bytes, listed are %d", name, got, want)
		}
	}
	var sum int64
	for _, t := range u.Timelines {
		if t.Exclusive < 0 || t.Shared < 0 || t.History < 0 {
			s.t.Errorf("%+v", t)
		}
		sum += t.Exclusive + t.Shared
	}
	if max(sum-u.Live, u.Live-sum) > int64(2*len(u.Timelines)+2) {
		s.t.Errorf("timelines add up to %d, live is %d", sum, u.Live)
	}
}

func (s *usageStore) usageInPasses(n int) timeline.Usage {
	s.t.Helper()
	u, err := s.UsageInPasses(s.t.Context(), n)
	s.ok(err)
	return u
}

func (s *usageStore) listed(name string) (bytes int64) {
	s.t.Helper()
	v, err := s.View(context.Background(), name, 0)
	s.ok(err)
	defer v.Close()
	scan := v.Scan(layers.NamespaceObjects, nil, nil)
	defer scan.Close()
	for ok := scan.First(); ok; ok = scan.Next() {
		n, err := scan.Record().Body.Len()
		s.ok(err)
		bytes += int64(n)
	}
	s.ok(scan.Err())
	return bytes
}

// A plan says what the collection then does.
func TestPlanIsWhatCollectFullDoes(t *testing.T) {
	s := openUsage(t, -1)
	s.fill()
	s.collect()
	s.ok(s.Flush(t.Context()))
	plan, err := s.CollectPlan(t.Context())
	s.ok(err)
	if plan.Total.LayerDead != 0 || plan.Total.DeadRecords != 0 {
		t.Errorf("dead after a full collection: %+v", plan.Total)
	}
	for i := range 60 {
		s.put("base", fmt.Sprintf("dir/%02d/object-%05d", i%20, i), 3000) // the old ones: idle and two have them
	}
	for _, name := range []string{"one", "two"} {
		_, err := s.DeleteBucket(t.Context(), name, timeline.DeleteOptions{Force: true})
		s.ok(err)
	}
	s.ok(s.Flush(t.Context()))
	before := s.files()
	if plan, err = s.CollectPlan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.files(); got != before {
		t.Errorf("a plan changed the files from %d to %d bytes", before, got)
	}
	total := plan.Total
	if total.Kept[gc.Child] == 0 || total.Kept[gc.Tip] == 0 || total.TimelinesDead != 2 || total.DeadRecords == 0 {
		t.Errorf("%+v", total)
	}
	for _, l := range plan.Layers {
		sum := l.Dead
		for _, n := range l.Kept {
			sum += n
		}
		if max(sum-l.Bytes, l.Bytes-sum) > int64(gc.NumReasons) {
			t.Errorf("layer %d of %d bytes: %d kept and dead", l.Num, l.Bytes, sum)
		}
	}
	s.collect()
	if freed := before - s.files(); !within(freed, total.LayerDead+total.ValueDead) {
		t.Errorf("freed %d, planned %d of layers and %d of values", freed, total.LayerDead, total.ValueDead)
	}
}

func TestUsageEndsWithItsContext(t *testing.T) {
	s := openUsage(t, -1)
	s.create("b")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Usage(ctx); err == nil {
		t.Error("a cancelled Usage succeeds")
	}
	if _, err := s.CollectPlan(ctx); err == nil {
		t.Error("a cancelled CollectPlan succeeds")
	}
}

// A streamed value takes whole blocks, and so it is counted.
func TestUsageCountsTheBlocksOfStreamedValues(t *testing.T) {
	s := openUsage(t, -1)
	s.create("b")
	for i := range 100 {
		s.put("b", fmt.Sprint("object-", i), 32<<10+1)
	}
	s.collect()
	u := s.usage()
	if files := s.files(); !within(u.Live, files) {
		t.Errorf("timelines add up to %d bytes, the files to %d", u.Live, files)
	}
	if b := byName(u, "b"); b.Logical != 100*(32<<10+1) {
		t.Errorf("%d logical bytes", b.Logical)
	}
}

// A rewritten segment of small values has a table that weighs something, too.
func TestUsageCountsTheTableOfRewrittenValues(t *testing.T) {
	s := openUsage(t, -1)
	s.create("b")
	put := func(i, n int) {
		var b timeline.Batch
		body := append(s.random(100), make([]byte, n)...)
		b.Put(layers.NamespaceObjects, fmt.Appendf(nil, "key-%05d", i), nil, layers.AppendInlineBody(nil, body))
		_, err := s.Commit(t.Context(), "b", &b)
		s.ok(err)
	}
	for i := range 6000 {
		put(i, 1500)
	}
	s.collect()
	for i := range 1000 {
		put(6*i, 10)
	}
	s.collect()
	if segs := s.Values().Segments(); !slices.ContainsFunc(segs, func(seg layers.SegmentInfo) bool { return seg.Generation > 0 }) {
		t.Fatalf("nothing was rewritten: %+v", segs)
	}
	u := s.usage()
	if !within(u.Live, u.LayerBytes+u.ValueBytes) {
		t.Errorf("timelines add up to %d bytes, the files to %d", u.Live, u.LayerBytes+u.ValueBytes)
	}
}
