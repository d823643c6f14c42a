package layers

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"stemma/wal"
	"stemma/wal/storefs"
)

// Scripts over whole layer files: what a file holds, byte by byte, and what is
// read from it. The dumps are the golden of the format's version.
func TestLayerScripts(t *testing.T) {
	fs := storefs.NewMem()
	var l *Layer
	datadriven.RunTest(t, "testdata/layer", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		switch d.Cmd {
		case "write":
			var points, stones []Record
			for line := range strings.Lines(d.Input) {
				if r := parseRecord(t, line); r.Kind == KindRangeTombstone {
					stones = append(stones, r)
				} else {
					points = append(points, r)
				}
			}
			o := WriterOptions{Level: 1, Adopted: d.HasArg("adopted")}
			switch {
			case d.HasArg("image"):
				o.Kind = ImageLayer
			case d.HasArg("history"):
				o.Kind = HistoryLayer
			}
			desc := writeLayer(t, fs, o, points, stones)
			if d.HasArg("adopted") {
				desc.AdoptedLSN = 1000
			}
			l = openLayer(t, fs, desc, nil)
			if err := l.Verify(); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "[%s, %s) LSNs %d to %d, %d entries, %d deletes, %d range tombstones, %d raw, %d stored\n", desc.Range.Start, desc.Range.End,
				desc.MinLSN, desc.MaxLSN, desc.Entries, desc.Deletes, desc.RangeTombstones, desc.RawBytes, desc.Bytes)
			if desc.MaxDeath > 0 {
				fmt.Fprintf(&out, "the last death is at %d\n", desc.MaxDeath)
			}
		case "dump":
			dumpLayer(&out, l, readFile(t, fs, "layers/"+LayerName(7)))
		case "get":
			for line := range strings.Lines(d.Input) {
				f := strings.Fields(line)
				lsn, _ := strconv.ParseUint(f[2], 10, 64)
				key := parseRecord(t, f[0]+" "+f[1]+" 1 value").Key
				r, ok, err := l.Get(key, wal.LSN(lsn), nil)
				cover, _ := l.CoveringTombstone(key, wal.LSN(lsn))
				if !ok || err != nil {
					fmt.Fprintf(&out, "%s: nothing, err %v, cover %d\n", strings.TrimSpace(line), err, cover)
					continue
				}
				fmt.Fprintf(&out, "%s: at %s kind %d meta %q body %q, cover %d\n", strings.TrimSpace(line), lifeOf(&r), r.Kind, r.Meta, r.Body, cover)
			}
		default:
			t.Fatalf("unknown command %q", d.Cmd)
		}
		return out.String()
	})
}

// dumpLayer writes the bytes of a file, part by part, without the zeros of filters.
func dumpLayer(out *strings.Builder, l *Layer, file []byte) {
	f := &l.foot
	parts := []struct {
		what string
		to   uint64
	}{
		{"header", layerHeaderBytes}, {"data and index blocks", f.points.off}, {"top index", f.points.end()}, {"filter", f.filter.end()},
		{"data and index blocks of range tombstones", f.tombstones.off}, {"top index of range tombstones", f.tombstones.end()},
		{"properties", f.properties.end()}, {"footer", f.fileBytes},
	}
	zeros := regexp.MustCompile(`(?m)(^.{8}  (00 ){8} (00 ){8} .*\n)+`)
	at := uint64(0)
	for _, p := range parts {
		if p.to <= at {
			continue
		}
		fmt.Fprintf(out, "%s, %d to %d:\n", p.what, at, p.to)
		out.WriteString(zeros.ReplaceAllString(hex.Dump(file[at:p.to]), "*\n"))
		at = p.to
	}
}
