package timeline

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
	"stemma/wal/storefs"
)

// output writes records, given in order, to layers of one kind and level. Files are cut
// by size between two keys, never between the versions of one. Nothing is
// visible until the caller names the layers in the catalog; until finish
// returns them, abort removes what was written.
type output struct {
	s        *Store
	kind     layers.LayerKind
	level    int
	cutBytes int64
	category vfs.DiskWriteCategory
	w        *layers.LayerWriter
	lastKey  layers.Key
	files    []outputFile
}

type outputFile struct {
	w     *layers.LayerWriter
	start layers.Key // first key that belongs to the file; nil for the first file
}

func (s *Store) newOutput(kind layers.LayerKind, level int, category vfs.DiskWriteCategory) *output {
	o := &output{s: s, kind: kind, level: level, cutBytes: s.opts.LayerBytes, category: category}
	if kind == layers.DeltaLayer && level == 0 {
		o.cutBytes = math.MaxInt64 // a flush writes one layer
	}
	return o
}

func (o *output) add(r *layers.Record) error {
	newKey := o.lastKey.Compare(r.Key) != 0
	if o.w == nil || (newKey && o.w.EstimatedBytes() >= o.cutBytes) {
		start := slices.Clone(r.Key)
		if o.w == nil {
			start = nil
		}
		if err := o.begin(start); err != nil {
			return err
		}
	}
	if newKey {
		o.lastKey = append(o.lastKey[:0], r.Key...)
	}
	return o.w.Add(r)
}

func (o *output) begin(start layers.Key) error {
	w, err := layers.NewLayerWriter(o.s.opts.FS, o.s.path(layersDir), o.s.nextFileNum(), layers.WriterOptions{Kind: o.kind, Level: o.level, Category: o.category})
	if err != nil {
		return err
	}
	o.w = w
	o.files = append(o.files, outputFile{w, start})
	return nil
}

// finish gives each file the range tombstones of its part of the key space,
// ends and syncs the files and the directory, verifies every block as it lies
// on disk, and opens the layers.
func (o *output) finish(tombstones []layers.Record) (_ []*layers.Layer, err error) {
	if len(o.files) == 0 && len(tombstones) > 0 {
		if err := o.begin(nil); err != nil {
			return nil, err
		}
	}
	var opened []*layers.Layer
	defer func() {
		if err != nil {
			o.s.discard(opened)
		}
	}()
	var descs []layers.Desc
	for i, f := range o.files {
		bounds := layers.KeyRange{Start: f.start}
		if i+1 < len(o.files) {
			bounds.End = o.files[i+1].start
		}
		for j := range tombstones {
			if r, ok := layers.ClipTombstone(tombstones[j], bounds); ok {
				if err := f.w.AddRangeTombstone(&r); err != nil {
					return nil, err
				}
			}
		}
		d, err := f.w.Finish()
		if err != nil {
			return nil, err
		}
		descs = append(descs, d)
	}
	if err := storefs.SyncDir(o.s.opts.FS, o.s.path(layersDir)); err != nil {
		return nil, fmt.Errorf("sync directory of layers: %w", err)
	}
	for _, d := range descs {
		l, err := layers.OpenLayer(o.s.opts.FS, o.s.path(layersDir), d, o.s.cache)
		if err != nil {
			return nil, err
		}
		opened = append(opened, l)
		if err := l.Verify(); err != nil {
			return nil, fmt.Errorf("verify new layer: %w", err)
		}
	}
	o.files = nil
	return opened, nil
}

// abort removes files that finish did not hand over. A file that cannot be
// removed is found by the next start.
func (o *output) abort() {
	for _, f := range o.files {
		if err := f.w.Abort(); err != nil {
			o.s.opts.Logger.Warn("remove unfinished layer", "err", err)
		}
	}
	o.files = nil
}

// discard closes and removes layers that the catalog does not name.
func (s *Store) discard(ls []*layers.Layer) {
	for _, l := range ls {
		err := errors.Join(l.Close(), s.opts.FS.Remove(s.opts.FS.PathJoin(s.path(layersDir), layers.LayerName(l.Desc().Num))))
		if err != nil {
			s.opts.Logger.Warn("remove layer that was not used", "layer", uint64(l.Desc().Num), "err", err)
		}
	}
}

// setLayerRows adds the rows of a new layer and of the value segments it refers to.
func (s *Store) setLayerRows(rows rowBatch, d *layers.Desc) {
	rows.setLayer(d)
	s.segmentRows.add(rows, d)
}
