package timeline

import (
	"bytes"
	"slices"
	"testing"

	"stemma/layers"
	"stemma/wal"
)

func TestMergePoints(t *testing.T) {
	for _, earlier := range [][]mergePoint{
		nil, {{90, 95}}, {{90, 95}, {90, 94}, {1, 2}},
	} {
		r := layers.Record{LSN: 200, Meta: appendMergePoints(nil, 100, earlier)}
		got, err := decodeMergePoints(&r)
		if want := append([]mergePoint{{100, 200}}, earlier...); err != nil || !slices.Equal(got, want) {
			t.Errorf("decoded %v, %v; want %v", got, err, want)
		}
		for n := range r.Meta {
			if _, err := decodeMergePoints(&layers.Record{LSN: 200, Meta: r.Meta[:n]}); err == nil {
				t.Errorf("%d bytes of %x pass", n, r.Meta)
			}
		}
	}
	r := layers.Record{LSN: 50, Meta: appendMergePoints(nil, 100, []mergePoint{{90, 95}})}
	if got, err := decodeMergePoints(&r); err == nil {
		t.Errorf("a merge before an earlier one: %v", got)
	}
}

func FuzzMergePoints(f *testing.F) {
	f.Add(appendMergePoints(nil, 100, []mergePoint{{90, 95}, {90, 94}}), uint64(200))
	f.Fuzz(func(t *testing.T, meta []byte, lsn uint64) {
		r := layers.Record{LSN: wal.LSN(lsn), Meta: meta}
		points, err := decodeMergePoints(&r)
		if err != nil {
			return
		}
		if again := appendMergePoints(nil, points[0].source, points[1:]); !bytes.Equal(again, meta) {
			t.Errorf("%x decodes to %v, which encodes to %x", meta, points, again)
		}
	})
}
