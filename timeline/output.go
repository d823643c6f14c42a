package timeline

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
	"stemma/wal/storefs"
)

// output writes records, given in order, to layers of one kind and level. Files are cut
// by size between two keys, never between the versions of one, and one is ended
// before the next begins: what a writer keeps in mind grows with its file. Nothing
// is visible until the caller names the layers in the catalog; until finish
// returns them, abort removes what was written.
type output struct {
	s        *Store
	kind     layers.LayerKind
	level    int
	cutBytes int64
	category vfs.DiskWriteCategory
	staged   bool // without LSNs
	// stones are the range tombstones, each of which goes, in pieces, to the files
	// of its keys. They are set before the second file begins.
	stones  []layers.Record
	lastKey layers.Key
	w       *layers.LayerWriter // of the file that is being written; nil: none
	start   layers.Key          // first key that belongs to it; nil for the first file
	ended   []layers.Desc       // of the files before, synced
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

// begin ends the present file and begins one for the keys from start on.
func (o *output) begin(start layers.Key) error {
	if err := o.end(start); err != nil {
		return err
	}
	w, err := layers.NewLayerWriter(o.s.opts.FS, o.s.path(layersDir), o.s.nextFileNum(), layers.WriterOptions{Kind: o.kind, Level: o.level, Category: o.category, Adopted: o.staged})
	if err != nil {
		return err
	}
	o.w, o.start = w, start
	return nil
}

// end gives the present file, if any, the range tombstones of its part of the key
// space, which ends before next (nil: nowhere), ends it and syncs it.
func (o *output) end(next layers.Key) error {
	if o.w == nil {
		return nil
	}
	bounds := layers.KeyRange{Start: o.start, End: next}
	for i := range o.stones {
		if r, ok := layers.ClipTombstone(o.stones[i], bounds); ok {
			if err := o.w.AddRangeTombstone(&r); err != nil {
				return err
			}
		}
	}
	d, err := o.w.Finish()
	if err != nil {
		return err
	}
	o.w, o.ended = nil, append(o.ended, d)
	return nil
}

// finish ends the last file, syncs the directory, verifies every block as it lies
// on disk, and opens the layers, in the order of their keys.
func (o *output) finish() (_ []*layers.Layer, err error) {
	if o.w == nil && len(o.ended) == 0 && len(o.stones) > 0 {
		if err := o.begin(nil); err != nil {
			return nil, err
		}
	}
	if err := o.end(nil); err != nil {
		return nil, err
	}
	var opened []*layers.Layer
	defer func() {
		if err != nil {
			o.s.discard(opened)
		}
	}()
	if err := storefs.SyncDir(o.s.opts.FS, o.s.path(layersDir)); err != nil {
		return nil, fmt.Errorf("sync directory of layers: %w", err)
	}
	for _, d := range o.ended {
		l, err := layers.OpenLayer(o.s.opts.FS, o.s.path(layersDir), d, o.s.cache)
		if err != nil {
			return nil, err
		}
		opened = append(opened, l)
		if err := l.Verify(); err != nil {
			return nil, fmt.Errorf("verify new layer: %w", err)
		}
	}
	o.ended = nil
	return opened, nil
}

// abort removes files that finish did not hand over. A file that cannot be
// removed is found by the next start.
func (o *output) abort() {
	var errs []error
	if o.w != nil {
		errs = append(errs, o.w.Abort())
	}
	for _, d := range o.ended {
		if err := o.s.opts.FS.Remove(o.s.layerPath(d.Num)); !oserror.IsNotExist(err) { // finish may have removed it
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		o.s.opts.Logger.Warn("remove unfinished layers", "err", err)
	}
	o.w, o.ended = nil, nil
}

func (s *Store) layerPath(num layers.FileNum) string {
	return s.opts.FS.PathJoin(s.path(layersDir), layers.LayerName(num))
}

// discard closes and removes layers that the catalog does not name.
func (s *Store) discard(ls []*layers.Layer) {
	for _, l := range ls {
		err := errors.Join(l.Close(), s.opts.FS.Remove(s.layerPath(l.Desc().Num)))
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
