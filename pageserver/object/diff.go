package object

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// Point is a bucket at an LSN; zero is its tip.
type Point struct {
	Bucket string
	At     wal.LSN
}

// DiffKind says how a key differs.
type DiffKind string

// The kinds.
const (
	DiffAdded    DiffKind = "added"
	DiffRemoved  DiffKind = "removed"
	DiffModified DiffKind = "modified" // another content
	DiffMetadata DiffKind = "metadata" // the same content; other headers, metadata, tags, class or lock
	DiffRenamed  DiffKind = "renamed"  // removed at OldKey and added, with the same content
)

// MaxDiffEntries is the most that one page of a difference has.
const MaxDiffEntries = 1000

// DiffInput says what Diff compares: From is the old side, To the new one.
type DiffInput struct {
	From, To Point
	Prefix   string
	Token    string // NextToken of the page before; decides the LSNs of tips
	// Max bounds the entries of the page; zero or more than MaxDiffEntries: that many.
	Max int
}

// DiffVersion is one side of a difference.
type DiffVersion struct {
	Size uint64
	ETag ETag
	LSN  wal.LSN // of the version
}

// DiffEntry is one key that differs.
type DiffEntry struct {
	Kind   DiffKind
	Key    string
	OldKey string // of DiffRenamed
	// Old and New are nil where the key is not there.
	Old, New *DiffVersion
}

// DiffSummary counts entries, and the bytes of their objects.
type DiffSummary struct {
	Added, Removed, Modified, Metadata, Renamed int64
	// BytesAdded are those of what was added and of the new side of what was modified,
	// BytesRemoved those of what was removed and of the old side.
	BytesAdded, BytesRemoved uint64
}

// DiffPage is one page of a difference, by key; a renamed key is where it is new.
type DiffPage struct {
	Entries        []DiffEntry
	Summary        DiffSummary // of the page
	FromLSN, ToLSN wal.LSN
	NextToken      string // empty on the last page
}

// Diff returns one page of what differs between two points. The pages of one diff see
// the same two LSNs for as long as each is asked for within a minute of the one before.
// A key that was written anew with the same content and metadata does not differ. A
// rename is recognised when both of its keys fall into one page: memory has a bound.
//
// Cost follows what was written since the newest point that both have in common; of
// strangers everything is compared.
//
// Errors: ErrInvalidToken, timeline.ErrNoSuchBucket, ErrFuture, *BelowHorizonError,
// ErrCorrupt, layers.ErrCorrupt.
func (s *Service) Diff(ctx context.Context, in *DiffInput) (*DiffPage, error) {
	from, to, after := in.From, in.To, ""
	if in.Token != "" {
		t, err := parseDiffToken(in.Token)
		if err != nil {
			return nil, err
		}
		from.At, to.At, after = t.from, t.to, t.after
	}
	a, err := s.store.View(ctx, from.Bucket, from.At)
	if err != nil {
		return nil, fmt.Errorf("diff %q: %w", from.Bucket, err)
	}
	defer a.Close()
	b, err := s.store.View(ctx, to.Bucket, to.At)
	if err != nil {
		return nil, fmt.Errorf("diff %q: %w", to.Bucket, err)
	}
	defer b.Close()
	page := &DiffPage{FromLSN: a.LSN(), ToLSN: b.LSN()}
	if from.At != 0 {
		page.FromLSN = from.At // what is below a birth is asked for by its own LSN again
	}
	if to.At != 0 {
		page.ToLSN = to.At
	}
	most := in.Max
	if most <= 0 || most > MaxDiffEntries {
		most = MaxDiffEntries
	}
	lower := []byte(in.Prefix)
	if after != "" {
		lower = append([]byte(after), 0)
	}
	d := s.store.Diff(ctx, a, b, layers.NamespaceObjects, lower, bound(successor(in.Prefix)))
	defer d.Close()
	last := ""
	for d.Next() {
		e, err := s.diffEntry(d.Difference())
		if err != nil {
			return nil, err
		}
		if e == nil {
			continue
		}
		if len(page.Entries) == most {
			page.NextToken = diffToken{from: page.FromLSN, to: page.ToLSN, after: last}.String()
			// Refused or lost, the leases only cost the rest of the diff.
			_ = s.store.Lease(from.Bucket, page.FromLSN, leaseFor)
			_ = s.store.Lease(to.Bucket, page.ToLSN, leaseFor)
			break
		}
		page.Entries, last = append(page.Entries, *e), e.Key
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	page.Entries = joinRenames(page.Entries)
	for i := range page.Entries {
		page.Summary.count(&page.Entries[i])
	}
	return page, nil
}

// DiffAll visits all entries of a difference, page by page, and adds them up.
// Errors: those of Diff and of visit, which may be nil.
func (s *Service) DiffAll(ctx context.Context, in DiffInput, visit func(*DiffEntry) error) (DiffSummary, error) {
	var sum DiffSummary
	for {
		page, err := s.Diff(ctx, &in)
		if err != nil {
			return sum, err
		}
		for i := range page.Entries {
			sum.count(&page.Entries[i])
			if visit == nil {
				continue
			}
			if err := visit(&page.Entries[i]); err != nil {
				return sum, err
			}
		}
		if in.Token = page.NextToken; in.Token == "" {
			return sum, nil
		}
	}
}

// diffEntry says how two versions differ; nil: not at all.
func (s *Service) diffEntry(d *timeline.Difference) (*DiffEntry, error) {
	e := &DiffEntry{Key: string(d.Key), Kind: DiffModified}
	var err error
	if e.Old, err = s.diffVersion(d.A); err != nil {
		return nil, err
	}
	if e.New, err = s.diffVersion(d.B); err != nil {
		return nil, err
	}
	switch {
	case e.Old == nil:
		e.Kind = DiffAdded
	case e.New == nil:
		e.Kind = DiffRemoved
	case e.Old.ETag == e.New.ETag && e.Old.Size == e.New.Size:
		same, err := s.sameObject(d.A, d.B)
		if same || err != nil {
			return nil, err
		}
		e.Kind = DiffMetadata
	}
	return e, nil
}

func (s *Service) diffVersion(r *layers.Record) (*DiffVersion, error) {
	if r == nil {
		return nil, nil
	}
	f, err := asObject(*r)
	if err != nil {
		return nil, err
	}
	etag, err := s.shownETag(f)
	return &DiffVersion{Size: f.head.size, ETag: etag, LSN: f.lsn}, err
}

// sameObject reports whether two records of objects have the same content, by size and
// ETag, the same headers, metadata, tags, class and lock, and are encrypted alike. What
// the server cannot decrypt is the same only if it is the very same.
func (s *Service) sameObject(a, b *layers.Record) (bool, error) {
	// What is written in place can change without its record.
	if bytes.Equal(a.Meta, b.Meta) && bytes.Equal(a.Body, b.Body) && (a.LSN == b.LSN || !hasPages(a.Meta)) {
		return true, nil
	}
	x, err := decodeEntry(a.Meta, a.LSN)
	if err != nil {
		return false, fmt.Errorf("object %q at %d: %w", a.Key, a.LSN, err)
	}
	y, err := decodeEntry(b.Meta, b.LSN)
	if err != nil {
		return false, fmt.Errorf("object %q at %d: %w", b.Key, b.LSN, err)
	}
	if x.SSE().Kind != y.SSE().Kind {
		return false, nil
	}
	if x.crypt != nil && (s.unlock(x, nil) != nil || s.unlock(y, nil) != nil) {
		return false, nil
	}
	return x.Size == y.Size && x.ETag == y.ETag && x.StorageClass == y.StorageClass && x.Headers == y.Headers &&
		slices.Equal(x.UserMeta, y.UserMeta) && slices.Equal(x.Tags, y.Tags) && x.Lock == y.Lock, nil
}

// joinRenames makes one entry of a removed and an added key with the same content, if
// there is just one of each. Empty objects are never taken for renamed.
func joinRenames(entries []DiffEntry) []DiffEntry {
	type content struct {
		etag ETag
		size uint64
	}
	type pair struct{ removed, added []int }
	by := make(map[content]*pair)
	at := func(v *DiffVersion) *pair {
		c := content{v.ETag, v.Size}
		if by[c] == nil {
			by[c] = &pair{}
		}
		return by[c]
	}
	for i := range entries {
		switch e := &entries[i]; {
		case e.Kind == DiffRemoved && e.Old.Size > 0:
			p := at(e.Old)
			p.removed = append(p.removed, i)
		case e.Kind == DiffAdded && e.New.Size > 0:
			p := at(e.New)
			p.added = append(p.added, i)
		}
	}
	gone := make(map[int]bool)
	for _, p := range by {
		if len(p.removed) == 1 && len(p.added) == 1 {
			from, to := &entries[p.removed[0]], &entries[p.added[0]]
			to.Kind, to.OldKey, to.Old = DiffRenamed, from.Key, from.Old
			gone[p.removed[0]] = true
		}
	}
	if len(gone) == 0 {
		return entries
	}
	left := entries[:0]
	for i := range entries {
		if !gone[i] {
			left = append(left, entries[i])
		}
	}
	return left
}

func (s *DiffSummary) count(e *DiffEntry) {
	switch e.Kind {
	case DiffAdded:
		s.Added++
		s.BytesAdded += e.New.Size
	case DiffRemoved:
		s.Removed++
		s.BytesRemoved += e.Old.Size
	case DiffModified:
		s.Modified++
		s.BytesAdded += e.New.Size
		s.BytesRemoved += e.Old.Size
	case DiffMetadata:
		s.Metadata++
	case DiffRenamed:
		s.Renamed++
	}
}

// Modified returns when the version was written, by the store clock.
func (v *DiffVersion) Modified() time.Time { return v.LSN.Time() }

// diffToken says where a difference goes on; see listToken.
type diffToken struct {
	from, to wal.LSN
	after    string
}

const diffTokenVersion = 2

// String returns the version (1 byte), both LSNs (8 bytes each, big-endian) and the last
// key of the page before, in URL-safe base64.
func (t diffToken) String() string {
	p := append(make([]byte, 0, 17+len(t.after)), diffTokenVersion)
	p = binary.BigEndian.AppendUint64(p, uint64(t.from))
	p = binary.BigEndian.AppendUint64(p, uint64(t.to))
	return base64.RawURLEncoding.EncodeToString(append(p, t.after...))
}

// parseDiffToken parses what String gives. Errors: ErrInvalidToken.
func parseDiffToken(s string) (diffToken, error) {
	if len(s) <= base64.RawURLEncoding.EncodedLen(17+MaxKeyBytes) {
		p, err := base64.RawURLEncoding.Strict().DecodeString(s)
		if err == nil && len(p) > 17 && p[0] == diffTokenVersion {
			t := diffToken{wal.LSN(binary.BigEndian.Uint64(p[1:])), wal.LSN(binary.BigEndian.Uint64(p[9:])), string(p[17:])}
			if t.from > 0 && t.from <= wal.MaxLSN && t.to > 0 && t.to <= wal.MaxLSN {
				return t, nil
			}
		}
	}
	return diffToken{}, fmt.Errorf("token of a difference, %d bytes: %w", len(s), ErrInvalidToken)
}
