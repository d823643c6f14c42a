package object

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"

	"stemma/layers"
)

// pageSeal encrypts the pages of a file, each record by itself: AES-256-GCM under a key that is derived of the data
// key and of 16 random bytes, so that no number of writes wears it out. A record opens as what it is, in its place of
// its file, only. What it is encrypted to is as long as it was; salt and tag are the end of its Meta.
type pageSeal struct {
	key  *dataKey
	file fileID
}

// pageLockBytes is by how much the Meta of a sealed record is longer: salt and tag.
const pageLockBytes = partSaltBytes + sealTagBytes

// pageSeal returns what encrypts the pages of an entry, which is unlocked; nil: they are in the clear.
func (e *Entry) pageSeal() *pageSeal {
	switch {
	case e.crypt == nil:
		return nil
	case e.crypt.key == nil:
		panic("BUG: pages of an entry that is locked")
	case e.crypt.sealedFor != fileID{}:
		return &pageSeal{e.crypt.key, e.crypt.sealedFor}
	}
	return &pageSeal{e.crypt.key, e.pages.id}
}

// movePages makes id the file of an entry whose records become those of that file as they are: what is sealed stays bound to the file
// that it was sealed for.
func (e *Entry) movePages(id fileID) {
	if c := e.crypt; c != nil {
		if c.sealedFor == (fileID{}) {
			c.sealedFor = e.pages.id
		}
		if c.sealedFor == id {
			c.sealedFor = fileID{}
		}
	}
	e.pages.id = id
}

// place is what a sealed record is bound to: file, page, kind, and what else its Meta has.
func (s *pageSeal) place(page uint64, kind layers.Kind, meta []byte) []byte {
	p := append(s.file.appendPageKey(make([]byte, 0, pageKeyBytes+1+len(meta)), page), byte(kind))
	return append(p, meta...)
}

// seal returns the Meta and the body of a record; p stays as it is.
func (s *pageSeal) seal(page uint64, kind layers.Kind, meta, p []byte) (locked, sealed []byte) {
	locked = make([]byte, len(meta)+partSaltBytes, len(meta)+pageLockBytes)
	copy(locked, meta)
	salt := locked[len(meta):]
	rand.Read(salt) // never fails
	nonce := blockNonce(0)
	sealed = s.key.cipher(purposePage, 0, salt).Seal(make([]byte, 0, len(p)+sealTagBytes), nonce[:], p, s.place(page, kind, meta))
	return append(locked, sealed[len(p):]...), sealed[:len(p):len(p)]
}

// open is the inverse of seal. Errors: ErrCorrupt.
func (s *pageSeal) open(page uint64, kind layers.Kind, locked, sealed []byte) ([]byte, error) {
	meta, lock, err := splitPageLock(locked)
	if err != nil {
		return nil, err
	}
	nonce := blockNonce(0)
	aead := s.key.cipher(purposePage, 0, lock[:partSaltBytes])
	p := slices.Concat(sealed, lock[partSaltBytes:])
	if p, err = aead.Open(p[:0], nonce[:], p, s.place(page, kind, meta)); err != nil {
		return nil, fmt.Errorf("sealed page does not open: %w", ErrCorrupt)
	}
	return p, nil
}

// splitPageLock parts the Meta of a sealed record: what one in the clear has, and salt and tag. Errors: ErrCorrupt.
func splitPageLock(locked []byte) (meta, lock []byte, err error) {
	n := len(locked) - pageLockBytes
	if n < 0 {
		return nil, nil, corrupt("sealed page with a meta of %d bytes", len(locked))
	}
	return locked[:n], locked[n:], nil
}

// sealedBody is the body of a base that is encrypted: what its runs need of sealed streams, which are those of
// the body that the object had, or that a copy was given.
type sealedBody struct {
	streams []sealedStream
	// key opens them; nil: nobody has asked for it yet.
	key *dataKey
	// plain is where each stream begins in the bytes of all, stored where it does in what they are sealed to. The last is where all end.
	plain, stored []uint64
	// spans are what of that the body has, one behind the other.
	spans []storedSpan
}

// storedSpan says that [from, to) of the sealed streams lies at at of the body.
type storedSpan struct{ from, to, at uint64 }

// maxBaseStreams bounds the streams of one base; a copy beyond is written anew.
const maxBaseStreams = 2 * MaxPartNumber

// copiedPart is the number that what a copy of pages writes is sealed under, as a part: no upload has it.
const copiedPart = MaxPartNumber + 1

// newSealedBody says where in a body the streams lie of which runs need bytes. Errors: ErrCorrupt.
func newSealedBody(streams []sealedStream, runs []run) (*sealedBody, error) {
	b := &sealedBody{streams: streams, plain: make([]uint64, 1, len(streams)+1), stored: make([]uint64, 1, len(streams)+1)}
	for i := range streams {
		b.plain = append(b.plain, b.plain[i]+streams[i].size)
		b.stored = append(b.stored, b.stored[i]+streams[i].stored())
	}
	var spans []storedSpan
	for _, r := range runs {
		touched, err := b.touched(r.body, r.len)
		if err != nil {
			return nil, err
		}
		spans = append(spans, touched...)
	}
	slices.SortFunc(spans, func(x, y storedSpan) int { return cmp.Compare(x.from, y.from) })
	var at uint64
	for _, s := range spans {
		if k := len(b.spans) - 1; k >= 0 && s.from <= b.spans[k].to {
			last := &b.spans[k]
			last.to = max(last.to, s.to)
			continue
		}
		b.spans = append(b.spans, s)
	}
	for i := range b.spans {
		b.spans[i].at = at
		at += b.spans[i].to - b.spans[i].from
	}
	return b, nil
}

// size returns how many bytes the streams are.
func (b *sealedBody) size() uint64 { return b.plain[len(b.streams)] }

// streamOf returns the stream that byte off of all is in.
func (b *sealedBody) streamOf(off uint64) int {
	i, ok := slices.BinarySearch(b.plain, off)
	if !ok {
		return i - 1
	}
	for i+1 < len(b.streams) && b.plain[i+1] == off { // empty ones have no byte
		i++
	}
	return min(i, len(b.streams)-1)
}

// around returns the streams that [off, off+n) needs, and the number of the first. Unless it ends where all do, the last of them has bytes
// behind it, so that nobody takes it for the end.
func (b *sealedBody) around(off, n uint64) (streams []sealedStream, first int) {
	first = b.streamOf(off)
	if off+n == b.size() {
		return b.streams[first:], first
	}
	return b.streams[first : b.streamOf(off+n)+1], first
}

// touched returns what of the sealed streams [off, off+n) needs. Errors: ErrCorrupt.
func (b *sealedBody) touched(off, n uint64) ([]storedSpan, error) {
	if off > b.size() || n > b.size()-off {
		return nil, corrupt("base of pages of %d bytes ends before %d", b.size(), off+n)
	}
	streams, i := b.around(off, n)
	r, err := locateSealed(streams, off-b.plain[i], n)
	if err != nil {
		return nil, err
	}
	spans := []storedSpan{{from: b.stored[i] + r.begin, to: b.stored[i] + r.end}}
	if r.saltApart {
		spans = append(spans, storedSpan{from: b.stored[i] + r.salt, to: b.stored[i] + r.salt + partSaltBytes})
	}
	return spans, nil
}

// at returns where in the body [off, off+n) of the sealed streams lies. Errors: ErrCorrupt.
func (b *sealedBody) at(off, n uint64) (uint64, error) {
	i, found := slices.BinarySearchFunc(b.spans, off, func(s storedSpan, off uint64) int {
		switch {
		case s.to <= off:
			return -1
		case s.from > off:
			return 1
		}
		return 0
	})
	if !found || b.spans[i].to-off < n {
		return 0, corrupt("base of pages lacks [%d, %d) of what is sealed", off, off+n)
	}
	return b.spans[i].at + off - b.spans[i].from, nil
}

// appendSealedRuns appends the Meta of an encrypted base: version 2, how many streams, per stream the number of its
// part and its size, then per run distance and length as appendRuns has them, and where its bytes are in those of all
// streams. All are uvarints.
func appendSealedRuns(dst []byte, streams []sealedStream, runs []run) []byte {
	dst = binary.AppendUvarint(append(dst, sealedBaseVersion), uint64(len(streams)))
	for i := range streams {
		dst = binary.AppendUvarint(dst, uint64(streams[i].part))
		dst = binary.AppendUvarint(dst, streams[i].size)
	}
	var at uint64
	for _, r := range runs {
		dst = binary.AppendUvarint(dst, r.off-at)
		dst = binary.AppendUvarint(dst, r.len)
		dst = binary.AppendUvarint(dst, r.body)
		at = r.end()
	}
	return dst
}

// decodeSealedRuns is the inverse of appendSealedRuns. Errors: ErrCorrupt.
func decodeSealedRuns(p []byte) (b *sealedBody, runs []run, err error) {
	bad := corrupt("encrypted base of pages with a meta of %d bytes", len(p))
	if len(p) == 0 || p[0] != sealedBaseVersion || len(p) > 3*binary.MaxVarintLen64*(maxBaseRuns+maxBaseStreams) {
		return nil, nil, bad
	}
	n, p, ok := takeUvarint(p[1:])
	if !ok || n == 0 || n > maxBaseStreams {
		return nil, nil, bad
	}
	streams := make([]sealedStream, n)
	var total uint64
	for i := range streams {
		var part uint64
		if part, p, ok = takeUvarint(p); ok {
			streams[i].size, p, ok = takeUvarint(p)
		}
		if !ok || part > copiedPart || streams[i].size > maxObjectBytes-total {
			return nil, nil, bad
		}
		streams[i].part = int(part)
		total += streams[i].size
	}
	var at uint64
	for len(p) > 0 {
		var v [3]uint64
		for i := range v {
			if v[i], p, ok = takeUvarint(p); !ok {
				return nil, nil, bad
			}
		}
		gap, n, body := v[0], v[1], v[2]
		if n == 0 || gap > maxObjectBytes-at || n > maxObjectBytes-at-gap || body > total || n > total-body {
			return nil, nil, bad
		}
		if k := len(runs) - 1; k >= 0 && gap == 0 && runs[k].body+runs[k].len == body {
			return nil, nil, bad
		}
		runs = append(runs, run{off: at + gap, len: n, body: body})
		at += gap + n
	}
	if len(runs) == 0 {
		return nil, nil, bad
	}
	b, err = newSealedBody(streams, runs)
	return b, runs, err
}
