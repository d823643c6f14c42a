package timeline

import (
	"context"

	"stemma/gc"
	"stemma/layers"
	"stemma/wal"
)

// What a tombstone ended lies in older layers, and goes only when the two meet in
// a merge. A tombstone weighs nothing itself: by weight alone such a merge would
// never be worth it, however much the values weigh. So what records that hold
// no values ended is looked up.

// fewRecords is how many records a layer may have for all those without values
// to be looked at; of a larger one only tombstones are.
const fewRecords = 4096

// endsMuch is how many bytes of values must be dead for a flush or merge that
// serves nothing else.
const endsMuch = 1 << 20

// ended returns the bytes of the values that a record put an end to in its
// timeline, zero when the record holds values itself, and why they are still
// needed; gc.None: they are dead.
func (s *Store) ended(v *layers.Version, k *retainer, r *layers.Record) (int64, gc.Reason, error) {
	id := r.Key.Timeline()
	if id > k.snap.newest || r.LSN <= 1 || r.Kind == layers.KindDelta || valueBytes(r) > 0 {
		return 0, gc.None, nil
	}
	var bytes int64
	var birth wal.LSN
	hop := [1]layers.Hop{{Timeline: id, UpTo: r.LSN - 1}}
	err := v.Walk(hop[:], r.Key.Namespace(), r.Key.User(), func(old *layers.Record, _ int) bool {
		bytes += valueBytes(old)
		if birth == 0 {
			birth = old.LSN
		}
		return old.Kind == layers.KindDelta
	})
	if err != nil || bytes == 0 {
		return 0, gc.None, err
	}
	reason, err := k.snap.Need(id, r.Key.Suffix(), birth, r.LSN, k.prober, k.maxProbes)
	return bytes, reason, err
}

// memlayersEndMuch reports whether the records of the memlayers that hold no
// values put an end to enough that nobody reads.
func (s *Store) memlayersEndMuch(ctx context.Context, snap *treeSnapshot) (bool, error) {
	v, _, err := s.acquireLayers()
	if err != nil {
		return false, err
	}
	defer v.ReleaseLayers()
	k := s.newRetainer(snap, v, nil, false)
	pace := s.newPacer(false)
	var dead int64
	for _, m := range v.Mem {
		it := m.NewIter()
		for ok := it.First(); ok && dead < endsMuch; ok = it.Next() {
			if pace.step(); ctx.Err() != nil {
				return false, firstError(ctx.Err(), it.Close())
			}
			bytes, reason, err := s.ended(v, k, it.Record())
			if err != nil {
				return false, firstError(err, it.Close())
			}
			if reason == gc.None {
				dead += bytes
			}
		}
		if err := firstError(it.Err(), it.Close()); err != nil {
			return false, err
		}
	}
	return dead >= endsMuch, nil
}

// mergeEnded merges the levels above the bottom into it when the records there
// that hold no values ended enough that is dead, by the assessments of the layers.
func (s *Store) mergeEnded(ctx context.Context, mode gc.Mode) error {
	v, _, err := s.acquireLayers()
	if err != nil {
		return err
	}
	ended, all := s.endedInLayers(v)
	merges := layers.BottomLevel // of what is flushed meanwhile no more than that
	for _, level := range v.Levels[:layers.BottomLevel] {
		merges += len(level)
	}
	v.ReleaseLayers()
	if ended < endsMuch || !gc.Rewrite(all, ended, 0, mode) {
		return nil
	}
	for range merges {
		ran, err := s.compactOnce(s.pickDown)
		if err != nil || !ran || ctx.Err() != nil || s.busyAgain(mode) {
			return firstError(err, ctx.Err())
		}
	}
	return nil
}

// endedInLayers adds up what the assessed layers of a Version ended that is dead,
// and what all of them weigh.
func (s *Store) endedInLayers(v *layers.Version) (ended, all int64) {
	add := func(level []*layers.Layer) {
		all += levelWeight(level)
		for _, l := range level {
			if a := s.collector.assessed[l.Desc().Num]; a != nil {
				ended += a.ended
			}
		}
	}
	add(v.L0)
	for _, level := range v.Levels {
		add(level)
	}
	return ended, all
}
