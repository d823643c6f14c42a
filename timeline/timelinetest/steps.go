package timelinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// choice is one kind of step with its weight.
type choice struct {
	weight int
	run    func(m *Model) error
	rough  bool // not in a calm run
}

var choices = []choice{
	{30, (*Model).stepCommit, false},
	{8, (*Model).stepStream, false},
	{5, (*Model).stepCopy, false},
	{6, (*Model).stepUpdate, false},
	{4, (*Model).stepExclusive, false},
	{1, (*Model).stepAbort, false},
	{3, (*Model).stepCreate, false},
	{8, (*Model).stepFork, false},
	{2, (*Model).stepRename, false},
	{2, (*Model).stepProperties, false},
	{3, (*Model).stepDelete, false},
	{2, (*Model).stepPin, false},
	{1, (*Model).stepUnpin, false},
	{1, (*Model).stepLease, false},
	{3, (*Model).flush, false},
	{2, (*Model).stepCompact, false},
	{4, (*Model).stepWindow, false},
	{2, (*Model).stepUndelete, false},
	{1, (*Model).stepDetach, false},
	{3, (*Model).stepCollect, false},
	{2, (*Model).CollectFull, false},
	{1, (*Model).stepTooLarge, false},
	{2, (*Model).stepFuture, false},
	{2, (*Model).stepHoldView, false},
	{2, (*Model).stepHoldReader, false},
	{1, (*Model).stepAbandonUpload, false},
	{1, (*Model).stepClock, false},
	{1, (*Model).reopen, false},
	{1, (*Model).stepCrash, true},
	{3, (*Model).stepArmCrash, true},
	{2, (*Model).stepArmStep, true},
	{4, (*Model).stepArmFault, true},
}

// next picks a step and makes it.
func (m *Model) next() error {
	if len(m.oracle.names) == 0 && m.rng.IntN(2) == 0 {
		return m.stepCreate()
	}
	total := 0
	for _, c := range choices {
		if !c.rough || !m.cfg.Calm {
			total += c.weight
		}
	}
	n := m.rng.IntN(total)
	for _, c := range choices {
		if c.rough && m.cfg.Calm {
			continue
		}
		if n -= c.weight; n < 0 {
			return c.run(m)
		}
	}
	panic("BUG: weights")
}

// maxBuckets is how many buckets live at once, about.
const maxBuckets = 14

func (m *Model) anyName() string { return fmt.Sprintf("bucket-%02d", m.rng.IntN(24)) }

// newName picks a name that is free, most of the time.
func (m *Model) newName() string {
	name := m.anyName()
	for m.oracle.names[name] != nil && m.rng.IntN(6) != 0 {
		name = m.anyName()
	}
	return name
}

// bucket picks a living bucket, at times a name that may mean nothing.
func (m *Model) bucket() string {
	names := m.oracle.Names()
	if len(names) == 0 || m.rng.IntN(25) == 0 {
		return m.anyName()
	}
	return names[m.rng.IntN(len(names))]
}

// living picks a living bucket, false if there is none.
func (m *Model) living() (string, bool) {
	names := m.oracle.Names()
	if len(names) == 0 {
		return "", false
	}
	return names[m.rng.IntN(len(names))], true
}

// retained picks an LSN to read name at; zero for the tip, or a name unknown.
func (m *Model) retained(name string) wal.LSN {
	if m.oracle.names[name] == nil || m.rng.IntN(3) == 0 {
		return 0
	}
	if m.rng.IntN(30) == 0 {
		return 1 + wal.LSN(m.rng.IntN(1000)) // before everything
	}
	if m.rng.IntN(3) == 0 {
		return m.checker().SomeLSN(name)
	}
	return m.checker().RetainedLSN(name)
}

func (m *Model) namespace() layers.Namespace {
	switch m.rng.IntN(8) {
	case 0, 1, 2:
		return layers.NamespaceObjects
	case 3, 4:
		return layers.NamespacePages
	}
	return namespaces[m.rng.IntN(len(namespaces))]
}

// newContent returns a content nobody has used, of n bytes.
func (m *Model) newContent(n int64) Content {
	m.content++
	if n == 0 {
		return nil
	}
	return Content{{Seed: m.content, Len: n}}
}

// meta returns a meta that no other write has.
func (m *Model) meta() string {
	s := fmt.Sprintf("meta-%d", m.content)
	if m.rng.IntN(20) == 0 {
		s += string(bytes.Repeat([]byte{'.'}, m.rng.IntN(2000)))
	}
	return s
}

// kind picks what a write of a namespace is: only pages have deltas.
func (m *Model) kind(ns layers.Namespace) layers.Kind {
	if ns == layers.NamespacePages && m.rng.IntN(3) != 0 {
		return layers.KindDelta
	}
	return layers.KindValue
}

// put is a write with an inline body.
func (m *Model) put() Write {
	ns := m.namespace()
	var n int64
	switch m.rng.IntN(6) {
	case 0:
	case 1, 2, 3:
		n = m.rng.Int64N(200)
	case 4:
		n = m.rng.Int64N(1500)
	default:
		n = 1000 + m.rng.Int64N(5000)
	}
	c := m.newContent(n)
	w := Write{Kind: m.kind(ns), NS: ns, Key: randomKey(m.rng, ns), Meta: m.meta(), Body: c}
	w.encoded = layers.AppendInlineBody(nil, c.Bytes())
	return w
}

// randomWrites fills at most half of a commit.
func (m *Model) randomWrites() []Write {
	n := 1
	switch m.rng.IntN(4) {
	case 0:
		n = 2 + m.rng.IntN(30)
	case 1:
		n = 2 + m.rng.IntN(4)
	}
	var writes []Write
	size := 0
	for len(writes) < n && size < 14<<10 {
		ns := m.namespace()
		var w Write
		switch m.rng.IntN(12) {
		case 0, 1, 2:
			w = Write{Kind: layers.KindTombstone, NS: ns, Key: randomKey(m.rng, ns)}
		case 3:
			lo, hi := randomBounds(m.rng, ns)
			if m.rng.IntN(3) != 0 { // wide ones leave little
				hi = lo + "\x00\x00"
			}
			w = Write{Kind: layers.KindRangeTombstone, NS: ns, Key: lo, End: hi}
		default:
			w = m.put()
		}
		size += len(w.Key) + len(w.End) + len(w.Meta) + len(w.encoded)
		writes = append(writes, w)
	}
	return writes
}

func (m *Model) stepCommit() error {
	return m.do(&Op{Kind: OpCommit, Bucket: m.bucket(), Writes: m.randomWrites()}, nil)
}

// stepStream commits values that were streamed into value segments.
func (m *Model) stepStream() error {
	op := &Op{Kind: OpCommit, Bucket: m.bucket()}
	for range 1 + m.rng.IntN(2) {
		ns := m.namespace()
		w := Write{Kind: m.kind(ns), NS: ns, Key: randomKey(m.rng, ns)}
		var n int64
		switch m.rng.IntN(8) {
		case 0:
		case 1, 2:
			n = m.rng.Int64N(100)
		case 3, 4, 5:
			n = m.rng.Int64N(10 << 10)
		case 6:
			n = m.rng.Int64N(150 << 10)
		default:
			n = m.rng.Int64N(600 << 10)
		}
		w.Body = m.newContent(n)
		w.Meta = m.meta()
		release, err := m.stream(&w, m.rng.IntN(4) == 0)
		if err != nil {
			if m.excused(err) {
				return nil
			}
			return err
		}
		defer release()
		op.Writes = append(op.Writes, w)
	}
	return m.do(op, nil)
}

// stream writes the body of w into value segments, and with spill also the
// list of its extents. release drops the holds.
func (m *Model) stream(w *Write, spill bool) (release func(), err error) {
	ext, release, err := m.upload(w.Body.Bytes())
	if err != nil {
		return nil, err
	}
	w.encoded = layers.AppendExtentsBody(nil, ext)
	if spill && len(ext) > 0 {
		list, releaseList, err := m.upload(w.encoded)
		if err != nil {
			release()
			return nil, err
		}
		segs, err := w.encoded.Segments(nil)
		if err != nil || len(list) != 1 {
			return nil, fmt.Errorf("spill %d extents: list of %d, %w", len(ext), len(list), err)
		}
		slices.Sort(segs)
		w.encoded = layers.AppendSpilledBody(nil, list[0], uint64(w.Body.Len()), slices.Compact(segs))
		releaseData := release
		release = func() { releaseData(); releaseList() }
	}
	w.segments, err = w.encoded.Segments(nil)
	return release, err
}

// upload streams p as one value.
func (m *Model) upload(p []byte) (_ []layers.Extent, release func(), err error) {
	w, err := m.store.Values().NewWriter(context.Background())
	if err != nil {
		return nil, nil, err
	}
	for len(p) > 0 && err == nil {
		n := min(len(p), 1+m.rng.IntN(64<<10))
		_, err = w.Write(p[:n])
		p = p[n:]
	}
	var ext []layers.Extent
	if err == nil {
		ext, err = w.Finish()
	}
	if err != nil {
		return nil, nil, errors.Join(err, w.Close())
	}
	return ext, func() {
		if err := w.Close(); err != nil {
			panic("BUG: close of a finished writer: " + err.Error())
		}
	}, nil
}

// stepCopy puts pieces of stored bodies together under another key, by handle.
func (m *Model) stepCopy() error {
	w := Write{Kind: layers.KindValue, NS: layers.NamespaceObjects, Key: randomKey(m.rng, layers.NamespaceObjects)}
	var ext []layers.Extent
	for range 1 + m.rng.IntN(3) {
		got, content, release, err := m.pickStored()
		if err != nil {
			if m.excused(err) {
				return nil
			}
			return err
		}
		if release == nil {
			continue
		}
		defer release()
		n := content.Len()
		off := m.rng.Int64N(n)
		if m.rng.IntN(2) == 0 {
			off = 0
		}
		n -= off
		if m.rng.IntN(2) == 0 {
			n = 1 + m.rng.Int64N(n)
		}
		ext = append(ext, sliceExtents(got, uint64(off), uint64(n))...)
		w.Body = append(w.Body, content.Slice(off, n)...)
	}
	if len(ext) == 0 {
		return nil
	}
	m.content++
	w.Meta = m.meta()
	w.encoded = layers.AppendExtentsBody(nil, ext)
	var err error
	if w.segments, err = w.encoded.Segments(nil); err != nil {
		return err
	}
	m.count.Add("copy by handle")
	return m.do(&Op{Kind: OpCommit, Bucket: m.bucket(), Writes: []Write{w}}, nil)
}

// pickStored finds a body in value segments and holds them; a nil release
// says that there was none.
func (m *Model) pickStored() (_ []layers.Extent, want Content, release func(), err error) {
	name, ok := m.living()
	if !ok {
		return nil, nil, nil, nil
	}
	l, at := m.oracle.names[name].line, m.checker().RetainedLSN(name)
	from, lsn := l.resolve(at)
	ns := layers.NamespaceObjects
	found := from.Scan(lsn, ns, "", "")
	if len(found) == 0 {
		return nil, nil, nil, nil
	}
	f := found[m.rng.IntN(len(found))]
	v, err := m.store.View(context.Background(), name, at)
	if err != nil {
		return nil, nil, nil, err
	}
	defer v.Close()
	rec, err := v.Get(ns, []byte(f.Key))
	if err != nil {
		return nil, nil, nil, err
	}
	if rec.Body.Tag() == layers.BodyInline || f.Body.Len() == 0 {
		return nil, nil, nil, nil
	}
	ext, err := m.store.Values().LoadExtents(rec.Body, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	var segs []layers.FileNum
	for i := range ext {
		segs = append(segs, ext[i].Segment)
	}
	release, err = m.store.Values().Hold(segs)
	return ext, f.Body, release, err
}

// sliceExtents returns the extents of bytes [off, off+n).
func sliceExtents(ext []layers.Extent, off, n uint64) []layers.Extent {
	var out []layers.Extent
	for _, e := range ext {
		if off >= e.Len {
			off -= e.Len
			continue
		}
		e.Skip, e.Len = e.Skip+off, min(e.Len-off, n)
		off = 0
		if n -= e.Len; e.Len > 0 {
			out = append(out, e)
		}
	}
	return out
}

// stepUpdate writes keys that it has read under their locks.
func (m *Model) stepUpdate() error {
	op := &Op{Kind: OpUpdate, Bucket: m.bucket()}
	if m.rng.IntN(8) != 0 { // otherwise it writes nothing
		op.Writes = m.randomWrites()
	}
	return m.do(op, func(tx *timeline.Tx) error {
		b := m.oracle.names[op.Bucket]
		if b == nil {
			return errors.New("runs on a bucket that does not exist")
		}
		for i := range op.Writes {
			k := pointKey{op.Writes[i].NS, op.Writes[i].Key}
			if err := m.checker().point(tx, b.line, m.oracle.Last(), k, m.rng.IntN(4) == 0); err != nil {
				return err
			}
		}
		return nil
	})
}

// stepExclusive empties or refills a range that it has scanned.
func (m *Model) stepExclusive() error {
	op := &Op{Kind: OpExclusive, Bucket: m.bucket(), Writes: m.randomWrites()}
	return m.do(op, func(tx *timeline.Tx) error {
		b := m.oracle.names[op.Bucket]
		if b == nil {
			return errors.New("runs on a bucket that does not exist")
		}
		ns := m.namespace()
		return m.checker().walk(tx, ns, b.line.Scan(m.oracle.Last(), ns, "", ""), "", "", true)
	})
}

var errAbort = errors.New("timelinetest: the transaction changed its mind")

// stepAbort ends a transaction with an error: nothing may come of it.
func (m *Model) stepAbort() error {
	name, ok := m.living()
	if !ok {
		return nil
	}
	op := &Op{Kind: []OpKind{OpUpdate, OpExclusive}[m.rng.IntN(2)], Bucket: name, Writes: m.randomWrites()}
	execute(m.store, op, func(tx *timeline.Tx) error {
		addTo(&tx.Batch, op.Writes)
		return errAbort
	})
	m.note("aborted %s", op)
	if !errors.Is(op.Err, errAbort) && !m.excused(op.Err) {
		return fmt.Errorf("%s: want the error of the function", op)
	}
	m.count.Add("abort a transaction")
	return m.unchanged("aborted transaction")
}

// unchanged checks that nothing was committed.
func (m *Model) unchanged(after string) error {
	if v := m.store.Visible(); v != m.oracle.Last() {
		return fmt.Errorf("%s: the visible LSN went from %d to %d", after, m.oracle.Last(), v)
	}
	return nil
}

func (m *Model) stepCreate() error {
	if len(m.oracle.names) >= maxBuckets {
		return m.stepDelete()
	}
	op := &Op{Kind: OpCreate, Bucket: m.newName(), Props: m.properties()}
	if m.rng.IntN(3) == 0 {
		op.Writes = m.randomWrites()
	}
	return m.do(op, nil)
}

func (m *Model) stepFork() error {
	if len(m.oracle.names) >= maxBuckets {
		return m.stepDelete()
	}
	op := &Op{Kind: OpFork, Bucket: m.bucket(), Props: m.properties()}
	op.At = m.retained(op.Bucket)
	n := 1
	if m.rng.IntN(4) == 0 {
		n = m.rng.IntN(5)
	}
	for range n {
		op.Names = append(op.Names, m.newName())
	}
	if n == 1 && m.rng.IntN(4) == 0 {
		op.Writes = m.randomWrites()
	}
	if b := m.oracle.names[op.Bucket]; b != nil && m.oracle.Expect(op) == nil {
		switch {
		case op.At == 0:
			m.count.Add("fork at the tip")
		case op.At < b.line.birth:
			m.count.Add("fork below the birth of the source")
		default:
			m.count.Add("fork in the past")
		}
		if len(op.Writes) > 0 {
			m.count.Add("fork with records of its own")
		}
		if len(op.Names) > 1 {
			m.count.Add("several forks in one commit")
		}
		if b.line.depth > 0 {
			m.count.Add("fork of a fork")
		}
		m.count.Max("deepest fork", int64(b.line.depth+1))
	}
	return m.do(op, nil)
}

// properties picks attributes: mostly none.
func (m *Model) properties() (p timeline.Properties) {
	switch m.rng.IntN(6) {
	case 0:
		p.Attrs = fmt.Appendf(nil, "attributes %d", m.step)
	case 1:
		p.Attrs = bytes.Repeat([]byte("a"), m.rng.IntN(3000))
	}
	return p
}

func (m *Model) stepProperties() error {
	return m.do(&Op{Kind: OpProperties, Bucket: m.bucket(), Props: m.properties()}, nil)
}

func (m *Model) stepRename() error {
	return m.do(&Op{Kind: OpRename, Bucket: m.bucket(), To: m.newName()}, nil)
}

func (m *Model) stepDelete() error {
	op := &Op{Kind: OpDelete, Bucket: m.bucket(), Force: m.rng.IntN(3) != 0}
	if m.rng.IntN(2) == 0 {
		op.Undo = []time.Duration{-1, 5 * time.Millisecond, 30 * time.Millisecond, time.Hour}[m.rng.IntN(4)]
	}
	if b := m.oracle.names[op.Bucket]; b != nil && b.line.forks > 0 && m.oracle.Expect(op) == nil {
		m.count.Add("delete a bucket with living forks")
	}
	return m.do(op, nil)
}

func (m *Model) stepPin() error {
	op := &Op{Kind: OpPin, Bucket: m.bucket(), Label: fmt.Sprintf("label %d", m.step)}
	op.At = m.retained(op.Bucket)
	return m.do(op, nil)
}

func (m *Model) stepUnpin() error {
	var ids []timeline.PinID
	for id := range m.oracle.pins {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	op := &Op{Kind: OpUnpin}
	if op.Pin.ID = timeline.PinID(m.rng.IntN(50)); len(ids) > 0 && m.rng.IntN(8) != 0 {
		op.Pin.ID = ids[m.rng.IntN(len(ids))]
	}
	return m.do(op, nil)
}

func (m *Model) stepLease() error {
	name, ok := m.living()
	if !ok {
		return nil
	}
	at := m.checker().RetainedLSN(name)
	if m.rng.IntN(3) == 0 || at == 0 {
		at = m.checker().SomeLSN(name)
	}
	ttl := time.Duration(m.rng.IntN(100)) * time.Millisecond
	l := m.oracle.names[name].line
	want := m.oracle.expectAt(l, at)
	err := m.store.Lease(name, at, ttl)
	m.note("lease %q at %d for %v: %v", name, at, ttl, err)
	if !meets(err, want) {
		return fmt.Errorf("lease %q at %d: %w; want %w", name, at, err, want)
	}
	if err == nil {
		m.count.Add("lease")
		m.oracle.lease(l, at, ttl)
	} else {
		m.count.Add("lease refused")
	}
	return nil
}

// flush moves everything into layers.
func (m *Model) flush() error {
	m.lastFlush = m.step
	m.note("flush")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := m.store.Flush(ctx)
	if err != nil && !m.excused(err) {
		return errors.Join(fmt.Errorf("flush: %w", err), m.watch.Err())
	}
	m.count.Add("flush")
	return nil
}

func (m *Model) stepCompact() error {
	m.note("compact")
	if err := m.store.Compact(); err != nil && !m.excused(err) {
		return err
	}
	m.count.Add("compact")
	m.countLevels()
	return nil
}

func (m *Model) stepTooLarge() error {
	name, ok := m.living()
	if !ok {
		return nil
	}
	op := &Op{Kind: OpCommit, Bucket: name}
	if m.rng.IntN(2) == 0 {
		w := Write{Kind: layers.KindValue, NS: layers.NamespaceObjects, Key: "too large", Body: m.newContent(40 << 10)}
		w.encoded = layers.AppendInlineBody(nil, w.Body.Bytes())
		op.Writes = []Write{w}
	} else {
		op.Writes = []Write{{Kind: layers.KindTombstone, NS: layers.NamespaceObjects, Key: string(make([]byte, layers.MaxUserKeyBytes+1))}}
	}
	execute(m.store, op, nil)
	m.note("too large %s", op.Kind)
	if !errors.Is(op.Err, timeline.ErrBatchTooLarge) && !m.excused(op.Err) {
		return fmt.Errorf("oversized commit: %w, want ErrBatchTooLarge", op.Err)
	}
	m.count.Add("commit that is too large")
	return m.unchanged("oversized commit")
}

// stepFuture reads above the visible LSN, where nothing may change any more,
// and beyond the clock, which is refused.
func (m *Model) stepFuture() error {
	name, ok := m.living()
	if !ok {
		return nil
	}
	at := m.store.Now()
	if beyond := at + wal.LSN(100*time.Hour); m.rng.IntN(2) == 0 {
		m.note("read %q in the future", name)
		_, err := m.store.View(context.Background(), name, beyond)
		if !errors.Is(err, timeline.ErrFuture) {
			return fmt.Errorf("view at %d: %w, want ErrFuture", beyond, err)
		}
		_, err = m.store.Fork(context.Background(), timeline.ForkOptions{Source: name, At: beyond, Forks: timeline.Named("future")})
		if !errors.Is(err, timeline.ErrFuture) && !m.excused(err) {
			return fmt.Errorf("fork at %d: %w, want ErrFuture", beyond, err)
		}
		m.count.Add("read in the future refused")
		return m.unchanged("fork in the future")
	}
	if at <= m.oracle.Last() {
		return nil
	}
	m.note("read %q at %d, now", name, at)
	if err := m.checker().Whole(name, at); err != nil {
		if m.excused(err) {
			return nil
		}
		return err
	}
	if at <= wal.LSNFromTime(m.clocks.Now()) {
		m.floor = at // a restart may forget what lies beyond the wall clock
	}
	m.count.Add("read above the visible LSN")
	return nil
}

// stepHoldView opens a view that later steps will still read.
func (m *Model) stepHoldView() error {
	name, ok := m.living()
	if !ok || len(m.held) >= 3 {
		return nil
	}
	at := m.checker().RetainedLSN(name)
	v, err := m.store.View(context.Background(), name, at)
	if err != nil {
		if m.excused(err) {
			return nil
		}
		return err
	}
	l, lsn := m.oracle.names[name].line.resolve(at)
	m.note("hold view of %q at %d", name, at)
	m.held = append(m.held, heldView{v, l, lsn, m.step + 5 + m.rng.IntN(60)})
	return nil
}

// stepHoldReader opens a body that later steps will read.
func (m *Model) stepHoldReader() error {
	if len(m.readers) >= 3 {
		return nil
	}
	ext, want, release, err := m.pickStored()
	if err != nil || release == nil {
		if m.excused(err) {
			return nil
		}
		return err
	}
	defer release()
	r, err := m.store.Values().NewReader(ext, 0, uint64(want.Len()))
	if err != nil {
		return err
	}
	m.readers = append(m.readers, heldReader{r, want, m.step + 5 + m.rng.IntN(60)})
	return nil
}

// releaseHeld reads what is held, and lets go of what is due.
func (m *Model) releaseHeld() error {
	c := m.checker()
	for i := 0; i < len(m.held); i++ {
		h := &m.held[i]
		err := c.sampleView(h.view, h.line, h.lsn)
		if err != nil && !m.excused(err) {
			return fmt.Errorf("held view of timeline %d at %d: %w", h.line.id, h.lsn, err)
		}
		if m.step >= h.until {
			m.count.Add("held view read to its end")
			h.view.Close()
			m.held = slices.Delete(m.held, i, i+1)
			i--
		}
	}
	for i := 0; i < len(m.readers); i++ {
		h := &m.readers[i]
		if m.step < h.until {
			continue
		}
		err := errors.Join(h.want.Match(onlyReader{h.reader}), h.reader.Close())
		if err != nil && !m.excused(err) {
			return fmt.Errorf("held reader: %w", err)
		}
		m.count.Add("held reader read to its end")
		m.readers = slices.Delete(m.readers, i, i+1)
		i--
	}
	return nil
}

// dropHeld closes what is held, before the store goes.
func (m *Model) dropHeld() {
	for i := range m.held {
		m.held[i].view.Close()
	}
	for i := range m.readers {
		if err := m.readers[i].reader.Close(); err != nil {
			panic("BUG: close of a reader: " + err.Error())
		}
	}
	m.held, m.readers = nil, nil
}

// stepAbandonUpload leaves dead space in a value segment.
func (m *Model) stepAbandonUpload() error {
	w, err := m.store.Values().NewWriter(context.Background())
	if err != nil {
		return err
	}
	m.note("abandon an upload")
	_, err = w.Write(m.newContent(m.rng.Int64N(100 << 10)).Bytes())
	if err == nil && m.rng.IntN(2) == 0 {
		_, err = w.Finish()
	}
	if err = errors.Join(err, w.Close()); err != nil && !m.excused(err) {
		return err
	}
	m.count.Add("abandon an upload")
	return nil
}

// stepClock lets time jump: on, or the wall clock alone back or forth.
func (m *Model) stepClock() error {
	d := time.Duration(m.rng.Int64N(int64(2 * time.Hour)))
	switch m.rng.IntN(3) {
	case 0:
		m.clocks.Pass(d, d)
	case 1:
		m.clocks.Pass(d/100, 0)
	default:
		m.clocks.Pass(-d/100, 0)
	}
	m.count.Add("clock jump")
	return nil
}

// stepCrash loses what is not synced, right now.
func (m *Model) stepCrash() error {
	percent := m.percent()
	m.note("crash, %d %% of unsynced blocks survive", percent)
	m.count.Add("crash between operations")
	return m.recover(m.disk.Crash(percent), nil)
}

func (m *Model) percent() int {
	switch m.rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return 100
	default:
		return m.rng.IntN(101)
	}
}

// stepArmCrash makes one of the next file system calls the last.
func (m *Model) stepArmCrash() error {
	areas := []Area{AreaWAL, AreaLayers, AreaValues, AreaCatalog, ""}
	area, k, percent := areas[m.rng.IntN(len(areas))], m.rng.IntN(30), m.percent()
	m.note("crash at call %d to %q, %d %% of unsynced blocks survive", k, area, percent)
	m.disk.CrashAt(area, k, percent)
	return nil
}

// stepArmFault makes some of the next file system calls fail.
func (m *Model) stepArmFault() error {
	if m.faults {
		return nil
	}
	areas := []Area{AreaWAL, AreaWAL, AreaLayers, AreaLayers, AreaValues, AreaValues}
	f := Fault{
		Area: areas[m.rng.IntN(len(areas))], Reads: m.rng.IntN(3) == 0,
		After: m.rng.IntN(12), Times: 1 + m.rng.IntN(2), Err: syscall.EIO,
	}
	if m.rng.IntN(3) == 0 && !f.Reads {
		f.Err = syscall.ENOSPC
	}
	m.note("fail %d calls to %s after %d (reads: %v): %v", f.Times, f.Area, f.After, f.Reads, f.Err)
	m.startFaults(f)
	m.healAt = m.step + 1 + m.rng.IntN(12)
	return nil
}
