package object

import (
	"encoding/binary"

	"stemma/wal"
)

// inheritance says how much of a version a fork has inherited: the version goes on from another one, in whose
// place it is, and that was there at the branch point of the fork, or went on from one that was. It does not
// count for the quota of the fork, whose own bytes are what is beyond that size. The zero value is nothing.
type inheritance struct {
	base wal.LSN // the branch point
	size uint64  // bytes
}

// goesOn makes e, an older version of which is f, inherit what that has inherited, if by the settings e takes
// its place: by a rename, or an append. base is the branch point of the bucket, zero of a root.
func (e *Entry) goesOn(set *Settings, f *found, base wal.LSN) error {
	e.inherited = inheritance{}
	if base == 0 || !set.replaces(f) {
		return nil
	}
	old, err := f.entry()
	if err == nil {
		e.inherited = old.inherited.after(old.LSN, old.Size, base)
	}
	return err
}

// replaces reports whether another version takes the place of f, rather than one beside it.
func (s *Settings) replaces(f *found) bool {
	return s.Versioning == Unversioned || s.Versioning == Suspended && f.id() == NullVersion
}

// after returns what goes on from a version with inheritance i, that was made at an LSN and has a size.
func (i inheritance) after(lsn wal.LSN, size uint64, base wal.LSN) inheritance {
	switch {
	case base != 0 && lsn <= base:
		return inheritance{base: base, size: size}
	case i.base == base:
		return i
	}
	return inheritance{} // it is of another bucket, or of before a move
}

// append appends the field, if there is anything.
func (i inheritance) append(dst []byte) []byte {
	if i.base == 0 {
		return dst
	}
	var few [2 * binary.MaxVarintLen64]byte
	return appendField(dst, tagInherit, binary.AppendUvarint(binary.AppendUvarint(few[:0], uint64(i.base)), i.size))
}

// decode decodes the value of the field. Errors: ErrCorrupt.
func (i *inheritance) decode(v []byte) error {
	base, v, ok := takeUvarint(v)
	if !ok || base == 0 || base > uint64(wal.MaxLSN) {
		return corrupt("bad branch point of what was inherited")
	}
	size, v, ok := takeUvarint(v)
	if !ok || len(v) > 0 || size > maxObjectBytes {
		return corrupt("bad size of what was inherited")
	}
	*i = inheritance{base: wal.LSN(base), size: size}
	return nil
}

// inheritedBy returns the field of a meta, given what follows its head. Errors: ErrCorrupt.
func inheritedBy(fields []byte) (i inheritance, err error) {
	err = eachField(fields, func(tag byte, v []byte) error {
		if tag == tagInherit {
			return i.decode(v)
		}
		return nil
	})
	return i, err
}
