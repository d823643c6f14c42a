package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	defaultSegmentBytes   = 32 << 20
	minSegmentBytes       = 16 << 10
	maxSegmentBytes       = 1 << 30
	defaultMaxCommitBytes = 8 << 20

	// groupCapBytes is where a group is closed unless one commit alone is larger.
	groupCapBytes = 1 << 20
	// maxBuffers bounds the groups in memory: one that is written, one that
	// waits for the writer, one that is open.
	maxBuffers = 3
	// applyQueue is how many durable groups may wait for the applier.
	applyQueue = 2
)

// Options configure a Log. FS and Dir are required.
type Options struct {
	FS           vfs.FS
	Dir          string       // made when absent
	SegmentBytes int64        // of new segments; 0: 32 MiB; a multiple of 4096 from 16 KiB to 1 GiB
	Logger       *slog.Logger // nil: slog.Default()
	// MaxCommitBytes bounds a payload; it must fit a segment. 0: 8 MiB, or what
	// fits.
	MaxCommitBytes int
	// NextLSN returns the LSN of the next commit, above last. It is called in
	// sequence order under the sequencing lock, once more when Commit.Reserve
	// refuses. nil: last + 1.
	NextLSN func(last LSN) LSN
	// Apply is called by the log's one applier goroutine with each group that
	// has become durable, in LSN order, before its commits become visible. It
	// must not fail, must not keep the slice, and must not wait for commits. It
	// may take its time: the next group is written and synced meanwhile. Of a
	// commit it may rely on LSN and Value, and on Payload if the committer leaves
	// that alone until Wait returns.
	Apply func(group []*Commit)
	// ReplayFrom: commits at or below are not replayed, and their segments are
	// released at once.
	ReplayFrom LSN
	// DurableLSN is an LSN that is known to have been durable (the catalog proves
	// it): a log that ends below is corrupt.
	DurableLSN LSN
}

func (o Options) withDefaults() (Options, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.NextLSN == nil {
		o.NextLSN = func(last LSN) LSN { return last + 1 }
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	if o.SegmentBytes%blockBytes != 0 || o.SegmentBytes < minSegmentBytes || o.SegmentBytes > maxSegmentBytes {
		return o, fmt.Errorf("wal: segments of %d bytes: want a multiple of %d from %d to %d",
			o.SegmentBytes, blockBytes, minSegmentBytes, maxSegmentBytes)
	}
	fits := MaxPayload(o.SegmentBytes)
	if o.MaxCommitBytes == 0 {
		o.MaxCommitBytes = min(defaultMaxCommitBytes, fits)
	}
	if o.MaxCommitBytes < 0 || o.MaxCommitBytes > fits {
		return o, fmt.Errorf("wal: commits of %d bytes: want at most %d in segments of %d",
			o.MaxCommitBytes, fits, o.SegmentBytes)
	}
	if o.ReplayFrom >= MaxLSN {
		return o, fmt.Errorf("wal: replay from LSN %d: want one below %d", o.ReplayFrom, MaxLSN)
	}
	return o, nil
}

// MaxPayload returns the largest payload that fits into a segment of so many bytes.
func MaxPayload(segmentBytes int64) int {
	return int(maxPayload(usableBytes(segmentBytes)) - frameHeaderBytes)
}

// usableBytes returns what groups with commits may use of a segment: all but
// the header and a block for an end mark.
func usableBytes(segmentBytes int64) int64 { return segmentBytes - segmentHeaderBytes - blockBytes }

// Log is the open log of one directory. Its methods are safe for concurrent
// use. Of several logs on one directory at once the outcome is undefined; the
// store's lock sees to that.
type Log struct {
	o           Options
	incarnation uint64
	groupCap    int64 // bytes on disk

	visible atomic.Uint64 // last published LSN
	size    atomic.Int64  // bytes of groups in segments that are not released
	failed  atomic.Pointer[ReadOnlyError]

	durable   chan *group   // writer to applier, in order
	prepare   chan struct{} // wakes the preparer; capacity 1
	stop      chan struct{} // closed by Close
	closeOnce sync.Once
	closeErr  error
	wg        sync.WaitGroup

	// tail belongs to the writer goroutine.
	tail chain
	// nextNumber is of the next segment made or recycled; it belongs to the
	// preparer goroutine.
	nextNumber uint64

	// mu is the sequencing lock. It is never held across I/O or a wait. It is
	// held while Options.NextLSN and Commit.Reserve run.
	mu struct {
		sync.Mutex
		work sync.Cond // wakes the writer

		last  LSN // last reserved
		floor LSN // no LSN at or below is reserved any more

		open    *group   // gathers commits; nil until one comes
		sealed  *group   // full, waits for the writer
		pending []*group // have commits and are not published, oldest first
		closing bool

		buffers    []*groupBuffer // free
		allBuffers int
		slices     [][]*Commit // free
		// room is closed when an Append that had to wait may look again; nil when
		// nobody waits.
		room chan struct{}

		segments []*segment // in use and not released, oldest first; the last is the current one
		ready    []*segment // prepared, in order of number
		retired  []spare    // released, to be recycled or removed
		released LSN        // commits at or below are not needed
		// prepareErr is why the preparer has failed since it last succeeded.
		prepareErr error

		metrics Metrics
	}
}

// chain is what a group must know of the one before it.
type chain struct {
	sequence    uint64
	crc         uint32
	incarnation uint64
	last        LSN // of all commits up to it
}

// Commit is one atomic entry of the log.
type Commit struct {
	Payload []byte // opaque; copied by Append
	// Reserve, if set, is called under the sequencing lock with the LSN that the
	// commit gets if it returns nil. After an error the commit has left no trace
	// and Append returns the error. It must not call the Log.
	Reserve func(LSN) error
	Value   any // handed through to Apply
	LSN     LSN // set by Append

	group *group
}

// Metrics is a snapshot of a Log's counters since Open.
type Metrics struct {
	Commits          uint64        // appended
	PayloadBytes     uint64        // of those
	Groups           uint64        // written
	WrittenBytes     uint64        // of groups and segment headers
	WriteTime        time.Duration // sum over groups
	SyncTime         time.Duration // sum over groups
	MaxSyncTime      time.Duration
	ApplyTime        time.Duration // sum over groups
	RoomWaits        uint64        // times that an Append waited for a buffer or a segment
	SegmentsMade     uint64
	SegmentsRecycled uint64
	SegmentsRemoved  uint64
	PrepareFailures  uint64
	Segments         int   // in use and not released
	Ready            int   // prepared
	Bytes            int64 // as Size
}

// Visible returns the LSN of the last commit that is durable, applied and
// published; after Open, the last LSN of the log. One atomic load.
func (l *Log) Visible() LSN { return LSN(l.visible.Load()) }

// LastReserved returns the highest LSN that any commit has got, visible or not.
func (l *Log) LastReserved() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.last
}

// Size returns the bytes of groups in segments that are not released. One
// atomic load.
func (l *Log) Size() int64 { return l.size.Load() }

// Err returns the *ReadOnlyError once a write or sync has failed, else nil.
func (l *Log) Err() error {
	if e := l.failed.Load(); e != nil {
		return e
	}
	return nil
}

// Metrics returns a snapshot.
func (l *Log) Metrics() Metrics {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.mu.metrics
	m.Segments, m.Ready, m.Bytes = len(l.mu.segments), len(l.mu.ready), l.Size()
	return m
}

// Close refuses further commits with ErrClosed, waits until those appended are
// visible, writes and syncs the end mark, and stops the log's goroutines. It
// returns the *ReadOnlyError of a log that has failed, before or during Close;
// its resources are released all the same. Further calls return what the first
// one did.
func (l *Log) Close() error {
	l.closeOnce.Do(func() {
		l.mu.Lock()
		l.mu.closing = true
		l.mu.work.Broadcast()
		l.wakeAppendsLocked()
		l.mu.Unlock()
		close(l.stop)
		l.wg.Wait()
		errs := []error{l.Err()}
		for _, s := range slices.Concat(l.mu.segments, l.mu.ready) {
			errs = append(errs, s.closeFile())
		}
		for _, s := range l.mu.retired {
			if s.file != nil {
				errs = append(errs, s.file.Close())
			}
		}
		l.closeErr = errors.Join(errs...)
	})
	return l.closeErr
}
