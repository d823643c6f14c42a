package pageserver

import (
	"fmt"
	"io"

	"github.com/VictoriaMetrics/metrics"

	"stemma/gc"
	"stemma/timeline"
)

// writeMetrics writes the numbers of store, log and workers. They are taken
// when they are asked for.
func (s *Server) writeMetrics(w io.Writer) {
	m := s.store.Metrics()
	streamed := s.objects.StreamedBytes()
	gauge := func(name string, v float64) { metrics.WriteGaugeFloat64(w, name, v) }
	counter := func(name string, v int64) { metrics.WriteCounterUint64(w, name, uint64(v)) }

	gauge("stemma_visible_lsn", float64(m.VisibleLSN))
	gauge("stemma_horizon_lsn", float64(m.Horizon))
	gauge("stemma_buckets", float64(m.Buckets))
	gauge("stemma_timelines", float64(m.Timelines))
	gauge("stemma_memlayer_bytes", float64(m.MemlayerBytes))
	gauge("stemma_memlayers_frozen", float64(m.FrozenMemlayers))
	writeLevels(w, &m)
	gauge("stemma_value_segments", float64(m.ValueSegments))
	gauge("stemma_value_segment_bytes", float64(m.ValueSegmentBytes))
	gauge("stemma_value_segment_allocated_bytes", float64(m.ValueAllocatedBytes))
	counter("stemma_flushes_total", m.Flushes)
	counter("stemma_flush_errors_total", m.FlushErrors)
	counter("stemma_compactions_total", m.Compactions)
	counter("stemma_compaction_errors_total", m.CompactionErrors)
	counter("stemma_slow_downs_total", m.SlowDowns)

	// What came in, and what was written for it: write amplification is the sum
	// of stemma_written_bytes_total over that of stemma_user_bytes_total.
	written := func(by string, v int64) { counter(`stemma_written_bytes_total{by="`+by+`"}`, v) }
	counter(`stemma_user_bytes_total{way="log"}`, int64(m.Log.PayloadBytes))
	counter(`stemma_user_bytes_total{way="streamed"}`, streamed)
	written("log", int64(m.Log.WrittenBytes))
	written("stream", streamed)
	written("flush_layers", m.FlushedBytes)
	written("flush_values", m.PackedBytes)
	written("compaction", m.CompactedBytes)
	written("collection", m.CollectedBytes)
	written("rollup", m.RollupBytes)
	written("merge", m.AdoptedBytes)
	written("value_rewrite", m.RewrittenBytes)

	counter("stemma_gc_layers_rewritten_total", m.Collections)
	counter("stemma_gc_errors_total", m.CollectionErrors)
	counter("stemma_gc_layer_bytes_replaced_total", m.ReplacedBytes)
	counter("stemma_gc_value_bytes_reclaimed_total", m.ReclaimedBytes)
	counter("stemma_gc_timelines_purged_total", m.Purged)
	counter("stemma_rollups_total", m.Rollups)
	for reason, bytes := range m.Kept {
		gauge(`stemma_gc_kept_bytes{reason="`+gc.Reason(reason).String()+`"}`, float64(bytes))
	}
	counter("stemma_uploads_aborted_total", s.uploads.aborted.Load())
	counter("stemma_upload_abort_errors_total", s.uploads.errors.Load())
	s.lifecycle.write(w)
	s.schedules.write(w)
	writeLogMetrics(w, &m)
}

// writeAccessMetrics writes the numbers of the records of requests.
func (s *Server) writeAccessMetrics(w io.Writer) {
	counter := func(name string, v int64) { metrics.WriteCounterUint64(w, name, uint64(v)) }
	counter("stemma_access_log_dropped_total", s.access.dropped.Load())
	counter("stemma_access_log_errors_total", s.access.failed.Load())
	counter("stemma_bucket_logs_delivered_total", s.logs.delivered.Load())
	counter("stemma_bucket_logs_errors_total", s.logs.failed.Load())
	counter("stemma_bucket_logs_dropped_total", s.logs.dropped.Load())
}

func writeLevels(w io.Writer, m *timeline.Metrics) {
	for _, f := range []struct {
		name   string
		levels []timeline.LevelMetrics
	}{{"main", m.Levels[:]}, {"history", m.History[:]}} {
		for level, l := range f.levels {
			metrics.WriteGaugeFloat64(w, fmt.Sprintf(`stemma_layers{family="%s",level="%d"}`, f.name, level), float64(l.Layers))
		}
	}
	for _, f := range []struct {
		name   string
		levels []timeline.LevelMetrics
	}{{"main", m.Levels[:]}, {"history", m.History[:]}} {
		for level, l := range f.levels {
			metrics.WriteGaugeFloat64(w, fmt.Sprintf(`stemma_layer_bytes{family="%s",level="%d"}`, f.name, level), float64(l.Bytes))
		}
	}
}

func writeLogMetrics(w io.Writer, m *timeline.Metrics) {
	gauge := func(name string, v float64) { metrics.WriteGaugeFloat64(w, name, v) }
	counter := func(name string, v uint64) { metrics.WriteCounterUint64(w, name, v) }
	seconds := func(name string, v float64) { metrics.WriteCounterFloat64(w, name, v) }
	gauge("stemma_wal_bytes", float64(m.LogBytes))
	gauge("stemma_wal_segments", float64(m.Log.Segments))
	gauge("stemma_wal_segments_ready", float64(m.Log.Ready))
	counter("stemma_wal_commits_total", m.Log.Commits)
	counter("stemma_wal_groups_total", m.Log.Groups)
	counter("stemma_wal_payload_bytes_total", m.Log.PayloadBytes)
	counter("stemma_wal_written_bytes_total", m.Log.WrittenBytes)
	seconds("stemma_wal_write_seconds_total", m.Log.WriteTime.Seconds())
	seconds("stemma_wal_sync_seconds_total", m.Log.SyncTime.Seconds())
	seconds("stemma_wal_apply_seconds_total", m.Log.ApplyTime.Seconds())
	gauge("stemma_wal_sync_seconds_max", m.Log.MaxSyncTime.Seconds())
	counter("stemma_wal_room_waits_total", m.Log.RoomWaits)
}
