package pageserver

import (
	"fmt"
	"io"

	"github.com/VictoriaMetrics/metrics"

	"stemma/timeline"
)

// storeMetrics returns a writer of the store's numbers. They are taken when
// they are asked for.
func storeMetrics(store *timeline.Store) func(io.Writer) {
	return func(w io.Writer) {
		m := store.Metrics()
		gauge := func(name string, v float64) { metrics.WriteGaugeFloat64(w, name, v) }
		counter := func(name string, v uint64) { metrics.WriteCounterUint64(w, name, v) }
		seconds := func(name string, v float64) { metrics.WriteCounterFloat64(w, name, v) }

		gauge("stemma_visible_lsn", float64(m.VisibleLSN))
		gauge("stemma_horizon_lsn", float64(m.Horizon))
		gauge("stemma_buckets", float64(m.Buckets))
		gauge("stemma_timelines", float64(m.Timelines))
		gauge("stemma_memlayer_bytes", float64(m.MemlayerBytes))
		gauge("stemma_memlayers_frozen", float64(m.FrozenMemlayers))
		for level, l := range m.Levels {
			gauge(fmt.Sprintf(`stemma_layers{level="%d"}`, level), float64(l.Layers))
		}
		for level, l := range m.Levels {
			gauge(fmt.Sprintf(`stemma_layer_bytes{level="%d"}`, level), float64(l.Bytes))
		}
		gauge("stemma_value_segments", float64(m.ValueSegments))
		gauge("stemma_value_segment_bytes", float64(m.ValueSegmentBytes))
		counter("stemma_flushes_total", uint64(m.Flushes))
		counter("stemma_flush_errors_total", uint64(m.FlushErrors))
		counter("stemma_compactions_total", uint64(m.Compactions))
		counter("stemma_compaction_errors_total", uint64(m.CompactionErrors))
		counter("stemma_compacted_bytes_total", uint64(m.CompactedBytes))
		counter("stemma_slow_downs_total", uint64(m.SlowDowns))

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
}
