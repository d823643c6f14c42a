package timelinetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"stemma/timeline"
	"stemma/wal"
)

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
	b := m.oracle.names[name]
	want := m.oracle.expectAt(b, at)
	err := m.store.Lease(name, at, ttl)
	m.note("lease %q at %d for %v: %v", name, at, ttl, err)
	if !meets(err, want) {
		return fmt.Errorf("lease %q at %d: %w; want %w", name, at, err, want)
	}
	if err == nil {
		m.count.Add("lease")
		m.oracle.lease(b, at, ttl)
	} else {
		m.count.Add("lease refused")
	}
	return nil
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
	l, lsn := m.oracle.names[name].resolve(at)
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
