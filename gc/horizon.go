package gc

import (
	"time"

	"stemma/wal"
)

// GapLimit is the longest time without a commit that the horizon crosses at
// once after a start, and how long a store must run before it crosses a longer
// one: a machine that was off for a week must not lose a week of history in its
// first second.
const GapLimit = time.Hour

// Hold keeps the horizon where it was before a long gap. The zero Hold holds
// nothing.
type Hold struct {
	At    wal.LSN
	Until time.Duration // uptime at which the hold ends
}

// HoldAfterStart returns the hold of a store that starts at the store time now,
// with the newest commit last and the durable horizon (both zero if there are
// none), at an uptime. What counts is where the horizon stands: a commit since
// does not end the gap.
func HoldAfterStart(now, last, horizon wal.LSN, uptime time.Duration) Hold {
	if horizon != 0 {
		last = min(last, horizon)
	}
	if last == 0 || now <= last || time.Duration(now-last) <= GapLimit {
		return Hold{}
	}
	return Hold{At: last, Until: uptime + GapLimit}
}

// Cap returns lsn, or where the hold keeps it at an uptime.
func (h Hold) Cap(lsn wal.LSN, uptime time.Duration) wal.LSN {
	if h.At != 0 && uptime < h.Until {
		return min(lsn, h.At)
	}
	return lsn
}

// NextHorizon returns where the horizon may go from present: to the newest
// visible commit, but not ahead of the store clock (an LSN may be), and not past
// a hold. It is false when that is no advance.
func NextHorizon(present, visible, now wal.LSN, h Hold, uptime time.Duration) (wal.LSN, bool) {
	next := h.Cap(min(visible, now), uptime)
	return next, next > present
}
