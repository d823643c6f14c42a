package tools

import (
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// dumpWAL lists the segments with every group that is valid by itself, stale
// ones included, then the commits that a start would replay.
func dumpWAL(s *timeline.Offline, fs vfs.FS, out io.Writer) error {
	segments, err := wal.Inspect(fs, s.WALDir())
	if err != nil {
		return err
	}
	for i := range segments {
		printSegment(out, fs, &segments[i])
	}
	return s.Commits(func(lsn wal.LSN, payload []byte) error {
		fmt.Fprintf(out, "commit %d: %d bytes\n", lsn, len(payload))
		return timeline.DescribeCommit(lsn, payload, func(text string) error {
			_, err := fmt.Fprintf(out, "  %s\n", text)
			return err
		})
	})
}

func printSegment(out io.Writer, fs vfs.FS, seg *wal.SegmentInfo) {
	fmt.Fprintf(out, "segment %s: %d bytes", fs.PathBase(seg.Name), seg.Bytes)
	if seg.Unused != "" {
		fmt.Fprintf(out, ", unused: %s\n", seg.Unused)
	} else {
		fmt.Fprintf(out, ", incarnation %d after %d, first sequence %d, first LSN %d, continues CRC %08x\n",
			seg.Incarnation, seg.PrevIncarnation, seg.FirstSequence, seg.FirstLSN, seg.PrevCRC)
	}
	for _, g := range seg.Groups {
		what := fmt.Sprintf("%d commits of %d bytes, LSN %d..%d", g.Commits, g.PayloadBytes, g.First, g.Last)
		if g.End {
			what = "end mark"
		}
		fmt.Fprintf(out, "  %8d +%d: incarnation %d, sequence %d, durable %d, CRC %08x after %08x: %s\n",
			g.Offset, g.Bytes, g.Incarnation, g.Sequence, g.Durable, g.CRC, g.PrevCRC, what)
	}
}

// verifyWAL replays the log as a start would.
func verifyWAL(s *timeline.Offline, _ vfs.FS, out io.Writer) error {
	st, err := s.Recover(nil)
	if err != nil {
		return err
	}
	printLog(out, &st)
	return nil
}

func printLog(out io.Writer, st *timeline.OfflineState) {
	end := "ends without a clean close"
	if st.Log.Clean {
		end = "ends with a clean close"
	}
	if st.Log.TornAt != "" {
		end += ", torn at " + st.Log.TornAt
	}
	fmt.Fprintf(out, "log: %d groups of %d bytes, %d commits above LSN %d to replay, last LSN %d, %s\n",
		st.Log.Groups, st.Log.Bytes, st.Log.Commits, st.Flushed, st.Log.LastLSN, end)
}

// verifyValues reads every value that layers or log refer to.
func verifyValues(s *timeline.Offline, fs vfs.FS, out io.Writer) error {
	c, err := newChecker(s, fs, out)
	if err != nil {
		return err
	}
	c.collect(func(l *layers.Layer) error { return nil })
	c.values()
	return c.verdict()
}

// dumpCatalog lists every row; bad ones are marked.
func dumpCatalog(s *timeline.Offline, _ vfs.FS, out io.Writer) error {
	bad := 0
	err := s.Rows(func(text string, rowErr error) error {
		if rowErr != nil {
			bad++
			text += ": BAD: " + rowErr.Error()
		}
		_, err := fmt.Fprintln(out, text)
		return err
	})
	if err == nil && bad > 0 {
		err = fmt.Errorf("bad rows: %d", bad)
	}
	return err
}
