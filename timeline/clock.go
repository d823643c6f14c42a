package timeline

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"stemma/wal"
)

// storeClock is the clock that LSNs, windows and leases use (DESIGN 1). It
// starts at max(wall clock, last LSN), runs with the machine's uptime and is
// slewed towards a later wall clock by at most a tenth; it is never stepped.
// Safe for concurrent use.
type storeClock struct {
	wall   func() time.Time
	uptime func() time.Duration

	mu struct {
		sync.Mutex
		now wal.LSN       // at the uptime last
		at  time.Duration // uptime at which now was right
	}
}

func newStoreClock(wall func() time.Time, uptime func() time.Duration, last wal.LSN) *storeClock {
	c := &storeClock{wall: wall, uptime: uptime}
	c.mu.now = max(wal.LSNFromTime(wall()), last)
	c.mu.at = uptime()
	return c
}

// Now returns the store time as an LSN.
func (c *storeClock) Now() wal.LSN {
	c.mu.Lock()
	defer c.mu.Unlock()
	up := c.uptime()
	step := max(up-c.mu.at, 0)
	c.mu.at = max(up, c.mu.at)
	c.mu.now += wal.LSN(step)
	if w := wal.LSNFromTime(c.wall()); w > c.mu.now {
		c.mu.now += min(w-c.mu.now, wal.LSN(step/10))
	}
	return c.mu.now
}

// next returns the LSN of the commit after last.
func (c *storeClock) next(last wal.LSN) wal.LSN { return max(c.Now(), last+1) }

// bootTime returns the time since boot, sleep included.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("BUG: CLOCK_BOOTTIME: " + err.Error()) // the kernel has had it since 2.6.39
	}
	return time.Duration(ts.Nano())
}
