package wal

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"stemma/wal/storefs"
)

// Recovery says what Open found.
type Recovery struct {
	LastLSN     LSN    // of the last commit, at least Options.ReplayFrom
	Commits     int    // replayed
	Groups      int    // accepted in the segments that were read
	Bytes       int64  // of those groups
	Clean       bool   // the log ends with the end mark of a Close, or is new
	TornAt      string // file:offset of a group that was begun and cut; "" when none was seen
	Incarnation uint64 // of the run that Open begins; of Check, the last one
}

// foundSegment is a segment file as recovery finds it.
type foundSegment struct {
	number uint64
	name   string // path
	size   int64
	used   bool // header is valid for it
	header segmentHeader
	// Of the segments that were read, else zero:
	last  LSN   // of its last commit, or the last before it
	bytes int64 // of accepted groups
}

// recovery reads a log and decides where it ends. It changes nothing on disk.
type recovery struct {
	o      Options
	open   func(name string) (vfs.File, error)
	replay func(lsn LSN, payload []byte) error

	files     []*foundSegment // by number
	parts     []string        // paths of files that were being filled
	used      []*foundSegment // of files
	start     int             // index in used of the first that is needed
	maxNumber uint64

	stream *stream
	tail   chain // last accepted group
	// Where the chain breaks in the current segment, and why.
	breakFile   string
	breakOffset int64
	breakReason string

	result Recovery
}

// run reads the log in o.Dir. Errors: *CorruptionError; of replay; of the file
// system.
func (r *recovery) run() error {
	if err := r.list(); err != nil {
		return err
	}
	for _, f := range r.files {
		if err := r.readHeader(f); err != nil {
			return err
		}
		if f.used {
			r.used = append(r.used, f)
		}
	}
	if err := r.begin(); err != nil {
		return err
	}
	// Files before the first needed segment are released or never were used;
	// so were unused ones between used ones.
	var later []*foundSegment
	read := r.used[r.start:]
	for _, f := range r.files {
		if !f.used && (len(r.used) == 0 || f.number > r.used[len(r.used)-1].number) {
			later = append(later, f)
		}
	}
	read = slices.Concat(read, later)
	names, sizes := make([]string, len(read)), make([]int64, len(read))
	for i, f := range read {
		names[i], sizes[i] = f.name, f.size
	}
	r.stream = newStream(names, sizes, r.open)
	defer r.stream.close()
	for i := range r.used[r.start:] {
		if err := r.readSegment(i); err != nil {
			return err
		}
	}
	if err := r.seekProof(read, len(r.used)-r.start); err != nil {
		return err
	}
	if r.o.DurableLSN > r.tail.last {
		return r.corrupt(fmt.Sprintf("the log ends at LSN %d, but LSN %d was durable", r.tail.last, r.o.DurableLSN))
	}
	r.tail.last = max(r.tail.last, r.o.ReplayFrom)
	r.result.LastLSN = r.tail.last
	return nil
}

// list finds the files of the log.
func (r *recovery) list() error {
	names, err := r.o.FS.List(r.o.Dir)
	if err != nil {
		return fmt.Errorf("list log directory: %w", err)
	}
	for _, name := range names {
		path := r.o.FS.PathJoin(r.o.Dir, name)
		if number, ok := parseName(name, partSuffix); ok {
			r.parts = append(r.parts, path)
			r.maxNumber = max(r.maxNumber, number)
		}
		if number, ok := ParseSegmentName(name); ok {
			r.files = append(r.files, &foundSegment{number: number, name: path})
			r.maxNumber = max(r.maxNumber, number)
		}
	}
	slices.SortFunc(r.files, func(a, b *foundSegment) int { return strings.Compare(a.name, b.name) })
	return nil
}

func (r *recovery) readHeader(f *foundSegment) error {
	file, err := r.open(f.name)
	if err != nil {
		return fmt.Errorf("open log segment: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("open log segment %s: %w", f.name, err)
	}
	f.size = info.Size()
	block := storefs.AlignedBlock(segmentHeaderBytes)
	n, err := file.ReadAt(block, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read header of log segment %s: %w", f.name, err)
	}
	f.header, err = decodeSegmentHeader(block[:n])
	switch {
	case err == nil:
		f.used = f.header.number == f.number
		r.maxNumber = max(r.maxNumber, f.header.number)
		r.result.Incarnation = max(r.result.Incarnation, f.header.incarnation)
	case errors.Is(err, ErrCorrupt):
		return &CorruptionError{File: f.name, Reason: err.Error()}
	}
	return nil
}

// begin finds the first segment that is needed and sets the chain before it. A
// crash may have brought back any of the segments before: all their commits are
// at or below ReplayFrom, and they are not looked at.
func (r *recovery) begin() error {
	r.breakFile, r.breakReason = r.o.Dir, "no segment"
	if len(r.used) == 0 {
		r.result.Clean = len(r.files) == 0
		return nil
	}
	for i, f := range r.used {
		if f.header.firstLSN-1 <= r.o.ReplayFrom {
			r.start = i
		}
	}
	h := &r.used[r.start].header
	if h.firstLSN-1 > r.o.ReplayFrom {
		return &CorruptionError{File: r.used[r.start].name, Reason: fmt.Sprintf(
			"the log begins after LSN %d, but is needed from LSN %d on", h.firstLSN-1, r.o.ReplayFrom)}
	}
	r.tail = chain{sequence: h.firstSequence - 1, crc: h.prevCRC, incarnation: h.prevIncarnation, last: h.firstLSN - 1}
	return nil
}

// readSegment follows the chain through the i-th segment of the stream, up to
// where the next segment says that it ends.
func (r *recovery) readSegment(i int) error {
	used := r.used[r.start:]
	f, h := used[i], &used[i].header
	if h.firstSequence != r.tail.sequence+1 || h.prevCRC != r.tail.crc || h.prevIncarnation != r.tail.incarnation ||
		h.firstLSN-1 < r.tail.last || (i > 0 && h.incarnation < used[i-1].header.incarnation) {
		return &CorruptionError{File: f.name, Reason: fmt.Sprintf(
			"the segment continues after %+v, but the log before it ends with %+v", *h, r.tail)}
	}
	r.tail.last = h.firstLSN - 1
	var next *foundSegment
	if i+1 < len(used) {
		next = used[i+1]
	}
	if err := r.stream.open(i); err != nil {
		return err
	}
	r.result.Clean = false
	broken := false
	for !broken && (next == nil || r.tail.sequence+1 < next.header.firstSequence) {
		n, err := r.readGroup(f)
		if err != nil {
			return err
		}
		f.bytes += n
		broken = n == 0
	}
	f.last = r.tail.last
	if broken && next != nil {
		return r.corrupt(fmt.Sprintf("%s, but segment %s continues at group %d",
			r.breakReason, next.name, next.header.firstSequence))
	}
	return nil
}

func (r *recovery) corrupt(reason string) error {
	return &CorruptionError{File: r.breakFile, Offset: r.breakOffset, Reason: reason}
}

// readGroup accepts the group at the stream's position if it continues the
// chain, replays it, and returns its size; zero at the break.
func (r *recovery) readGroup(f *foundSegment) (int64, error) {
	r.breakFile, r.breakOffset = f.name, r.stream.off
	head, err := r.stream.peek(groupHeaderBytes)
	if err != nil {
		return 0, err
	}
	h, err := peekGroupHeader(head)
	if err != nil {
		return r.breaks("no group")
	}
	if h.incarnation != f.header.incarnation || h.sequence != r.tail.sequence+1 {
		return r.breaks(fmt.Sprintf("group %d of incarnation %d where group %d of %d is wanted",
			h.sequence, h.incarnation, r.tail.sequence+1, f.header.incarnation))
	}
	n := h.bytes()
	p, err := r.peekGroup(f, n)
	if err != nil {
		return 0, err
	}
	if int64(len(p)) < n {
		r.result.TornAt = fmt.Sprintf("%s:%d", f.name, r.stream.off)
		return r.breaks(fmt.Sprintf("group %d of %d bytes does not fit", h.sequence, n))
	}
	switch err := h.verify(p); {
	case errors.Is(err, errInvalid):
		r.result.TornAt = fmt.Sprintf("%s:%d", f.name, r.stream.off)
		return r.breaks(err.Error())
	case err != nil:
		return 0, r.corrupt(err.Error())
	case h.prevCRC != r.tail.crc:
		return r.breaks(fmt.Sprintf("group %d does not follow the group before it", h.sequence))
	}
	if err := r.acceptGroup(&h, p); err != nil {
		return 0, err
	}
	r.stream.skip(n)
	return n, nil
}

// peekGroup returns the n bytes of a group at the stream's position, fewer when
// they do not fit the segment.
func (r *recovery) peekGroup(f *foundSegment, n int64) ([]byte, error) {
	if n > f.size-r.stream.off {
		return nil, nil // what the header says is not to be believed yet
	}
	return r.stream.peek(n)
}

func (r *recovery) breaks(reason string) (int64, error) {
	r.breakReason = reason
	return 0, nil
}

// acceptGroup replays the verified group p.
func (r *recovery) acceptGroup(h *groupHeader, p []byte) error {
	if (!h.end && h.first <= r.tail.last) || (h.end && h.first != r.tail.last) {
		return r.corrupt(fmt.Sprintf("group %d begins with LSN %d after LSN %d", h.sequence, h.first, r.tail.last))
	}
	var failed error
	err := h.eachCommit(h.joinPayload(p), func(lsn LSN, payload []byte) error {
		if lsn <= r.o.ReplayFrom || r.replay == nil {
			return nil
		}
		r.result.Commits++
		if err := r.replay(lsn, payload); err != nil {
			failed = fmt.Errorf("replay commit %d: %w", lsn, err)
		}
		return failed
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return r.corrupt(err.Error())
	}
	r.tail = chain{sequence: h.sequence, crc: h.crc, incarnation: h.incarnation, last: h.last}
	r.result.Groups++
	r.result.Bytes += h.bytes()
	r.result.Clean = h.end
	return nil
}

// seekProof looks behind the break, in what is left of the last segment and in
// the unused files after it (files[from:]), for a group that can only have been
// written when the missing one was durable.
func (r *recovery) seekProof(files []*foundSegment, from int) error {
	broken := r.tail.sequence + 1
	if len(r.used) == 0 {
		broken = 0 // the first header was durable before any group
	}
	if from > 0 {
		if err := r.seekProofIn(files[from-1], broken); err != nil {
			return err
		}
	}
	for i := from; i < len(files); i++ {
		if err := r.stream.open(i); err != nil {
			return err
		}
		if err := r.seekProofIn(files[i], broken); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) seekProofIn(f *foundSegment, broken uint64) error {
	for {
		head, err := r.stream.peek(blockBytes)
		if err != nil {
			return err
		}
		if len(head) < blockBytes {
			return nil
		}
		h, err := peekGroupHeader(head)
		if err == nil && h.incarnation >= r.tail.incarnation && h.sequence > broken && h.durable >= broken {
			p, err := r.peekGroup(f, h.bytes())
			if err != nil {
				return err
			}
			if int64(len(p)) == h.bytes() && h.verify(p) == nil {
				return r.corrupt(fmt.Sprintf("%s, but group %d at %s:%d proves that group %d was durable",
					r.breakReason, h.sequence, f.name, r.stream.off, max(broken, 1)))
			}
		}
		r.stream.skip(blockBytes)
	}
}

// Check reads the log in o.Dir as Open does and replays it, but changes nothing.
// The store must not be open. Errors: as of Open.
func Check(o Options, replay func(lsn LSN, payload []byte) error) (Recovery, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Recovery{}, err
	}
	r := recovery{o: o, replay: replay, open: func(name string) (vfs.File, error) {
		return o.FS.Open(name, vfs.SequentialReadsOption)
	}}
	err = r.run()
	return r.result, err
}
