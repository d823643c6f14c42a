package engine

import (
	"fmt"
	"io"

	"stemma/timeline"
)

// WriteAmplification prints what was written to the disk between two snapshots,
// by source, beside user: the bytes of bodies that came in, of which streamed
// went to value segments at once.
func WriteAmplification(out io.Writer, before, after timeline.Metrics, user, streamed int64) {
	rows := []struct {
		source string
		bytes  int64
	}{
		{"log", int64(after.Log.WrittenBytes - before.Log.WrittenBytes)},
		{"values streamed", streamed},
		{"values packed by flush", after.PackedBytes - before.PackedBytes},
		{"layers of flush", after.FlushedBytes - before.FlushedBytes},
		{"layers of compaction", after.CompactedBytes - before.CompactedBytes},
		{"layers of collection", after.CollectedBytes - before.CollectedBytes},
		{"layers of rollups", after.RollupBytes - before.RollupBytes},
		{"layers of merges", after.AdoptedBytes - before.AdoptedBytes},
		{"value segments rewritten", after.RewrittenBytes - before.RewrittenBytes},
	}
	var sum int64
	fmt.Fprintf(out, "%-26s %12s %8s\n", "written", "MiB", "times")
	fmt.Fprintf(out, "%-26s %12s %8.2f\n", "user", MiB(user), 1.0)
	times := func(n int64) float64 { return float64(n) / float64(max(user, 1)) }
	for _, r := range rows {
		sum += r.bytes
		fmt.Fprintf(out, "%-26s %12s %8.2f\n", r.source, MiB(r.bytes), times(r.bytes))
	}
	fmt.Fprintf(out, "%-26s %12s %8.2f\n", "all", MiB(sum), times(sum))
	fmt.Fprintf(out, "%-26s %12s\n", "given back (values)", MiB(after.ReclaimedBytes-before.ReclaimedBytes))
	fmt.Fprintf(out, "flushes %d, compactions %d, collections %d, rollups %d, slow-downs %d\n", after.Flushes-before.Flushes,
		after.Compactions-before.Compactions, after.Collections-before.Collections, after.Rollups-before.Rollups, after.SlowDowns-before.SlowDowns)
}
