package tools

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// openLayerFile opens a layer by the path of its file, which alone describes it.
// A staged file, whose LSNs the catalog decides, gets an LSN of 1.
func openLayerFile(fs vfs.FS, path string) (*layers.Layer, error) {
	num, ok := layers.ParseLayerName(fs.PathBase(path))
	if !ok {
		return nil, fmt.Errorf("%s: not the name of a layer file", path)
	}
	dir := fs.PathDir(path)
	d, err := layers.ReadDesc(fs, dir, num)
	if err != nil {
		return nil, err
	}
	if d.MaxLSN == 0 {
		d.AdoptedLSN = 1
	}
	return layers.OpenLayer(fs, dir, d, nil)
}

// dumpLayer lists description, range tombstones and records of a layer file.
func dumpLayer(fs vfs.FS, path string, out io.Writer) error {
	l, err := openLayerFile(fs, path)
	if err != nil {
		return err
	}
	printDesc(out, l.Desc())
	stones := l.RangeTombstones()
	for i := range stones {
		printRecord(out, &stones[i])
	}
	err = eachRecord(l, func(r *layers.Record) error {
		printRecord(out, r)
		return nil
	})
	return errors.Join(err, l.Close())
}

func verifyLayer(fs vfs.FS, path string, out io.Writer) error {
	l, err := openLayerFile(fs, path)
	if err != nil {
		return err
	}
	if err := errors.Join(l.Verify(), l.Close()); err != nil {
		return err
	}
	printDesc(out, l.Desc())
	return nil
}

func printDesc(out io.Writer, d *layers.Desc) {
	fmt.Fprintf(out, "layer %d: %s, level %d, LSN %d..%d, %d bytes, %d entries (%d deletes), %d range tombstones, %d raw bytes\n",
		d.Num, d.Kind, d.Level, d.MinLSN, d.MaxLSN, d.Bytes, d.Entries, d.Deletes, d.RangeTombstones, d.RawBytes)
	fmt.Fprintf(out, "  keys %s to %s\n", d.Range.Start, d.Range.End)
	if d.MaxDeath > 0 {
		fmt.Fprintf(out, "  superseded up to LSN %d\n", d.MaxDeath)
	}
	for _, s := range d.Segments {
		fmt.Fprintf(out, "  %d bytes in value segment %d\n", s.Bytes, s.Segment)
	}
}

func printRecord(out io.Writer, r *layers.Record) {
	if r.Death > 0 {
		fmt.Fprintf(out, "  %d, until %d, %s\n", r.LSN, r.Death, timeline.DescribeRecord(r))
		return
	}
	fmt.Fprintf(out, "  %d %s\n", r.LSN, timeline.DescribeRecord(r))
}

// eachRecord calls visit for every point record in order.
func eachRecord(l *layers.Layer, visit func(*layers.Record) error) error {
	it := l.NewIter(layers.IterOptions{MaxLSN: wal.MaxLSN})
	for ok := it.First(); ok; ok = it.Next() {
		if err := visit(it.Record()); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Err(), it.Close())
}
