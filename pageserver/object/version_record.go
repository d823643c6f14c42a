package object

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// Records of layers.NamespaceVersions. All of one key lie together, and keys lie in
// the order of the objects:
//
//	key, 0x00 written as 0x00 0xff ‖ 0x00 0x01            null record: where the null version lies, if that is not the object
//	key, 0x00 written as 0x00 0xff ‖ 0x00 0x01 ‖ stamp    version or delete marker; the stamp is its LSN, newest first
//
// A null record without a Meta means the version of its own LSN; otherwise the Meta
// is the LSN, 8 bytes, big-endian.

// versionsOf returns the key of a key's null record, which its other records begin with.
func versionsOf(key []byte) []byte {
	p := make([]byte, 0, len(key)+len(keyEnd)+timeline.StampBytes+8)
	return append(appendEscaped(p, key), keyEnd...)
}

// keyEnd ends an escaped key. It sorts below every byte that could go on with the key.
const keyEnd = "\x00\x01"

// appendEscaped appends the key, or the beginning of one, such that no escaped key
// and keyEnd is the beginning of another.
func appendEscaped[T string | []byte](dst []byte, key T) []byte {
	for i := range len(key) {
		dst = append(dst, key[i])
		if key[i] == 0 {
			dst = append(dst, 0xff)
		}
	}
	return dst
}

// unescape undoes appendEscaped and keyEnd. Errors: ErrCorrupt.
func unescape(p []byte) ([]byte, error) {
	body, ok := bytes.CutSuffix(p, []byte(keyEnd))
	if !ok {
		return nil, corrupt("escaped key %q", p)
	}
	key := make([]byte, 0, len(body))
	for i := 0; i < len(body); i++ {
		key = append(key, body[i])
		if body[i] == 0 {
			if i++; i == len(body) || body[i] != 0xff {
				return nil, corrupt("escaped key %q", p)
			}
		}
	}
	return key, nil
}

// stamped returns the key of the version at lsn. prefix is of versionsOf.
func stamped(prefix []byte, lsn wal.LSN) []byte {
	stamp := timeline.Stamp(lsn)
	return append(prefix[:len(prefix):len(prefix)], stamp[:]...)
}

// splitVersionKey takes a record's key apart: lsn is zero for a null record. prefix
// aliases k. Errors: ErrCorrupt.
func splitVersionKey(k []byte) (prefix []byte, lsn wal.LSN, err error) {
	// Keys do not contain keyEnd once escaped, and a stamp begins with a set bit, so
	// that a key that ends in keyEnd is that of a null record unless those two bytes
	// belong to the stamp.
	i := bytes.Index(k, []byte(keyEnd))
	switch {
	case i < 0:
		return nil, 0, corrupt("key %q of a version", k)
	case len(k) == i+len(keyEnd):
		return k, 0, nil
	case len(k) != i+len(keyEnd)+timeline.StampBytes:
		return nil, 0, corrupt("key %q of a version", k)
	}
	prefix = k[:i+len(keyEnd)]
	lsn = timeline.ParseStamp([timeline.StampBytes]byte(k[len(prefix):]))
	if lsn == 0 || lsn >= wal.MaxLSN {
		return nil, 0, corrupt("key %q of a version", k)
	}
	return prefix, lsn, nil
}

// isNullRecord reports whether a record's key is that of a null record.
func isNullRecord(k []byte) bool { return bytes.Index(k, []byte(keyEnd)) == len(k)-len(keyEnd) }

// appendNullRecord appends the Meta of a null record that means the version at lsn.
func appendNullRecord(dst []byte, lsn wal.LSN) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(lsn))
}

// decodeNullRecord returns which version the null record means. Errors: ErrCorrupt.
func decodeNullRecord(rec *layers.Record) (wal.LSN, error) {
	switch len(rec.Meta) {
	case 0:
		return rec.LSN, nil
	case 8:
		if lsn := wal.LSN(binary.BigEndian.Uint64(rec.Meta)); lsn > 0 && lsn < wal.MaxLSN {
			return lsn, nil
		}
	}
	return 0, corrupt("null record %x at %d", rec.Meta, rec.LSN)
}

// found is one version of a key, or a delete marker.
type found struct {
	rec  layers.Record
	head metaHead
	lsn  wal.LSN // of the version
	// object says that it lies in NamespaceObjects: it is the current one.
	object bool
}

// id returns the version id.
func (f *found) id() VersionID {
	if f.head.flags&flagVersioned == 0 {
		return NullVersion
	}
	return VersionID(f.lsn)
}

func (f *found) marker() bool { return f.head.flags&flagMarker != 0 }

// entry decodes the whole entry of what is no marker.
func (f *found) entry() (*Entry, error) { return decodeEntry(f.rec.Meta, f.rec.LSN) }

// errDeleted is the answer to a read that meets the marker.
func (f *found) errDeleted(reason error) error {
	return &MarkerError{Err: reason, ID: f.id(), LSN: f.lsn}
}

// MarkerError says that a read met a delete marker: as the current version, it is
// ErrNoSuchKey; by its version id, it is ErrMarker.
type MarkerError struct {
	Err error
	ID  VersionID
	LSN wal.LSN // of the marker
}

func (e *MarkerError) Error() string { return fmt.Sprintf("delete marker %v: %v", e.ID, e.Err) }

// Unwrap returns Err.
func (e *MarkerError) Unwrap() error { return e.Err }

// Modified returns when the marker was made, by the store clock.
func (e *MarkerError) Modified() time.Time { return e.LSN.Time() }

// asObject is what a record of NamespaceObjects holds.
func asObject(rec layers.Record) (*found, error) {
	f := &found{rec: rec, object: true}
	if _, err := f.head.decode(rec.Meta, true); err != nil {
		return nil, fmt.Errorf("object %q at %d: %w", rec.Key.User(), rec.LSN, err)
	}
	if f.marker() {
		return nil, fmt.Errorf("object %q at %d: %w", rec.Key.User(), rec.LSN, corrupt("a delete marker"))
	}
	f.lsn = f.head.version(rec.LSN)
	return f, nil
}

// asVersion is what a record of NamespaceVersions holds, which lies at the LSN that
// its key says.
func asVersion(rec layers.Record, lsn wal.LSN) (*found, error) {
	f := &found{rec: rec, lsn: lsn}
	if _, err := f.head.decode(rec.Meta, true); err != nil {
		return nil, fmt.Errorf("version %d: %w", lsn, err)
	}
	if f.head.version(rec.LSN) != lsn {
		return nil, fmt.Errorf("version %d: %w", lsn, corrupt("it says that it is %d", f.head.version(rec.LSN)))
	}
	return f, nil
}

// getObject returns what NamespaceObjects has at a key; nil: nothing.
func getObject(r reader, key []byte) (*found, error) {
	rec, err := r.Get(layers.NamespaceObjects, key)
	if errors.Is(err, timeline.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return asObject(rec)
}

// getVersion returns the version or marker at lsn that is not the object; nil: none.
func getVersion(r reader, prefix []byte, lsn wal.LSN) (*found, error) {
	rec, err := r.Get(layers.NamespaceVersions, stamped(prefix, lsn))
	if errors.Is(err, timeline.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return asVersion(rec, lsn)
}

// getNull returns the null version or null marker that is not the object; nil: none.
func getNull(r reader, prefix []byte) (*found, error) {
	rec, err := r.Get(layers.NamespaceVersions, prefix)
	if errors.Is(err, timeline.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	lsn, err := decodeNullRecord(&rec)
	if err != nil {
		return nil, err
	}
	f, err := getVersion(r, prefix, lsn)
	if err == nil && (f == nil || f.id() != NullVersion) {
		err = corrupt("null record of %q means %d, which is no null version", prefix, lsn)
	}
	return f, err
}

// keep returns a copy of what a scan stands on that outlives the scan.
func keep(rec *layers.Record) layers.Record {
	r := *rec
	r.Key, r.Meta, r.Body = bytes.Clone(rec.Key), bytes.Clone(rec.Meta), bytes.Clone(rec.Body)
	return r
}

// newestVersion returns the newest version or marker of a key that is not the object,
// without those of skip; nil: none.
func newestVersion(r scanner, prefix []byte, skip map[wal.LSN]bool) (*found, error) {
	upper := append(prefix[:len(prefix)-1:len(prefix)-1], prefix[len(prefix)-1]+1)
	scan := r.Scan(layers.NamespaceVersions, stamped(prefix, wal.MaxLSN), upper)
	defer scan.Close()
	for ok := scan.First(); ok; ok = scan.Next() {
		rec := scan.Record()
		_, lsn, err := splitVersionKey(rec.Key.User())
		if err != nil {
			return nil, err
		}
		if skip[lsn] {
			continue
		}
		return asVersion(keep(rec), lsn)
	}
	return nil, scan.Err()
}
