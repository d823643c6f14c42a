package layers

import (
	"errors"
	"fmt"
	"math/bits"

	"stemma/wal/storefs"
)

const (
	// punchBlockBytes is the unit of what can be given back.
	punchBlockBytes = 4096
	// minPunchBytes is the least that is given back in one run: less would cost the
	// file system more in extents than it wins.
	minPunchBytes = 32 << 10
)

// Punch gives back to the disk what no value in live needs: all whole blocks of
// 4 KiB in runs of 32 KiB and more, the header and a remap table excepted. live
// is sorted by offset; its ranges are disjoint or equal. The size of the file
// stays. What was punched before is not punched again, but for once after a
// start. It returns the bytes that became free. The caller has made sure that
// nobody can ask for a value that live lacks. A crash undoes at most the punch.
//
// Errors: ErrNoSegment, ErrClosed, ErrHeld for a segment that is open, or punched
// or rewritten by others; ErrCorrupt for a range that is not in the segment;
// errors.ErrUnsupported where holes cannot be; those of the disk. freed counts
// what was punched before the error.
func (v *Values) Punch(num FileNum, live []ValueRange) (freed int64, err error) {
	s, err := v.reclaim(num)
	if err != nil {
		return 0, fmt.Errorf("punch value segment: %w", err)
	}
	defer s.endReclaim()
	f, err := v.files.acquire(s)
	if err != nil {
		return 0, fmt.Errorf("punch value segment: %w", err)
	}
	defer v.files.release(f)
	if freed, err = v.punch(s, f, live); err != nil {
		return freed, fmt.Errorf("punch %s %w", v.segmentPath(s), err)
	}
	return freed, nil
}

// punch is Punch for whoever has the segment. Errors begin with an offset.
func (v *Values) punch(s *valueSegment, f *valueFile, live []ValueRange) (freed int64, err error) {
	runs, err := f.deadRuns(live)
	if err != nil {
		return 0, err
	}
	name, size := v.segmentPath(s), s.fileBytes()
	var punched int64
	for _, r := range runs {
		for _, p := range s.punched.missing(r) {
			if err = storefs.PunchHole(v.fs, name, int64(p.Offset), int64(p.Length)); err != nil {
				err = fmt.Errorf("at %d: %d bytes: %w", p.Offset, p.Length, err)
				break
			}
			s.punched = s.punched.add(p, size)
			punched += int64(p.Length)
		}
		if err != nil {
			break
		}
	}
	if punched == 0 {
		return 0, err
	}
	saved := s.saved.Load() + punched
	if info, statErr := v.fs.Stat(name); statErr != nil {
		err = errors.Join(err, fmt.Errorf("at 0: stat: %w", statErr))
	} else if allocated, ok := storefs.AllocatedBytes(info); ok {
		saved = size - allocated
	}
	return saved - s.saved.Swap(saved), err
}

// deadRuns returns the runs of whole blocks, long enough to be punched, that lie
// between the values of live, as offsets of the file. Errors begin with an offset.
func (f *valueFile) deadRuns(live []ValueRange) ([]ValueRange, error) {
	end := uint64(f.seg.size.Load())
	if f.remap != nil {
		end = f.remap.tableOffset
	}
	var runs []ValueRange
	from := uint64(valueHeaderBytes) // what lies before is needed, or in runs
	gap := func(to uint64) {
		first := roundUp(from, punchBlockBytes)
		if last := to - to%punchBlockBytes; last >= first+minPunchBytes {
			runs = append(runs, ValueRange{Offset: first, Length: last - first})
		}
	}
	var before ValueRange
	for _, r := range live {
		if r.Length == 0 || r == before {
			continue
		}
		if r.Offset < max(before.end(), valueHeaderBytes) || r.Length > 1<<62 || r.Offset > 1<<62 {
			return nil, fmt.Errorf("at %d: live range of %d bytes after %+v: %w", r.Offset, r.Length, before, ErrCorrupt)
		}
		before = r
		at := r.Offset
		if f.remap != nil {
			var err error
			if at, err = f.remap.locate(f.file, r); err != nil {
				return nil, err
			}
		}
		if at < from || at+r.Length > end {
			return nil, fmt.Errorf("at %d: live range of %d bytes, the values end at %d: %w", at, r.Length, end, ErrCorrupt)
		}
		gap(at)
		from = at + r.Length
	}
	gap(end)
	return runs, nil
}

// blockSet is a set of the blocks of a file, one bit for each: 32 KiB for 1 GiB.
type blockSet []uint64

// add adds the blocks of r, of a file of size bytes.
func (b blockSet) add(r ValueRange, size int64) blockSet {
	if b == nil {
		b = make(blockSet, size/punchBlockBytes/64+1)
	}
	for i := r.Offset / punchBlockBytes; i < r.end()/punchBlockBytes; i++ {
		b[i/64] |= 1 << (i % 64)
	}
	return b
}

// missing returns the parts of r, whole blocks, that are not in b.
func (b blockSet) missing(r ValueRange) []ValueRange {
	if b == nil {
		return []ValueRange{r}
	}
	var parts []ValueRange
	end := r.end() / punchBlockBytes
	for i := r.Offset / punchBlockBytes; i < end; {
		first := min(b.next(i, false), end)
		i = min(b.next(first, true), end)
		if i > first {
			parts = append(parts, ValueRange{Offset: first * punchBlockBytes, Length: (i - first) * punchBlockBytes})
		}
	}
	return parts
}

// next returns the first block from i on that is in the set, or is not; past all
// blocks when there is none.
func (b blockSet) next(i uint64, in bool) uint64 {
	for ; i/64 < uint64(len(b)); i = (i/64 + 1) * 64 {
		w := b[i/64]
		if !in {
			w = ^w
		}
		if w >>= i % 64; w != 0 {
			return i + uint64(bits.TrailingZeros64(w))
		}
	}
	return i
}
