package object

import (
	"bytes"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// keyWriter changes the versions of one key in a transaction that holds the stripe of
// the object exclusively, unless the bucket is Unversioned: then it writes blindly, or
// in knowledge of what it was told. All of a key's changes in one transaction
// must go through one keyWriter, and be one put, one delete, or removals.
//
// What it moves is held until letGo of the holds.
type keyWriter struct {
	s      *Service
	tx     *timeline.Tx
	set    *Settings
	holds  *holds
	key    []byte
	prefix []byte // see versionsOf; nil until it is needed

	// keepsPages says that the pages of what is there belong to another key by now, unless it stays as a version.
	keepsPages bool

	removed map[wal.LSN]bool // versions that lay beside the object
	gone    bool             // the object was removed
	marked  bool             // it was put or deleted without a version id
}

// holds are the segments of bodies that a commit moves, each held once.
type holds struct {
	release []func()
	held    []layers.FileNum // ascending
}

func (h *holds) add(s *Service, body layers.Body) error {
	if tag := body.Tag(); tag == layers.BodyInline || tag == layers.BodyEmpty {
		return nil
	}
	segs, err := body.Segments(nil)
	if err != nil {
		return err
	}
	return h.addSegments(s, segs)
}

// addSegments holds segments that something else still keeps.
func (h *holds) addSegments(s *Service, segs []layers.FileNum) error {
	for _, seg := range segs {
		i, held := slices.BinarySearch(h.held, seg)
		if held {
			continue
		}
		release, err := s.values.Hold([]layers.FileNum{seg})
		if err != nil {
			return err
		}
		h.release, h.held = append(h.release, release), slices.Insert(h.held, i, seg)
	}
	return nil
}

// letGo ends the holds, once the commit has ended. It may be called again.
func (h *holds) letGo() {
	for _, release := range h.release {
		release()
	}
	h.release, h.held = nil, nil
}

func (w *keyWriter) versions() []byte {
	if w.prefix == nil {
		w.prefix = versionsOf(w.key)
	}
	return w.prefix
}

// put makes e, whose body is body, the current version of the key; what was current stays
// as the settings have it. The caller has evaluated conditions.
func (w *keyWriter) put(e *Entry, body layers.Body) error {
	e.Versioned = w.set.Versioning == Enabled
	if err := w.supersede(); err != nil {
		return err
	}
	w.marked = true
	w.tx.Put(layers.NamespaceObjects, w.key, e.append(nil), body)
	return nil
}

// changed reports whether the key has changed in this transaction.
func (w *keyWriter) changed() bool { return w.marked || w.gone || w.removed != nil }

// supersede makes room for a new version: it moves the object beside, or in a
// suspended bucket does away with the null version, or without versions does away with
// the object.
func (w *keyWriter) supersede() error {
	if w.set.Versioning == Unversioned && !w.set.Pages {
		return nil
	}
	current, err := getObject(w.tx, w.key)
	if err != nil {
		return err
	}
	if w.set.Versioning == Unversioned {
		w.endCurrent(current)
		return nil
	}
	if w.set.Versioning == Suspended {
		if err := w.dropNull(); err != nil {
			return err
		}
	}
	if current == nil || w.set.replaces(current) {
		w.endCurrent(current)
		return nil
	}
	return w.moveBeside(current)
}

// endCurrent removes the pages of what is replaced; nil: of nothing.
func (w *keyWriter) endCurrent(f *found) {
	if !w.keepsPages {
		w.endPages(f)
	}
}

// endPages removes the pages of a version that goes; nil: of none.
func (w *keyWriter) endPages(f *found) {
	if f != nil {
		endPages(w.tx, &f.head.pages)
	}
}

// moveBeside writes the object among the other versions. Its record in
// NamespaceObjects is for the caller to replace or delete.
func (w *keyWriter) moveBeside(f *found) error {
	if err := w.holds.add(w.s, f.rec.Body); err != nil {
		return err
	}
	meta, err := withVersion(f)
	if err != nil {
		return err
	}
	w.tx.Put(layers.NamespaceVersions, stamped(w.versions(), f.lsn), meta, f.rec.Body)
	if f.id() == NullVersion {
		w.tx.Put(layers.NamespaceVersions, w.versions(), appendNullRecord(nil, f.lsn), nil)
	}
	return nil
}

// withVersion returns the Meta of f for a record of another commit.
func withVersion(f *found) ([]byte, error) {
	if f.head.made != 0 {
		return f.rec.Meta, nil
	}
	var h metaHead
	rest, err := h.decode(f.rec.Meta, true)
	if err != nil {
		return nil, err
	}
	h.made = f.lsn
	return append(h.append(make([]byte, 0, len(f.rec.Meta)+10), true), rest...), nil
}

// dropNull removes the null version or marker that is not the object, if there is one.
func (w *keyWriter) dropNull() error {
	null, err := getNull(w.tx, w.versions())
	if err != nil || null == nil {
		return err
	}
	w.tx.Delete(layers.NamespaceVersions, w.versions())
	w.tx.Delete(layers.NamespaceVersions, stamped(w.versions(), null.lsn))
	w.endPages(null)
	return nil
}

// deleteCurrent is a delete without a version id: it removes the object of an Unversioned
// bucket, and writes a delete marker in others, whose LSN is that of the commit, or is just below it.
func (w *keyWriter) deleteCurrent() error {
	w.marked = true
	if err := w.supersede(); err != nil {
		return err
	}
	w.tx.Delete(layers.NamespaceObjects, w.key)
	if w.set.Versioning == Unversioned {
		return nil
	}
	h := metaHead{flags: flagMarker}
	if w.set.Versioning == Enabled {
		h.flags |= flagVersioned
	} else {
		w.tx.PutBeside(layers.NamespaceVersions, w.versions(), nil, func(lsn wal.LSN) []byte { return appendNullRecord(nil, lsn) })
	}
	w.tx.PutStamped(layers.NamespaceVersions, w.versions(), h.append(nil, true), nil, func(lsn wal.LSN) []byte {
		early := h
		early.made = lsn
		return early.append(nil, true)
	})
	return nil
}

// find returns a version by its id, as it is after what was removed so far; nil: none.
func (w *keyWriter) find(id VersionID) (*found, error) {
	f, err := findVersion(w.tx, w.key, w.versions(), id)
	if err != nil || f == nil || f.object && w.gone || !f.object && w.removed[f.lsn] {
		return nil, err
	}
	return f, nil
}

// remove removes the record of a version that find returned. settle must follow.
func (w *keyWriter) remove(f *found) {
	if f.object {
		w.gone = true
		w.tx.Delete(layers.NamespaceObjects, w.key)
		return
	}
	if w.removed == nil {
		w.removed = make(map[wal.LSN]bool)
	}
	w.removed[f.lsn] = true
	w.tx.Delete(layers.NamespaceVersions, stamped(w.versions(), f.lsn))
	if f.id() == NullVersion {
		w.tx.Delete(layers.NamespaceVersions, w.versions())
	}
}

// settle makes the newest version that is left the object, unless that is a marker, or is
// the object already. It may be called without a writer.
func (w *keyWriter) settle() error {
	if w == nil || !w.gone && w.removed == nil {
		return nil
	}
	if !w.gone {
		if current, err := getObject(w.tx, w.key); err != nil || current != nil {
			return err
		}
	}
	next, err := newestVersion(w.tx, w.versions(), w.removed)
	if err != nil || next == nil || next.marker() {
		return err
	}
	if err := w.holds.add(w.s, next.rec.Body); err != nil {
		return err
	}
	meta, err := withVersion(next)
	if err != nil {
		return err
	}
	w.remove(next)
	w.tx.Put(layers.NamespaceObjects, w.key, meta, next.rec.Body)
	return nil
}

// change rewrites the record of a version in place: what e says by now.
func (w *keyWriter) change(rec *layers.Record, e *Entry) error {
	if bytes.Equal(e.append(nil), rec.Meta) {
		return nil
	}
	if err := w.holds.add(w.s, rec.Body); err != nil {
		return err
	}
	e.made = e.LSN
	w.tx.Put(rec.Key.Namespace(), rec.Key.User(), e.append(nil), rec.Body)
	return nil
}

// findVersion returns the version or marker with an id; nil: none.
func findVersion(r reader, key, prefix []byte, id VersionID) (*found, error) {
	f, err := getObject(r, key)
	if err != nil || f != nil && f.id() == id {
		return f, err
	}
	switch {
	case id == NullVersion:
		return getNull(r, prefix)
	case id >= VersionID(wal.MaxLSN):
		return nil, nil
	}
	f, err = getVersion(r, prefix, wal.LSN(id))
	if err != nil || f == nil || f.id() != id {
		return nil, err
	}
	return f, nil
}

// current returns the current version of a key, as it is named without a version id; a delete marker
// counts where the bucket has versions; nil: there is none.
func (s *Service) current(r versionReader, key []byte) (*found, error) {
	f, err := getObject(r, key)
	if err != nil || f != nil {
		return f, err
	}
	set, err := s.settings(r)
	if err != nil || set.Versioning == Unversioned {
		return nil, err
	}
	f, err = newestVersion(r, versionsOf(key), nil)
	if err == nil && f != nil && !f.marker() {
		err = fmt.Errorf("version %d of %q: %w", f.lsn, key, corrupt("it should be the object"))
	}
	return f, err
}

// versionReader is a View or a Tx.
type versionReader interface {
	configReader
	scanner
}
