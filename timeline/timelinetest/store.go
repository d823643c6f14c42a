package timelinetest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"stemma/layers"
	"stemma/timeline"
)

// Clocks are the wall clock and the uptime of a store under test. They stand
// still between calls of Pass. Safe for concurrent use.
type Clocks struct {
	mu   sync.Mutex
	wall time.Time
	up   time.Duration
}

// NewClocks returns clocks that begin in 2026.
func NewClocks() *Clocks {
	return &Clocks{wall: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), up: time.Hour}
}

// Now returns the wall clock.
func (c *Clocks) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

// Uptime returns the monotonic clock.
func (c *Clocks) Uptime() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

// Pass moves the clocks, the uptime forward only.
func (c *Clocks) Pass(wall, up time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall = c.wall.Add(wall)
	c.up += up
}

// SmallOptions are options under which little work makes many flushes,
// recycled log segments and several levels of layers.
func SmallOptions() timeline.Options {
	return timeline.Options{
		Dir:             dataDir,
		CacheBytes:      256 << 10,
		MemlayerBytes:   8 << 10,
		WALSegmentBytes: 64 << 10,
		WALFlushBytes:   128 << 10,
		WALStopBytes:    8 << 20,
		LayerBytes:      6 << 10,
		L0Layers:        2,
		Level1Bytes:     16 << 10,
		HorizonEvery:    time.Hour,
		MarkAttributes:  marks,
		Values: layers.ValuesOptions{
			SegmentBytes: 256 << 10, PackedSegmentBytes: 32 << 10, MaxWriters: 4, MaxOpenFiles: 4,
		},
	}
}

// marks tells half of the attributes.
func marks(attrs []byte) bool { return len(attrs)%2 == 1 }

// Watch is a log handler that keeps the warnings and errors of a store that
// nothing was wrong with. Safe for concurrent use.
type Watch struct {
	mu    sync.Mutex
	off   bool // failures are being injected
	lines []string
}

// Mute says that failures are about to be injected (true), or that what is
// logged from now on counts again.
func (w *Watch) Mute(off bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.off = off
}

// Err returns what should not have been logged.
func (w *Watch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.lines) == 0 {
		return nil
	}
	return fmt.Errorf("the store logged: %s", w.lines[0])
}

// Enabled implements slog.Handler.
func (w *Watch) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle implements slog.Handler.
func (w *Watch) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.off && !strings.Contains(line, ErrInjected.Error()) {
		w.lines = append(w.lines, line)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (w *Watch) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup implements slog.Handler.
func (w *Watch) WithGroup(string) slog.Handler { return w }
