package object

import (
	"bytes"
	"context"
	"fmt"

	"stemma/layers"
	"stemma/wal"
)

// ListVersionsInput says what ListVersions lists.
type ListVersionsInput struct {
	At        wal.LSN // zero: the tip
	Prefix    string
	Delimiter string
	// KeyMarker is the last key or common prefix of the page before: only keys above it,
	// or with VersionMarker also the versions of it that are older than that one.
	KeyMarker     string
	VersionMarker VersionID
	MaxKeys       int // versions, markers and prefixes together; capped at MaxListKeys; zero: an empty page
}

// VersionEntry is one version or delete marker of a listing.
type VersionEntry struct {
	ListEntry
	ID     VersionID
	Marker bool
	Latest bool // it is the current one
}

// VersionList is one page of the versions of a bucket: by key, those of one key the
// newest first. Entries and Prefixes are each in order.
type VersionList struct {
	Entries   []VersionEntry
	Prefixes  []string
	Truncated bool
	// Of a page that is not the last: the markers of the next. NextVersionMarker is zero behind a prefix.
	NextKeyMarker     string
	NextVersionMarker VersionID
	LSN               wal.LSN // what was read at
}

// ListVersions returns one page of the versions and delete markers of a bucket, those of
// keys with a common prefix rolled up. Cost follows what is returned.
//
// Errors: timeline.ErrNoSuchBucket, ErrFuture and *BelowHorizonError, ErrCorrupt, layers.ErrCorrupt.
func (s *Service) ListVersions(ctx context.Context, bucket string, in *ListVersionsInput) (*VersionList, error) {
	v, err := s.store.View(ctx, bucket, in.At)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	l := versionLister{s: s, r: v, res: &VersionList{LSN: v.LSN()}}
	l.g = grouping{prefix: in.Prefix, delimiter: in.Delimiter, max: min(in.MaxKeys, MaxListKeys)}
	if l.g.max <= 0 {
		return l.res, nil
	}
	if err := l.list(in); err != nil {
		return nil, fmt.Errorf("list versions of %q: %w", bucket, err)
	}
	return l.res, nil
}

// versionLister walks objects and other versions side by side, in the order of keys.
type versionLister struct {
	s   *Service
	r   versionReader
	g   grouping
	res *VersionList

	objects, versions     *layers.Scan
	hasObject, hasVersion bool
	key, prefix           []byte // that are being listed; prefix is of versionsOf
	seen                  bool   // a version of key was listed, or passed over
	lastID                VersionID
}

func (l *versionLister) list(in *ListVersionsInput) error {
	lower, upper, ok := l.g.bounds(in.KeyMarker)
	if !ok && in.VersionMarker == 0 {
		return nil
	}
	resume, err := l.resumeAt(in)
	if err != nil {
		return err
	}
	if resume != 0 { // some of the versions of KeyMarker are still to come
		lower, upper = in.KeyMarker, successor(l.g.prefix)
	} else if !ok {
		return nil
	}
	l.open(lower, upper)
	defer l.close()
	if resume != 0 {
		if err := l.skipTo(in, resume); err != nil {
			return err
		}
	}
	for l.hasObject || l.hasVersion {
		more, err := l.nextKey()
		if err != nil || !more {
			return err
		}
	}
	return l.err()
}

// resumeAt returns the version of the key marker that the page before ended with; zero: its last.
// A null version that is gone, of which nobody knows how old it was, has the key begin again.
func (l *versionLister) resumeAt(in *ListVersionsInput) (wal.LSN, error) {
	key := []byte(in.KeyMarker)
	if in.VersionMarker == 0 || len(key) == 0 || len(key) > MaxKeyBytes || !bytes.HasPrefix(key, []byte(l.g.prefix)) || l.g.group(key) != "" {
		return 0, nil
	}
	if in.VersionMarker == NullVersion {
		f, err := findVersion(l.r, key, versionsOf(key), NullVersion)
		if err != nil {
			return 0, err
		}
		if f != nil {
			return f.lsn, nil
		}
	}
	return wal.LSN(min(in.VersionMarker, VersionID(wal.MaxLSN))), nil
}

func (l *versionLister) open(lower, upper string) {
	l.objects = l.r.Scan(layers.NamespaceObjects, []byte(lower), bound(upper))
	l.hasObject = l.objects.First()
	var end []byte
	if upper != "" {
		end = appendEscaped(nil, upper)
	}
	l.versions = l.r.Scan(layers.NamespaceVersions, appendEscaped(nil, lower), end)
	l.hasVersion = l.versions.First()
}

func (l *versionLister) close() {
	l.objects.Close()
	l.versions.Close()
}

func (l *versionLister) err() error {
	if err := l.objects.Err(); err != nil {
		return err
	}
	return l.versions.Err()
}

// skipTo passes over the versions of the key marker that are not older than lsn.
func (l *versionLister) skipTo(in *ListVersionsInput, lsn wal.LSN) error {
	l.setKey([]byte(in.KeyMarker))
	if l.hasObject && string(l.objects.Record().Key.User()) == in.KeyMarker {
		f, err := asObject(*l.objects.Record())
		if err != nil {
			return err
		}
		if f.lsn >= lsn {
			l.seen, l.hasObject = true, l.objects.Next()
		}
	}
	if l.seen {
		l.hasVersion = l.versions.SeekGE(stamped(l.prefix, lsn-1))
		return nil
	}
	for l.hasVersion { // to the newest
		prefix, at, err := splitVersionKey(l.versions.Record().Key.User())
		if err != nil || !bytes.Equal(prefix, l.prefix) {
			return err
		}
		if at != 0 {
			if l.seen = at >= lsn; l.seen {
				l.hasVersion = l.versions.SeekGE(stamped(l.prefix, lsn-1))
			}
			return nil
		}
		l.hasVersion = l.versions.Next()
	}
	return nil
}

func (l *versionLister) setKey(key []byte) {
	l.key, l.prefix, l.seen = append(l.key[:0], key...), versionsOf(key), false
}

// nextKey lists the versions of the lowest key that the scans stand on. It wants no more when
// the page is full.
func (l *versionLister) nextKey() (more bool, err error) {
	var key []byte
	if l.hasVersion {
		prefix, _, err := splitVersionKey(l.versions.Record().Key.User())
		if err != nil {
			return false, err
		}
		if key, err = unescape(prefix); err != nil {
			return false, err
		}
	}
	if l.hasObject {
		if k := l.objects.Record().Key.User(); !l.hasVersion || bytes.Compare(k, key) <= 0 {
			key = k
		}
	}
	if group := l.g.group(key); group != "" {
		if l.full() {
			return false, nil
		}
		l.res.Prefixes = append(l.res.Prefixes, group)
		l.g.took(group)
		l.lastID = 0
		return l.skip(group), nil
	}
	if l.prefix == nil || !bytes.Equal(l.key, key) {
		l.setKey(key)
	}
	if more, err = l.listObject(); !more || err != nil {
		return more, err
	}
	return l.listVersions()
}

// full notes where the next page begins, when this one has no room.
func (l *versionLister) full() bool {
	if !l.g.full() {
		return false
	}
	l.res.Truncated = true
	l.res.NextKeyMarker, l.res.NextVersionMarker = l.g.last, l.lastID
	return true
}

// skip moves the scans past the keys that begin with group.
func (l *versionLister) skip(group string) bool {
	next := successor(group)
	if next == "" {
		l.hasObject, l.hasVersion = false, false
		return true
	}
	if l.hasObject && string(l.objects.Record().Key.User()) < next {
		l.hasObject = l.objects.SeekGE([]byte(next))
	}
	if escaped := appendEscaped(nil, next); l.hasVersion && bytes.Compare(l.versions.Record().Key.User(), escaped) < 0 {
		l.hasVersion = l.versions.SeekGE(escaped)
	}
	return true
}

func (l *versionLister) listObject() (more bool, err error) {
	if !l.hasObject || !bytes.Equal(l.objects.Record().Key.User(), l.key) {
		return true, nil
	}
	f, err := asObject(*l.objects.Record())
	if err != nil {
		return false, err
	}
	if more, err := l.take(f); err != nil || !more {
		return false, err
	}
	l.hasObject = l.objects.Next()
	return true, l.objects.Err()
}

// listVersions lists what lies beside the object of a key.
func (l *versionLister) listVersions() (more bool, err error) {
	for l.hasVersion {
		rec := l.versions.Record()
		prefix, lsn, err := splitVersionKey(rec.Key.User())
		if err != nil {
			return false, err
		}
		if !bytes.Equal(prefix, l.prefix) {
			break
		}
		if lsn != 0 { // it is no null record
			f, err := asVersion(*rec, lsn)
			if err != nil {
				return false, err
			}
			if more, err := l.take(f); err != nil || !more {
				return false, err
			}
		}
		l.hasVersion = l.versions.Next()
	}
	return true, l.versions.Err()
}

// take adds a version of the key to the page, if it has room.
func (l *versionLister) take(f *found) (ok bool, err error) {
	if l.full() {
		return false, nil
	}
	if err := l.s.readHead(&f.head, f.rec.Meta); err != nil {
		return false, err
	}
	h := &f.head
	var owner string
	if h.owned {
		if owner, err = ownerOf(f.rec.Meta); err != nil {
			return false, err
		}
	}
	l.res.Entries = append(l.res.Entries, VersionEntry{
		ListEntry: ListEntry{
			Key: string(l.key), Size: h.size, ETag: h.tag(f.lsn), StorageClass: h.class,
			Algorithm: h.algorithm, Composite: h.flags&flagComposite != 0, LSN: f.lsn, Owner: owner,
		},
		ID: f.id(), Marker: f.marker(), Latest: !l.seen,
	})
	l.g.took(string(l.key))
	l.seen, l.lastID = true, f.id()
	return true, nil
}
