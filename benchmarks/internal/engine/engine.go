// Package engine opens a store on a real directory for a benchmark, writes and
// reads objects without S3's rules, and says what the store takes on the disk.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/zeebo/xxh3"

	"stemma/gc"
	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// Engine is an open store.
type Engine struct {
	*timeline.Store
	Dir string
	fs  *storefs.FS
}

// Open opens the store in dir; FS, Dir and Logger of o are set here. Warnings
// and errors of the store go to standard error.
func Open(dir string, o timeline.Options) (*Engine, error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	fs, err := storefs.New(storefs.Options{Dir: dir, BallastBytes: -1, Logger: log})
	if err != nil {
		return nil, err
	}
	o.FS, o.Dir, o.Logger = fs, dir, log
	s, err := timeline.Open(o)
	if err != nil {
		return nil, errors.Join(err, fs.Close())
	}
	return &Engine{Store: s, Dir: dir, fs: fs}, nil
}

// Close closes the store.
func (e *Engine) Close() error { return errors.Join(e.Store.Close(), e.fs.Close()) }

// Window returns the option that means w: no history for zero.
func Window(w time.Duration) gc.Window {
	if w == 0 {
		return -1
	}
	return gc.Window(w)
}

// Small makes memlayers, layers and segments of o so small that a little data
// makes the store do all that it does with much.
func Small(o timeline.Options) timeline.Options {
	o.MemlayerBytes, o.LayerBytes, o.Level1Bytes = 1<<20, 256<<10, 1<<20
	o.WALSegmentBytes, o.WALFlushBytes, o.WALStopBytes = 2<<20, 4<<20, 8<<20
	o.Values.SegmentBytes, o.Values.PackedSegmentBytes = 16<<20, 1<<20
	o.CollectEvery, o.HorizonEvery = 200*time.Millisecond, time.Second
	return o
}

// InlineBelow is the size from which bodies are streamed, as the server has it.
const InlineBelow = 32 << 10

// Batch gathers puts and deletes of one bucket for one commit. Not safe for
// concurrent use.
type Batch struct {
	e       *Engine
	bucket  string
	batch   timeline.Batch
	writers []*layers.ValueWriter
	bytes   int // of inline bodies
}

// NewBatch returns an empty batch.
func (e *Engine) NewBatch(bucket string) *Batch { return &Batch{e: e, bucket: bucket} }

// meta stands for the entry of an object.
var meta = make([]byte, 80)

// Put puts an object; a full batch is committed. The body may be reused.
func (b *Batch) Put(ctx context.Context, key, body []byte) error {
	if len(body) < InlineBelow {
		b.batch.Put(layers.NamespaceObjects, key, meta, layers.AppendInlineBody(nil, body))
		b.bytes += len(body)
		return b.commitIfFull(ctx)
	}
	w, err := b.e.Values().NewWriter(ctx)
	if err != nil {
		return err
	}
	b.writers = append(b.writers, w)
	if _, err := w.Write(body); err != nil {
		return err
	}
	ext, err := w.Finish()
	if err != nil {
		return err
	}
	b.batch.Put(layers.NamespaceObjects, key, meta, layers.AppendExtentsBody(nil, ext))
	return b.commitIfFull(ctx)
}

// Delete deletes an object; a full batch is committed.
func (b *Batch) Delete(ctx context.Context, key []byte) error {
	b.batch.Delete(layers.NamespaceObjects, key)
	return b.commitIfFull(ctx)
}

func (b *Batch) commitIfFull(ctx context.Context) error {
	const maxRecords, maxBytes = 200, 512 << 10
	if b.batch.Len() < maxRecords && b.bytes < maxBytes {
		return nil
	}
	return b.Commit(ctx)
}

// Commit commits what was gathered, again when it is told to slow down, and
// empties the batch.
func (b *Batch) Commit(ctx context.Context) error {
	var err error
	if b.batch.Len() > 0 {
		err = b.e.Patiently(func() error {
			_, err := b.e.Commit(ctx, b.bucket, &b.batch)
			return err
		})
	}
	for _, w := range b.writers {
		err = errors.Join(err, w.Close())
	}
	b.batch.Reset()
	b.writers, b.bytes = nil, 0
	return err
}

// Patiently repeats do for as long as the store says that it lags behind.
func (e *Engine) Patiently(do func() error) error {
	for {
		if err := do(); !errors.Is(err, timeline.ErrSlowDown) {
			return err
		}
	}
}

// Fork makes one fork of a bucket's tip.
func (e *Engine) Fork(ctx context.Context, source, name string) error {
	return e.Patiently(func() error {
		_, err := e.Store.Fork(ctx, timeline.ForkOptions{Source: source, Forks: timeline.Named(name)})
		return err
	})
}

// Get reads an object of a bucket as of an LSN; zero is the tip. Errors:
// timeline.ErrNotFound, and others.
func (e *Engine) Get(ctx context.Context, bucket string, at wal.LSN, key []byte) ([]byte, error) {
	v, err := e.View(ctx, bucket, at)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	r, err := v.Get(layers.NamespaceObjects, key)
	if err != nil {
		return nil, err
	}
	return e.body(r.Body)
}

// body reads a body. The caller has a view of the record.
func (e *Engine) body(b layers.Body) ([]byte, error) {
	switch b.Tag() {
	case layers.BodyEmpty:
		return nil, nil
	case layers.BodyInline:
		return b.Inline(), nil
	}
	ext, err := e.Values().LoadExtents(b, nil)
	if err != nil {
		return nil, err
	}
	n, err := b.Len()
	if err != nil {
		return nil, err
	}
	r, err := e.Values().NewReader(ext, 0, n)
	if err != nil {
		return nil, err
	}
	p := make([]byte, n)
	_, err = io.ReadFull(r, p)
	return p, errors.Join(err, r.Close())
}

// Hash is what one object adds to the checksum of a bucket.
func Hash(key, body []byte) uint64 { return xxh3.HashSeed(body, xxh3.Hash(key)) }

// Content is what a bucket holds. Sum is the sum of the hashes of all objects,
// whatever their order, so that it can be known without reading.
type Content struct {
	Objects, Bytes int64
	Sum            uint64
}

// Add enters an object.
func (c *Content) Add(body int, hash uint64) {
	c.Objects++
	c.Bytes += int64(body)
	c.Sum += hash
}

// Remove takes an object away.
func (c *Content) Remove(body int, hash uint64) {
	c.Objects--
	c.Bytes -= int64(body)
	c.Sum -= hash
}

// Content reads every byte of a bucket.
func (e *Engine) Content(ctx context.Context, bucket string) (Content, error) {
	v, err := e.View(ctx, bucket, 0)
	if err != nil {
		return Content{}, err
	}
	defer v.Close()
	scan := v.Scan(layers.NamespaceObjects, nil, nil)
	defer scan.Close()
	var c Content
	for ok := scan.First(); ok; ok = scan.Next() {
		r := scan.Record()
		body, err := e.body(r.Body)
		if err != nil {
			return c, fmt.Errorf("%s of %s: %w", r.Key, bucket, err)
		}
		c.Add(len(body), Hash(r.Key.User(), body))
	}
	return c, scan.Err()
}

// Verify reads every byte of a bucket and compares.
func (e *Engine) Verify(ctx context.Context, bucket string, want Content) error {
	got, err := e.Content(ctx, bucket)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s holds %+v, want %+v", bucket, got, want)
	}
	return nil
}

// WaitIdle waits until the store's background work has been at rest for quiet:
// longer than it takes a store to call itself idle and to look once more, which
// is 3 s and the options' HorizonEvery and CollectEvery.
func (e *Engine) WaitIdle(ctx context.Context, quiet time.Duration) error {
	type state struct {
		visible                                       any
		disk                                          Disk
		flushes, compactions, collections, rewritten  int64
		reclaimed, rollups, purged, levels, memlayers int64
	}
	var last state
	since := time.Now()
	for {
		m := e.Metrics()
		disk, err := DiskOf(e.Dir)
		if err != nil {
			return err
		}
		disk.Catalog = 0 // Pebble works by itself
		now := state{
			m.VisibleLSN, disk, m.Flushes, m.Compactions, m.Collections, m.RewrittenBytes, m.ReclaimedBytes, m.Rollups, m.Purged,
			int64(m.Levels[0].Layers), int64(m.FrozenMemlayers),
		}
		if now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) >= quiet {
			return e.Err()
		}
		select {
		case <-time.After(quiet / 20):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Disk is what the parts of a store take on the disk: allocated blocks, in bytes.
type Disk struct{ Layers, Values, WAL, Catalog int64 }

// Data is what the objects take, the log and the catalog aside.
func (d Disk) Data() int64 { return d.Layers + d.Values }

// DiskOf looks at the files of the store in dir.
func DiskOf(dir string) (Disk, error) {
	var d Disk
	for name, n := range map[string]*int64{"layers": &d.Layers, "values": &d.Values, "wal": &d.WAL, "catalog": &d.Catalog} {
		err := filepath.WalkDir(filepath.Join(dir, name), func(_ string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return ifExists(err)
			}
			info, err := entry.Info()
			if err != nil {
				return ifExists(err)
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				*n += st.Blocks * 512
			} else {
				*n += info.Size()
			}
			return nil
		})
		if err != nil {
			return d, err
		}
	}
	return d, nil
}

// ifExists passes over files that went while one looked.
func ifExists(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// MiB is bytes as a figure of a table.
func MiB(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<20)) }
