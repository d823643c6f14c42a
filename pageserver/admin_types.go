package pageserver

import (
	"fmt"
	"strings"
	"time"

	"stemma/gc"
	"stemma/timeline"
	"stemma/wal"
)

// What the admin listener answers below /v1, as JSON. Sizes are bytes; LSNs are
// strings in decimal, they do not fit a JavaScript number.

// AdminError is the answer to a request that failed.
type AdminError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Quota   *Room  `json:"quota,omitempty"` // of QuotaExceeded
}

// Room says what a bucket has no room for.
type Room struct {
	Of     string `json:"of"` // bytes or objects
	Max    int64  `json:"max"`
	Used   int64  `json:"used"`
	Growth int64  `json:"growth"` // by what was refused
}

func (e *AdminError) Error() string { return e.Code + ": " + e.Message }

// UsageAnswer is what the store holds, and for whom; see timeline.Usage.
type UsageAnswer struct {
	LSN           wal.LSN         `json:"lsn,string"`
	Live          int64           `json:"live_bytes"`
	Garbage       int64           `json:"garbage_bytes"`
	LayerBytes    int64           `json:"layer_bytes"`
	ValueBytes    int64           `json:"value_bytes"`
	MemlayerBytes int64           `json:"memlayer_bytes"`
	LogBytes      int64           `json:"log_bytes"`
	Timelines     []TimelineUsage `json:"timelines"`
}

// TimelineUsage is what one timeline holds; see timeline.TimelineUsage.
type TimelineUsage struct {
	Bucket    string `json:"bucket"` // its name; of a deleted one the last
	BucketID  uint64 `json:"bucket_id"`
	Timeline  uint64 `json:"timeline"`
	State     string `json:"state"`
	Source    string `json:"source,omitempty"` // of a fork
	Logical   int64  `json:"logical_bytes"`
	Exclusive int64  `json:"exclusive_bytes"`
	Shared    int64  `json:"shared_bytes"`
	History   int64  `json:"history_bytes"`
}

func usageAnswer(u *timeline.Usage, bucket string) *UsageAnswer {
	a := &UsageAnswer{
		LSN: u.LSN, Live: u.Live, Garbage: u.Garbage, LayerBytes: u.LayerBytes, ValueBytes: u.ValueBytes,
		MemlayerBytes: u.MemlayerBytes, LogBytes: u.LogBytes, Timelines: []TimelineUsage{},
	}
	for i := range u.Timelines {
		t := &u.Timelines[i]
		if bucket != "" && (t.Name != bucket || t.State != timeline.TimelineLive) {
			continue
		}
		a.Timelines = append(a.Timelines, TimelineUsage{
			Bucket: t.Name, BucketID: uint64(t.Bucket), Timeline: uint64(t.Timeline), State: string(t.State), Source: t.SourceName,
			Logical: t.Logical, Exclusive: t.Exclusive, Shared: t.Shared, History: t.History,
		})
	}
	return a
}

// CollectAnswer is what a full collection gave back; see timeline.CollectReport.
type CollectAnswer struct {
	LayersRewritten int64             `json:"layers_rewritten"`
	LayerBytesFreed int64             `json:"layer_bytes_freed"`
	ValueBytesFreed int64             `json:"value_bytes_freed"`
	TimelinesPurged int64             `json:"timelines_purged"`
	Timelines       []DroppedTimeline `json:"dropped_timelines"`
}

// DroppedTimeline is a timeline that a collection gave back.
type DroppedTimeline struct {
	Timeline  uint64 `json:"timeline"`
	Bucket    string `json:"bucket"`
	Exclusive int64  `json:"exclusive_bytes"`
}

func collectAnswer(r *timeline.CollectReport) *CollectAnswer {
	a := &CollectAnswer{
		LayersRewritten: r.LayersRewritten, LayerBytesFreed: r.LayerBytesFreed, ValueBytesFreed: r.ValueBytesFreed,
		TimelinesPurged: r.TimelinesPurged, Timelines: []DroppedTimeline{},
	}
	for _, t := range r.Timelines {
		a.Timelines = append(a.Timelines, DroppedTimeline{uint64(t.Timeline), t.Name, t.Exclusive})
	}
	return a
}

// PlanAnswer is what a full collection would find; see timeline.Plan.
type PlanAnswer struct {
	LSN       wal.LSN       `json:"lsn,string"`
	Horizon   wal.LSN       `json:"horizon,string"`
	Layers    []LayerPlan   `json:"layers"`
	Memlayers LayerPlan     `json:"memlayers"`
	Segments  []SegmentPlan `json:"segments"`
	Total     PlanTotal     `json:"total"`
}

// LayerPlan is what one layer keeps, and why.
type LayerPlan struct {
	Num         uint64           `json:"num,omitempty"`
	Kind        string           `json:"kind,omitempty"`
	Level       int              `json:"level"`
	Bytes       int64            `json:"bytes"`
	Records     int64            `json:"records"`
	DeadRecords int64            `json:"dead_records"`
	Kept        map[string]int64 `json:"kept_bytes"` // by reason
	Dead        int64            `json:"dead_bytes"`
	DeadValues  int64            `json:"dead_value_bytes"`
}

// SegmentPlan is what lives in one value segment.
type SegmentPlan struct {
	Num   uint64 `json:"num"`
	Bytes int64  `json:"bytes"`
	Live  int64  `json:"live_bytes"`
	Dead  int64  `json:"dead_bytes"`
}

// PlanTotal adds up the layers and segments of a plan.
type PlanTotal struct {
	Layers        int              `json:"layers"`
	DirtyLayers   int              `json:"dirty_layers"`
	LayerBytes    int64            `json:"layer_bytes"`
	LayerDead     int64            `json:"layer_dead_bytes"`
	Kept          map[string]int64 `json:"kept_bytes"`
	Records       int64            `json:"records"`
	DeadRecords   int64            `json:"dead_records"`
	Segments      int              `json:"segments"`
	DirtySegments int              `json:"dirty_segments"`
	ValueBytes    int64            `json:"value_bytes"`
	ValueDead     int64            `json:"value_dead_bytes"`
	DeadTimelines int              `json:"dead_timelines"`
	Undeletable   int              `json:"undeletable_timelines"`
}

func planAnswer(p *timeline.Plan) *PlanAnswer {
	t := &p.Total
	a := &PlanAnswer{
		LSN: p.LSN, Horizon: p.Horizon, Layers: []LayerPlan{}, Memlayers: layerPlan(&p.Memlayers), Segments: []SegmentPlan{},
		Total: PlanTotal{
			Layers: t.LayerCount, DirtyLayers: t.LayersDirty, LayerBytes: t.LayerBytes, LayerDead: t.LayerDead, Kept: byReason(&t.Kept),
			Records: t.Records, DeadRecords: t.DeadRecords, Segments: t.SegmentCount, DirtySegments: t.SegsDirty,
			ValueBytes: t.ValueBytes, ValueDead: t.ValueDead, DeadTimelines: t.TimelinesDead, Undeletable: t.TimelinesUndeletable,
		},
	}
	for i := range p.Layers {
		l := layerPlan(&p.Layers[i])
		l.Num, l.Kind = uint64(p.Layers[i].Num), p.Layers[i].Kind.String()
		a.Layers = append(a.Layers, l)
	}
	for _, s := range p.Segments {
		a.Segments = append(a.Segments, SegmentPlan{uint64(s.Num), s.Bytes, s.Live, s.Dead})
	}
	return a
}

func layerPlan(l *timeline.LayerPlan) LayerPlan {
	return LayerPlan{
		Level: l.Level, Bytes: l.Bytes, Records: l.Records, DeadRecords: l.DeadRecords, Kept: byReason(&l.Kept), Dead: l.Dead, DeadValues: l.DeadValues,
	}
}

func byReason(kept *[gc.NumReasons]int64) map[string]int64 {
	m := make(map[string]int64)
	for reason, bytes := range kept {
		if bytes != 0 {
			m[gc.Reason(reason).String()] = bytes
		}
	}
	return m
}

// Retention is how far back a bucket can be read at every moment: a duration
// such as 24h, 0s, or forever. It is sent and answered.
type Retention struct {
	Window string `json:"window"`
}

// ParseWindow returns what Retention.Window says.
func ParseWindow(s string) (gc.Window, error) {
	if s == "forever" {
		return gc.Forever, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("window %q: want a duration such as 24h, 0s, or forever", s)
	}
	return gc.Window(d), nil
}

// FormatWindow is the reverse of ParseWindow.
func FormatWindow(w gc.Window) string {
	if w == gc.Forever {
		return "forever"
	}
	return durationText(time.Duration(w))
}

// durationText is d as people write it: 24h, not 24h0m0s.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// Background is how much of one processor's time background work may take, in
// percent from 1 to 100. It is sent and answered.
type Background struct {
	Share int `json:"share"`
}

// DeletedAnswer lists the buckets that can be undeleted.
type DeletedAnswer struct {
	Buckets []DeletedBucket `json:"buckets"`
}

// DeletedBucket is a bucket that can be undeleted until a time.
type DeletedBucket struct {
	ID      uint64    `json:"id"`
	Name    string    `json:"name"` // when it was deleted
	Deleted time.Time `json:"deleted"`
	Until   time.Time `json:"until"`
}

// Undelete names the bucket that is brought back.
type Undelete struct {
	Name string `json:"name"`
}

// BucketAnswer is a bucket that was brought back.
type BucketAnswer struct {
	ID   uint64 `json:"id"`
	Name string `json:"name"`
}
