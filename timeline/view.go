package timeline

import (
	"context"
	"fmt"

	"stemma/layers"
	"stemma/wal"
)

// Info describes a bucket as of the LSN it was looked up at.
type Info struct {
	Name     string
	Bucket   BucketID
	Timeline layers.TimelineID
	Created  wal.LSN
	// Of a fork; zero for a root.
	SourceName   string // the source's present name; empty while it is deleted
	SourceBucket BucketID
	BranchLSN    wal.LSN // what it sees of the source, unless that was restored to something older
	// HasForks says that living buckets were forked from this one.
	HasForks bool
	// Ancestor is the timeline that Timeline branched from, Depth how many there are
	// on the way to the root.
	Ancestor layers.TimelineID
	Depth    int
	// Properties are the present ones. Attrs must not be changed.
	Properties
}

func (s *Store) info(b *bucket, n *node) Info {
	i := Info{
		Name: *b.name.Load(), Bucket: b.id, Timeline: n.id, Created: b.created,
		HasForks: b.forks.Load() > 0, Depth: int(n.depth), Properties: b.propertiesAt(s.log.Visible()),
	}
	i.Ancestor = n.ancestorID
	if b.source != 0 {
		i.BranchLSN, i.SourceBucket = n.sourceLSN, b.source
		if src := s.tree.bucket(b.source); src != nil && src.deleted.Load() == 0 {
			i.SourceName = *src.name.Load()
		}
	}
	return i
}

// infos describes buckets as they are at visible.
func (s *Store) infos(buckets []*bucket, visible wal.LSN) []Info {
	infos := make([]Info, len(buckets))
	for i, b := range buckets {
		infos[i] = s.info(b, b.at(visible).node)
	}
	return infos
}

// View reads one bucket at one LSN. It keeps the layers that it reads from
// being removed until it is closed. A View is not safe for concurrent use.
type View struct {
	store   *Store
	version *layers.Version
	bucket  *bucket
	node    *node // the bucket's timeline at lsn
	lsn     wal.LSN
	chain   []layers.Hop
	few     [8]layers.Hop
}

// View opens the bucket as of an LSN; zero means the newest visible state. It
// waits until everything at or below the LSN is visible, or ctx ends.
//
// Errors: ErrNoSuchBucket, ErrFuture, *BelowHorizonError.
func (s *Store) View(ctx context.Context, name string, at wal.LSN) (*View, error) {
	if at != 0 && at > s.log.Visible() {
		if err := s.settle(ctx, at); err != nil {
			return nil, err
		}
	}
	version, visible, b, err := s.acquireBucket(name)
	if err != nil {
		return nil, err
	}
	if at == 0 {
		at = visible
	}
	n, lsn := b.resolve(at)
	if n == nil {
		version.Release()
		return nil, fmt.Errorf("bucket %q was created at %d, after %d: %w", name, b.created, at, ErrNoSuchBucket)
	}
	if err := s.checkReadable(version.Horizon, visible, n, lsn); err != nil {
		version.Release()
		return nil, err
	}
	return s.newView(version, b, n, lsn), nil
}

// acquireBucket is acquire, with the bucket that the name means at the visible
// LSN. Errors: ErrNoSuchBucket, ErrClosed.
func (s *Store) acquireBucket(name string) (*layers.Version, wal.LSN, *bucket, error) {
	for {
		version, visible, err := s.acquire()
		if err != nil {
			return nil, 0, nil, err
		}
		if b := s.tree.lookup(name, visible); b != nil {
			return version, visible, b, nil
		}
		version.Release()
		if s.log.Visible() == visible {
			return nil, 0, nil, fmt.Errorf("bucket %q: %w", name, ErrNoSuchBucket)
		}
	}
}

// lookup returns the bucket that the name means now, and the visible LSN of that
// moment. Errors: ErrNoSuchBucket.
func (s *Store) lookup(name string) (*bucket, wal.LSN, error) {
	for {
		visible := s.log.Visible()
		if b := s.tree.lookup(name, visible); b != nil {
			return b, visible, nil
		}
		if s.log.Visible() == visible {
			return nil, 0, fmt.Errorf("bucket %q: %w", name, ErrNoSuchBucket)
		}
	}
}

// settle waits until what is at or below a future-looking LSN cannot change.
func (s *Store) settle(ctx context.Context, at wal.LSN) error {
	if err := s.checkNotFuture(at); err != nil {
		return err
	}
	if err := s.log.Settle(ctx, at); err != nil {
		return fmt.Errorf("wait for LSN %d: %w", at, err)
	}
	return nil
}

// newView takes over the caller's count on version.
func (s *Store) newView(version *layers.Version, b *bucket, n *node, lsn wal.LSN) *View {
	v := &View{store: s, version: version, bucket: b, node: n, lsn: lsn}
	v.chain = n.appendChain(v.few[:0], lsn, version.Seq)
	v.strain(1)
	return v
}

// checkReadable refuses an LSN that neither the timeline's window, by horizon h,
// nor a pin or lease keeps, as one sees it who sees the commits up to visible.
func (s *Store) checkReadable(h, visible wal.LSN, n *node, lsn wal.LSN) error {
	cutoff := n.cutoffAt(h, visible)
	if lsn < cutoff && !s.pinned(n, lsn) {
		return &BelowHorizonError{LSN: lsn, Cutoff: cutoff}
	}
	return nil
}

// LSN returns what the view reads at.
func (v *View) LSN() wal.LSN { return v.lsn }

// Moved returns the LSN of the move since which the bucket leads to what is read; zero
// when none led there.
func (v *View) Moved() wal.LSN {
	if b := v.bucket.at(v.lsn); b.since != v.bucket.first().since {
		return b.since
	}
	return 0
}

// BranchLSN is Info.BranchLSN, without the rest.
func (v *View) BranchLSN() wal.LSN {
	if v.bucket.source == 0 {
		return 0
	}
	return v.node.sourceLSN
}

// Info describes the bucket.
func (v *View) Info() Info { return v.store.info(v.bucket, v.node) }

// hops returns the ancestry for one namespace: uploads are not inherited.
func (v *View) hops(ns layers.Namespace) []layers.Hop {
	if ns != layers.NamespaceUploads || len(v.chain) == 0 {
		return v.chain
	}
	if v.chain[0].Timeline != v.node.id {
		return nil
	}
	return v.chain[:1]
}

// Get returns the newest record of a key. Its slices may be kept after Close.
// Errors: ErrNotFound, layers.ErrCorrupt.
func (v *View) Get(ns layers.Namespace, key []byte) (layers.Record, error) {
	rec, _, ok, err := v.version.Get(v.hops(ns), ns, key)
	if err != nil {
		return layers.Record{}, fmt.Errorf("read %q of timeline %d at %d: %w", key, v.node.id, v.lsn, err)
	}
	if !ok {
		return layers.Record{}, ErrNotFound
	}
	return rec, nil
}

// Stack appends to dst what a page consists of, newest first: deltas, and last the
// full value, if there is one before a tombstone or the end. An ordinary key is a
// stack of one. What it appends may be kept after Close. Errors: layers.ErrCorrupt.
func (v *View) Stack(ns layers.Namespace, key []byte, dst []layers.Record) ([]layers.Record, error) {
	err := v.version.Walk(v.hops(ns), ns, key, func(r *layers.Record, _ int) bool {
		if r.Kind == layers.KindDelta || r.Kind == layers.KindValue {
			dst = append(dst, *r)
		}
		return r.Kind == layers.KindDelta
	})
	if err != nil {
		return dst, fmt.Errorf("read %x of timeline %d at %d: %w", key, v.node.id, v.lsn, err)
	}
	return dst, nil
}

// Scan walks the keys of [lower, upper) that have a value; a nil bound is
// none. The scan must be closed before the view.
func (v *View) Scan(ns layers.Namespace, lower, upper []byte) *layers.Scan {
	v.strain(scanStrain)
	return v.version.NewScan(v.hops(ns), ns, lower, upper, layers.ScanOptions{})
}

// Close lets go of the layers. It may be called twice.
func (v *View) Close() {
	if v.version == nil {
		return
	}
	v.version.Release()
	*v = View{}
}
