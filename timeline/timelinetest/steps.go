package timelinetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"stemma/layers"
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
	{5, (*Model).stepMove, false},
	{5, (*Model).stepMerge, true},
	{2, (*Model).stepProperties, false},
	{3, (*Model).stepDelete, false},
	{3, (*Model).stepSnapshot, false},
	{1, (*Model).stepSetSnapshot, false},
	{1, (*Model).stepDeleteSnapshot, false},
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

// unchanged checks that nothing was committed.
func (m *Model) unchanged(after string) error {
	if v := m.store.Visible(); v != m.oracle.Last() {
		return fmt.Errorf("%s: the visible LSN went from %d to %d", after, m.oracle.Last(), v)
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
