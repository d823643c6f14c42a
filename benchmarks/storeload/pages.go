package storeload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/internal/server"
	"stemma/benchmarks/limits"
	"stemma/benchmarks/load"
	"stemma/benchmarks/report"
	"stemma/client"
	"stemma/timeline"
)

// Pages reads and writes pages of 8 KiB of large objects through the native API: one by one, in batches, and over a
// stream with many under way.
type Pages struct {
	// Depths of forks of forks; each fork writes some pages.
	Depths []int
	// MiB is the size of each of two objects: one of full pages, one whose pages have a delta each.
	MiB int
	// Batches are numbers of pages in a request, and of requests under way on a stream.
	Batches  []int
	Duration time.Duration // of a round
}

// Disk: 2 GiB.
var (
	FullPages  = Pages{Depths: []int{0, 100}, MiB: 64, Batches: []int{1, 16, 64}, Duration: time.Second}
	QuickPages = Pages{Depths: []int{0, 3}, MiB: 1, Batches: []int{1, 4}, Duration: 100 * time.Millisecond}
)

const (
	pageBytes = 8 << 10
	// deltaOffset and deltaBytes are what a small write changes of a page.
	deltaOffset, deltaBytes = 1 << 10, 128
	fullObject, deltaObject = "full", "deltas"
)

// Neon publishes 12,000 reads/s of 8 KiB at a mean of 0.08 ms for one tenant whose pages are in memory.
const (
	neonName  = "Neon, published, one hot tenant"
	neonReads = 12_000
)

func pageFork(depth int) string {
	if depth == 0 {
		return root
	}
	return fmt.Sprintf("fork-%06d", depth)
}

// Run fills the objects, and reads them hot, then cold, and writes them.
func (p *Pages) Run(ctx context.Context, c *Config) (rows []report.Row, err error) {
	err = c.inDir(func(data string) error {
		b := &pageBench{Pages: p, c: c, data: data, at: make(map[int]client.LSN), disk: make(map[string]float64)}
		err := b.run(ctx)
		rows = b.rows
		return err
	})
	return rows, err
}

// pageBench is one run.
type pageBench struct {
	*Pages
	c    *Config
	data string
	at   map[int]client.LSN // what is read, by depth
	disk map[string]float64 // limits by name, operations a second
	rows []report.Row

	s  *server.Server // that is measured
	cl *client.Client
}

func (b *pageBench) run(ctx context.Context) error {
	b.c.Progress.Say("two objects of %d MiB, forks to depth %d", b.MiB, b.Depths[len(b.Depths)-1])
	if err := b.with(b.fill, ctx); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	err := b.c.with(b.data, timeline.Options{}, func(e *engine.Engine) error {
		return errors.Join(e.Flush(ctx), b.c.idle(ctx, e))
	})
	if err != nil {
		return err
	}
	if err := b.limits(ctx); err != nil {
		return err
	}
	if err := b.with(func(ctx context.Context) error { return b.reads(ctx, false) }, ctx, "--cache-bytes", "512MiB"); err != nil {
		return err
	}
	if err := b.with(func(ctx context.Context) error { return b.reads(ctx, true) }, ctx, "--cache-bytes", "1MiB"); err != nil {
		return err
	}
	return b.with(b.writes, ctx)
}

// with calls do with a server.
func (b *pageBench) with(do func(context.Context) error, ctx context.Context, args ...string) error {
	return b.c.served(b.data, func(s *server.Server) (err error) {
		b.s = s
		b.cl, err = native(s)
		if err != nil {
			return err
		}
		return do(ctx)
	}, args...)
}

// native returns a client of the native API with connections for many workers.
func native(s *server.Server) (*client.Client, error) {
	return client.New(client.Options{Endpoint: s.Admin, AccessKey: server.AccessKey, SecretKey: server.SecretKey,
		HTTP: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true}}})
}

func (b *pageBench) pages() int { return b.MiB << 20 / pageBytes }

// page is what a page holds: its number, and bytes that do not compress.
func pageOf(i int) []byte {
	p := make([]byte, pageBytes)
	engine.Fill(p, uint64(i))
	binary.LittleEndian.PutUint64(p, uint64(i))
	return p
}

func writeOf(i int, small bool) client.PageOp {
	if small {
		return client.PageOp{Kind: client.PageWrite, Off: uint64(i)*pageBytes + deltaOffset, Data: pageOf(i)[:deltaBytes]}
	}
	return client.PageOp{Kind: client.PageWrite, Off: uint64(i) * pageBytes, Data: pageOf(i)}
}

// fill writes the objects, and makes the forks, each of which writes a page of both.
func (b *pageBench) fill(ctx context.Context) error {
	if _, err := b.cl.CreateBucket(ctx, client.NewBucket{Name: root}); err != nil {
		return err
	}
	all := func(key string, small bool) error {
		for i := 0; i < b.pages(); {
			var ops []client.PageOp
			for ; i < b.pages() && len(ops) < 256; i++ {
				ops = append(ops, writeOf(i, small))
			}
			if _, err := b.cl.WritePages(ctx, root, key, ops, client.PagesOptions{Create: true, PageBytes: pageBytes}); err != nil {
				return err
			}
		}
		return nil
	}
	if err := errors.Join(all(fullObject, false), all(deltaObject, false)); err != nil {
		return err
	}
	if err := all(deltaObject, true); err != nil {
		return err
	}
	for depth := 0; depth <= b.Depths[len(b.Depths)-1]; depth++ {
		if depth > 0 {
			if _, err := b.cl.Fork(ctx, pageFork(depth-1), client.ForkRequest{Name: pageFork(depth)}); err != nil {
				return err
			}
		}
		for _, key := range []string{fullObject, deltaObject} {
			w, err := b.cl.WritePages(ctx, pageFork(depth), key, []client.PageOp{writeOf(depth%b.pages(), key == deltaObject)}, client.PagesOptions{})
			if err != nil {
				return err
			}
			b.at[depth] = w.LSN
		}
	}
	return nil
}

// limits measures the disk: random reads of a page, and synced writes of one.
func (b *pageBench) limits(ctx context.Context) (err error) {
	d, err := limits.NewDisk(ctx, b.c.Dir, int64(b.MiB)<<20)
	if errors.Is(err, limits.ErrNoDirect) {
		b.c.Progress.Say("%v: the disk is not measured", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	measure := func(w load.Workload, workers int) error {
		res, err := load.Run(ctx, w, b.options(workers, nil))
		row := report.FromResult("pages", &res)
		b.disk[w.Name] = row.Value.Median
		b.rows = append(b.rows, row)
		return err
	}
	for _, n := range b.Batches {
		if err := measure(d.RandomReadOf(n, pageBytes), n); err != nil {
			return err
		}
	}
	return measure(d.WriteSync(pageBytes), 1)
}

func (b *pageBench) options(workers int, cpu func() (time.Duration, error)) load.Options {
	return load.Options{Workers: workers, Warmup: b.Duration / 5, Duration: b.Duration, Rounds: b.c.Rounds, Seed: b.c.Seed, CPU: cpu}
}

// measure runs a workload and compares it with a limit: of the disk, unless value says more.
func (b *pageBench) measure(ctx context.Context, w load.Workload, workers int, limit string, value float64) error {
	b.c.Progress.Say("%s", w.Name)
	res, err := load.Run(ctx, w, b.options(workers, load.CPUOf(b.s.Pid())))
	if err != nil {
		return err
	}
	row := report.FromResult("pages", &res)
	if value == 0 {
		value = b.disk[limit]
	}
	if value > 0 {
		row.SetLimit(limit, value)
	}
	b.rows = append(b.rows, row)
	return nil
}

// reads measures reads at an LSN. Hot, all has been read before; cold, nothing that the last round read is in memory.
func (b *pageBench) reads(ctx context.Context, cold bool) error {
	when := "hot"
	if cold {
		when = "cold"
	}
	for _, depth := range b.Depths {
		for _, key := range []string{fullObject, deltaObject} {
			r := &pageReads{b: b, bucket: pageFork(depth), key: key, at: b.at[depth]}
			if !cold {
				if err := r.all(ctx); err != nil {
					return err
				}
			}
			for _, way := range r.ways() {
				if cold {
					way.w.Before = firstOf(dropped(b.data), way.w.Before)
				}
				way.w.Name = fmt.Sprintf("read, %s, depth %d, %s: %s", when, depth, key, way.w.Name)
				limit, value := neonName, float64(neonReads)
				if cold {
					limit, value = limits.RandomReadName(way.depth, pageBytes), 0
				}
				if err := b.measure(ctx, way.w, way.workers, limit, value); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// firstOf calls one hook after the other; the second may be nil.
func firstOf(first, second func(context.Context, int) error) func(context.Context, int) error {
	return func(ctx context.Context, round int) error {
		if err := first(ctx, round); err != nil || second == nil {
			return err
		}
		return second(ctx, round)
	}
}

// dropped has the kernel forget what it caches of the files of a store.
func dropped(data string) func(context.Context, int) error {
	return func(context.Context, int) error {
		return filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && !d.Type().IsRegular() {
				return nil
			}
			if err != nil {
				return err
			}
			f, err := os.Open(path)
			if errors.Is(err, fs.ErrNotExist) { // it went
				return nil
			}
			if err != nil {
				return err
			}
			return errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
		})
	}
}

// pageWay is a way to do something to pages: by how many workers, and how many pages are asked for at once.
type pageWay struct {
	w              load.Workload
	workers, depth int
}

// pageReads are reads of one object at an LSN.
type pageReads struct {
	b           *pageBench
	bucket, key string
	at          client.LSN
}

// all reads the whole object.
func (r *pageReads) all(ctx context.Context) error {
	for from := 0; from < r.b.pages(); from += 64 {
		var pages []int
		for i := from; i < min(from+64, r.b.pages()); i++ {
			pages = append(pages, i)
		}
		if err := r.batch(ctx, r.b.cl.ReadPages, pages); err != nil {
			return err
		}
	}
	return nil
}

// batch reads pages and looks whether they are the right ones.
func (r *pageReads) batch(ctx context.Context, read func(context.Context, string, []client.PageRead) ([]client.PageReadResult, error), pages []int) error {
	reads := make([]client.PageRead, len(pages))
	for i, page := range pages {
		reads[i] = client.PageRead{Key: r.key, At: r.at, Off: uint64(page) * pageBytes, Len: pageBytes}
	}
	results, err := read(ctx, r.bucket, reads)
	if err != nil {
		return err
	}
	for i := range results {
		if err := errors.Join(results[i].Err, checkPage(results[i].Data, pages[i])); err != nil {
			return err
		}
	}
	return nil
}

func checkPage(p []byte, page int) error {
	if len(p) != pageBytes || binary.LittleEndian.Uint64(p) != uint64(page) {
		return fmt.Errorf("page %d: %d bytes of another page", page, len(p))
	}
	return nil
}

func (r *pageReads) random(rng *rand.Rand, n int) []int {
	pages := make([]int, n)
	for i := range pages {
		pages[i] = rng.IntN(r.b.pages())
	}
	return pages
}

func (r *pageReads) ways() []pageWay {
	all := []pageWay{{workers: 1, depth: 1, w: load.Workload{Name: "get", Unit: "page", Op: func(ctx context.Context, _ int, rng *rand.Rand) (load.Done, error) {
		page := rng.IntN(r.b.pages())
		p, err := r.b.cl.ReadRange(ctx, r.bucket, r.key, r.at, uint64(page)*pageBytes, pageBytes)
		return load.Done{Bytes: int64(len(p))}, errors.Join(err, checkPage(p, page))
	}}}}
	for _, n := range r.b.Batches {
		all = append(all, pageWay{workers: 1, depth: n, w: load.Workload{Name: fmt.Sprintf("batches of %d", n), Unit: "page",
			Op: func(ctx context.Context, _ int, rng *rand.Rand) (load.Done, error) {
				return load.Done{Units: int64(n), Bytes: int64(n) * pageBytes}, r.batch(ctx, r.b.cl.ReadPages, r.random(rng, n))
			}}})
	}
	for _, n := range r.b.Batches {
		w := load.Workload{Name: fmt.Sprintf("stream, %d under way", n), Unit: "page"}
		stream := r.b.stream(&w)
		w.Op = func(ctx context.Context, _ int, rng *rand.Rand) (load.Done, error) {
			return load.Done{Bytes: pageBytes}, r.batch(ctx, stream().ReadPages, r.random(rng, 1))
		}
		all = append(all, pageWay{workers: n, depth: n, w: w})
	}
	return all
}

// stream gives a workload a stream of its own in each round.
func (b *pageBench) stream(w *load.Workload) func() *client.PageStream {
	var s *client.PageStream
	w.Before = func(ctx context.Context, _ int) (err error) {
		s, err = b.cl.OpenPages(ctx)
		return err
	}
	w.After = func(context.Context, int) error { return s.Close() }
	return func() *client.PageStream { return s }
}

// writes measures writes at the tip, each commit synced.
func (b *pageBench) writes(ctx context.Context) error {
	for _, depth := range b.Depths {
		for _, small := range []bool{false, true} {
			for _, way := range b.writeWays(pageFork(depth), small) {
				what := "8 KiB"
				if small {
					what = fmt.Sprintf("%d bytes", deltaBytes)
				}
				way.w.Name = fmt.Sprintf("write, depth %d, %s: %s", depth, what, way.w.Name)
				if err := b.measure(ctx, way.w, way.workers, limits.WriteSyncName(pageBytes), 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *pageBench) writeWays(bucket string, small bool) (all []pageWay) {
	key := fullObject
	if small {
		key = deltaObject
	}
	batch := func(rng *rand.Rand, n int) (ops []client.PageOp, bytes int64) {
		for range n {
			op := writeOf(rng.IntN(b.pages()), small)
			ops, bytes = append(ops, op), bytes+int64(len(op.Data))
		}
		return ops, bytes
	}
	for _, n := range b.Batches {
		name := fmt.Sprintf("commits of %d", n)
		if n == 1 {
			name = "patch"
		}
		all = append(all, pageWay{workers: 1, depth: n, w: load.Workload{Name: name, Unit: "page", Op: func(ctx context.Context, _ int, rng *rand.Rand) (load.Done, error) {
			ops, bytes := batch(rng, n)
			_, err := b.cl.WritePages(ctx, bucket, key, ops, client.PagesOptions{})
			return load.Done{Units: int64(n), Bytes: bytes}, err
		}}})
	}
	for _, n := range b.Batches {
		for _, own := range []bool{false, true} {
			if own && n == 1 {
				continue
			}
			w := load.Workload{Name: fmt.Sprintf("stream, %d under way", n), Unit: "page"}
			if own {
				w.Name += ", an object each"
			}
			stream := b.stream(&w)
			w.Op = func(ctx context.Context, worker int, rng *rand.Rand) (load.Done, error) {
				key := key
				if own {
					key = fmt.Sprintf("%s-%d", key, worker)
				}
				ops, bytes := batch(rng, 1)
				_, err := stream().WritePages(ctx, bucket, key, ops, client.PagesOptions{Create: own, PageBytes: pageBytes})
				return load.Done{Bytes: bytes}, err
			}
			all = append(all, pageWay{workers: n, depth: n, w: w})
		}
	}
	return all
}
