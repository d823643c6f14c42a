package timeline

import (
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// Options of a store. Zero values take the defaults named.
type Options struct {
	// FS holds every file of the store, the catalog's included. Required.
	FS vfs.FS
	// Dir is the data directory; it is made if it does not exist. Required.
	Dir string
	// Logger receives what an operator should see. Default: discard.
	Logger *slog.Logger

	// Now is the wall clock. Default time.Now.
	Now func() time.Time
	// Uptime is a monotonic clock that runs while the machine sleeps. Default CLOCK_BOOTTIME.
	Uptime func() time.Duration

	// CacheBytes bounds the block cache. Default 128 MiB.
	CacheBytes int64
	// MemlayerBytes is the size at which the active memlayer is frozen and flushed. Default 64 MiB.
	MemlayerBytes int64
	// WALSegmentBytes is the size of a log segment. Default 32 MiB.
	WALSegmentBytes int64
	// WALFlushBytes is the unreleased log at which a flush starts. Default 256 MiB.
	WALFlushBytes int64
	// WALStopBytes is the unreleased log at which commits are refused with ErrSlowDown. Default 512 MiB.
	WALStopBytes int64
	// MergeBytes is the size from which what a merge, rebase, pick or revert writes goes to layers
	// before the commit, and not through the log. Default and most: what fits into a log segment.
	MergeBytes int64
	// PartBytes is the size from which a flush moves inline bodies to value segments. Default 1 KiB.
	PartBytes int
	// LayerBytes is the size at which compaction cuts its outputs. Default 16 MiB.
	LayerBytes int64
	// L0Layers is the number of level-0 layers that starts a compaction. Default 4.
	L0Layers int
	// Level1Bytes is the target size of level 1; every further level may be 8 times larger. Default 64 MiB.
	Level1Bytes int64
	// Window is how far back a new root bucket can be read at every LSN; forks
	// take over that of their source. Negative means 0: the tip and what is pinned.
	// Default 24 h; gc.Forever keeps everything.
	Window gc.Window
	// UndoTime is how long a deleted root can be undeleted. Negative: not at
	// all. Default 24 h.
	UndoTime time.Duration
	// RefuseExpiry, if set, looks at what a bucket holds before it expires, at now by the
	// store clock; an error keeps the bucket, which is looked at again a minute later.
	RefuseExpiry func(v *View, now wal.LSN) error
	// MarkAttributes, if set, tells by the attributes of a bucket whether Store.Marked returns it.
	// It answers the same for ever, and quickly: it is called while names and buckets are locked.
	MarkAttributes func(attrs []byte) bool
	// ObjectBytes returns how large an object is that a record of NamespaceObjects describes, for
	// TimelineUsage.Logical. Default: as large as its body.
	ObjectBytes func(r *layers.Record) (uint64, error)
	// CollectEvery is the shortest time between two background collections of
	// garbage. Default 1 s; negative: none in the background.
	CollectEvery time.Duration
	// BackgroundShare is what SetBackgroundShare starts with. Default 50.
	BackgroundShare int
	// HorizonEvery is how often the horizon is advanced while commits arrive. Default 1 s.
	HorizonEvery time.Duration
	// At, if set, is told each durability step that background work has reached:
	// a crash test ends the world there. It may be called by several goroutines.
	At func(Step)
	// Values configures the value segments.
	Values layers.ValuesOptions
}

func (o *Options) setDefaults() error {
	if o.FS == nil || o.Dir == "" {
		return errors.New("timeline: options need FS and Dir")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Uptime == nil {
		o.Uptime = bootTime
	}
	if o.ObjectBytes == nil {
		o.ObjectBytes = func(r *layers.Record) (uint64, error) { return r.Body.Len() }
	}
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.CacheBytes, 128<<20)
	def(&o.MemlayerBytes, 64<<20)
	def(&o.WALSegmentBytes, 32<<20)
	def(&o.WALFlushBytes, 256<<20)
	def(&o.WALStopBytes, 512<<20)
	def(&o.MergeBytes, math.MaxInt64)
	o.MergeBytes = min(o.MergeBytes, int64(o.maxMergeBytes()-min(mergeSlack, o.maxMergeBytes()/4)))
	def(&o.LayerBytes, 16<<20)
	def(&o.Level1Bytes, 64<<20)
	switch {
	case o.Window == 0:
		o.Window = gc.Window(24 * time.Hour)
	case o.Window < 0:
		o.Window = 0
	}
	if o.UndoTime == 0 {
		o.UndoTime = 24 * time.Hour
	}
	if o.BackgroundShare == 0 {
		o.BackgroundShare = 50
	}
	if o.CollectEvery == 0 {
		o.CollectEvery = time.Second
	}
	if o.PartBytes == 0 {
		o.PartBytes = 1 << 10
	}
	if o.L0Layers == 0 {
		o.L0Layers = 4
	}
	if o.HorizonEvery == 0 {
		o.HorizonEvery = time.Second
	}
	return nil
}

// maxCommitBytes bounds the payload of one commit.
func (o *Options) maxCommitBytes() int {
	return int(min(8<<20, o.WALSegmentBytes/2))
}

// maxMergeBytes bounds the payload of the commit of a merge: what fits into a segment
// of the log.
func (o *Options) maxMergeBytes() int { return wal.MaxPayload(o.WALSegmentBytes) }

// maxFrozen bounds the memlayers that wait for their flush.
const maxFrozen = 4

// maxL0Layers is the number of level-0 layers at which commits are refused
// until compaction has caught up.
const maxL0Layers = 48

// slowDownAfter is how long a commit waits for flush before it is refused.
const slowDownAfter = time.Second

// levelFanout is the growth of target sizes from level to level.
const levelFanout = 8
