package storefs

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	ballastName      = "BALLAST"
	ballastMaxBytes  = 1 << 30
	ballastPiece     = 64 << 20
	ballastPollEvery = 500 * time.Millisecond
)

// ballast is the reserve of allocated space. One without a size (want 0) gives
// nothing and refuses nothing.
type ballast struct {
	want   int64 // size when whole, and the free space below which user writes stop
	piece  int64 // bytes given at a time
	logger *slog.Logger
	free   func() (int64, error) // bytes that the disk has to give

	given    atomic.Uint64 // pieces given so far
	refusing atomic.Bool   // user writes are to be refused

	mu struct {
		sync.Mutex
		f    *os.File
		held int64
		// unsupported: no space can be held in a file here. There is the
		// watermark then, and nothing to give.
		unsupported bool
		freeFailed  bool // logged that free fails
	}

	stop chan struct{}
	done chan struct{}
}

func openBallast(o Options, base vfs.FS, piece int64) (*ballast, error) {
	path := base.PathJoin(o.Dir, ballastName)
	b := &ballast{want: o.BallastBytes, piece: piece, logger: o.Logger}
	if b.piece == 0 {
		b.piece = ballastPiece
	}
	b.free = func() (int64, error) {
		u, err := base.GetDiskUsage(o.Dir)
		return int64(u.AvailBytes), err
	}
	if b.want < 0 {
		b.want = 0
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove ballast: %w", err)
		}
		return b, nil
	}
	if b.want == 0 {
		u, err := base.GetDiskUsage(o.Dir)
		if err != nil {
			return nil, fmt.Errorf("size ballast: %w", err)
		}
		b.want = int64(min(ballastMaxBytes, u.TotalBytes/50))
	}
	b.want = (b.want + BlockSize - 1) &^ (BlockSize - 1)
	if err := b.open(path); err != nil {
		return nil, fmt.Errorf("open ballast: %w", err)
	}
	b.poll()
	b.stop, b.done = make(chan struct{}), make(chan struct{})
	go b.run()
	return b, nil
}

// open opens the file and takes stock of what it holds. It cuts what an earlier
// run with a larger ballast left.
func (b *ballast) open(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	b.mu.f = f
	if b.mu.held, err = allocated(f); err == nil && b.mu.held > b.want {
		b.mu.held = b.want
		err = f.Truncate(b.want)
	}
	if err != nil {
		f.Close()
	}
	return err
}

func (b *ballast) close() error {
	if b.stop == nil {
		return nil
	}
	close(b.stop)
	<-b.done
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop, b.mu.held = nil, 0
	return b.mu.f.Close()
}

// give gives a piece back to the disk. It reports false when there is none. gen
// is b.given from before the call that failed: if it has moved since, another
// caller's piece may already do, and none is given. give updates it.
func (b *ballast) give(gen *uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.given.Load(); now != *gen {
		*gen = now
		return true
	}
	if b.mu.held == 0 {
		return false
	}
	b.setRefusing(true)
	rest := max(b.mu.held-b.piece, 0)
	if err := b.cutLocked(rest); err != nil {
		b.logger.Error("cannot give ballast back", "err", err)
		return false
	}
	b.mu.held = rest
	*gen = b.given.Add(1)
	b.logger.Warn("disk is full: gave ballast back", "left_bytes", rest)
	return true
}

// cutLocked makes the file size bytes long. The sync makes file systems that
// free blocks with their journal do so now.
func (b *ballast) cutLocked(size int64) error {
	return errors.Join(b.mu.f.Truncate(size), b.mu.f.Sync())
}

func (b *ballast) run() {
	defer close(b.done)
	t := time.NewTicker(ballastPollEvery)
	defer t.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-t.C:
			b.poll()
		}
	}
}

// poll regrows the ballast when there is space, and decides about user writes.
func (b *ballast) poll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	free, err := b.free()
	if err != nil {
		if !b.mu.freeFailed {
			b.logger.Warn("cannot read free disk space", "err", err)
		}
		b.mu.freeFailed = true
		return
	}
	b.mu.freeFailed = false
	if b.mu.held < b.want && free > 2*b.want && !b.mu.unsupported {
		missing := b.want - b.mu.held
		if err := b.growLocked(); err != nil {
			b.logger.Warn("cannot grow ballast", "err", err)
		} else {
			free -= missing
		}
	}
	whole := b.mu.held == b.want || b.mu.unsupported
	b.setRefusing(!whole || free < b.want)
}

func (b *ballast) growLocked() error {
	err := allocate(b.mu.f, b.want)
	switch {
	case err == nil:
		b.mu.held = b.want
		return b.mu.f.Sync()
	case errors.Is(err, errors.ErrUnsupported):
		b.mu.unsupported = true
	default:
		err = errors.Join(err, b.cutLocked(b.mu.held)) // what was allocated on the way
	}
	return err
}

func (b *ballast) setRefusing(refuse bool) {
	if b.refusing.Swap(refuse) == refuse {
		return
	}
	if refuse {
		b.logger.Warn("disk is nearly full: refusing user writes", "watermark_bytes", b.want)
	} else {
		b.logger.Info("disk has space again: admitting user writes")
	}
}
