package timeline

import (
	"strings"
	"testing"

	"stemma/layers"
	"stemma/wal"
)

// FuzzDescribe: the texts of the tools survive any bytes, and are one line each.
func FuzzDescribe(f *testing.F) {
	for _, key := range []string{"a", "f", "h", "t12345678", "w12345678", "b12345678", "p12345678", "l12345678", "s12345678", "x", ""} {
		f.Add([]byte(key), row(1, 2, 3, 4, 5, 6, 7))
		f.Add([]byte(key), appendBytes(row(1, 2, 3, 4), "name"))
		f.Add([]byte(key), appendBytes(row(1, 2), "name\nof two lines"))
	}
	f.Add([]byte("commit"), encodeTree([]treeOp{{tag: opCreate, bucket: 1, timeline: 1, name: "a\nb"}, {tag: opDeleteSnapshot, snapshot: 3}}))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		oneLine := func(text string) error {
			if strings.Contains(text, "\n") {
				t.Errorf("text of two lines: %q", text)
			}
			return nil
		}
		text, err := describeRow(key, value)
		if text == "" {
			t.Errorf("row %x has no text (%v)", key, err)
		}
		_ = oneLine(text)
		_ = DescribeCommit(wal.LSN(1), value, oneLine) // its error is about value
		if k := layers.Key(key); k.Valid() {
			_ = oneLine(DescribeRecord(&layers.Record{Key: k, Kind: layers.KindValue, Body: layers.Body(value)}))
		}
	})
}
