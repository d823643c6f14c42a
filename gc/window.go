package gc

import (
	"math"
	"time"

	"stemma/wal"
)

// Window is how far back a timeline stays readable at every LSN, by the store
// clock. Forever means that nothing expires; zero keeps the tip and what is
// pinned. It is never negative.
type Window time.Duration

// Forever is the window in which nothing expires.
const Forever = Window(math.MaxInt64)

// Cutoff returns the oldest LSN at which a timeline can be read without a pin:
// max(floor, h - window). It does not wrap; a negative window counts as zero.
func Cutoff(h, floor wal.LSN, window Window) wal.LSN {
	w := wal.LSN(max(window, 0))
	if window == Forever || w >= h {
		return floor
	}
	return max(floor, h-w)
}

// Expiry returns the horizon at which a window lets go of a version that was
// superseded at death; wal.MaxLSN when it never does.
func Expiry(death wal.LSN, window Window) wal.LSN {
	w := wal.LSN(max(window, 0))
	if window == Forever || death >= wal.MaxLSN-w {
		return wal.MaxLSN
	}
	return death + w
}
