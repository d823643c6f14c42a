package timeline

import (
	"bytes"
	"context"
	"fmt"

	"stemma/wal"
)

// MaxAttrBytes bounds the attributes of a bucket or snapshot.
const MaxAttrBytes = 64 << 10

// Properties are what a bucket or snapshot carries beside its records, without a
// past: they go by the bucket, not by its timelines, and forks do not inherit them.
type Properties struct {
	// Attrs are bytes that the store keeps and does not look into, at most MaxAttrBytes.
	Attrs []byte
	// Expires is the store time at which it is deleted; zero: never.
	Expires wal.LSN
	// ReadOnly, of buckets only, refuses every commit that would write a record.
	ReadOnly bool
	// Protected, of buckets only, refuses deletion; what is protected cannot expire.
	Protected bool
}

// The flags of properties in the log and in the catalog.
const (
	flagReadOnly  = 1 << 0
	flagProtected = 1 << 1
)

func (p *Properties) flags() byte {
	return boolByte(p.ReadOnly)*flagReadOnly | boolByte(p.Protected)*flagProtected
}

// setFlags is the inverse of flags; false: there are others.
func (p *Properties) setFlags(b byte) bool {
	p.ReadOnly, p.Protected = b&flagReadOnly != 0, b&flagProtected != 0
	return b == p.flags()
}

func (p *Properties) check() error {
	if len(p.Attrs) > MaxAttrBytes {
		return fmt.Errorf("attributes of %d bytes, at most %d: %w", len(p.Attrs), MaxAttrBytes, ErrBadProperties)
	}
	if p.Expires > wal.MaxLSN {
		return fmt.Errorf("expiry at %d, at most %d: %w", p.Expires, wal.MaxLSN, ErrBadProperties)
	}
	if p.Protected && p.Expires != 0 {
		return fmt.Errorf("what is protected from deletion cannot expire: %w", ErrBadProperties)
	}
	return nil
}

// clone returns a copy that aliases no buffer.
func (p *Properties) clone() Properties {
	c := Properties{Expires: p.Expires, ReadOnly: p.ReadOnly, Protected: p.Protected}
	if len(p.Attrs) > 0 {
		c.Attrs = bytes.Clone(p.Attrs)
	}
	return c
}

func (p *Properties) none() bool { return len(p.Attrs) == 0 && p.Expires == 0 && p.flags() == 0 }

func (p *Properties) equal(o *Properties) bool {
	return p.Expires == o.Expires && p.flags() == o.flags() && bytes.Equal(p.Attrs, o.Attrs)
}

// propertiesAt returns those of a bucket as of a visible LSN.
func (b *bucket) propertiesAt(visible wal.LSN) Properties {
	if p := b.properties.Load().at(visible); p != nil {
		return *p
	}
	return Properties{}
}

// expires returns when a bucket expires, for the next commit in order.
func (b *bucket) expires() wal.LSN {
	p := b.propertiesAt(wal.MaxLSN)
	return p.Expires
}

// readOnly reports whether the next commit in order may write no record.
func (b *bucket) readOnly() bool {
	p := b.properties.Load()
	return p != nil && p.value != nil && p.value.ReadOnly
}

// SetProperties replaces the properties of a bucket by what change makes of
// them. Nobody else changes them meanwhile; change must not call the store, nor
// write to the attributes that it is given. Its error ends it.
//
// Errors: those of change, ErrNoSuchBucket, ErrBadProperties, and those of Commit.
func (s *Store) SetProperties(ctx context.Context, name string, change func(old Properties) (Properties, error)) (wal.LSN, error) {
	if err := s.AdmitWrite(ctx); err != nil {
		return 0, err
	}
	s.treeMu.Lock()
	op, err := s.planPropertiesLocked(name, change)
	if err != nil {
		s.treeMu.Unlock()
		return 0, fmt.Errorf("set properties of bucket %q: %w", name, err)
	}
	lsn, err := s.changeTree(ctx, []treeOp{op})
	if err != nil {
		return 0, fmt.Errorf("set properties of bucket %q: %w", name, err)
	}
	s.tree.settleProperties(op.bucket, lsn)
	return lsn, nil
}

func (s *Store) planPropertiesLocked(name string, change func(old Properties) (Properties, error)) (treeOp, error) {
	b := s.tree.sequencedName(name)
	if b == nil {
		return treeOp{}, ErrNoSuchBucket
	}
	p, err := change(b.propertiesAt(wal.MaxLSN))
	if err != nil {
		return treeOp{}, err
	}
	return treeOp{tag: opProperties, bucket: b.id, props: p}, p.check()
}

// SetAttributes is SetProperties for the attributes alone.
func (s *Store) SetAttributes(ctx context.Context, name string, change func(old []byte) ([]byte, error)) (wal.LSN, error) {
	return s.SetProperties(ctx, name, func(p Properties) (_ Properties, err error) {
		p.Attrs, err = change(p.Attrs)
		return p, err
	})
}

// SetExpiry is SetProperties for the expiry alone; zero: never.
func (s *Store) SetExpiry(ctx context.Context, name string, expires wal.LSN) (wal.LSN, error) {
	return s.SetProperties(ctx, name, func(p Properties) (Properties, error) {
		p.Expires = expires
		return p, nil
	})
}

// settleProperties lets go of what a bucket had before, once visible.
func (t *tree) settleProperties(id BucketID, visible wal.LSN) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.mu.buckets.get(id); b != nil {
		b.properties.Store(b.properties.Load().settled(visible))
	}
}

// setPropertiesLocked gives b properties from lsn on. Buckets that one commit
// gives the same share them in memory. Other attributes are another configuration of
// the timeline that b leads to, see ConfigGuard.
func (t *tree) setPropertiesLocked(b *bucket, p *Properties, lsn, visible wal.LSN) {
	old := b.properties.Load()
	if old == nil && p.none() {
		return
	}
	if b.deleted.Load() == 0 {
		t.setExpiryLocked(expiry{b.expires(), b.id, 0}, p.Expires)
	}
	defer t.markLocked(b)
	last := t.lastProperties
	if old == nil && last != nil && last.from == lsn && last.prev == nil && last.value.equal(p) {
		b.properties.Store(last)
		return
	}
	if before := b.propertiesAt(wal.MaxLSN); lsn > 0 && b.bindings.Load() != nil && !bytes.Equal(before.Attrs, p.Attrs) {
		b.last().use().configured.Store(uint64(lsn))
	}
	own := p.clone()
	t.lastProperties = old.then(&own, lsn, visible)
	b.properties.Store(t.lastProperties)
}
