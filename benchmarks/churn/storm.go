package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"stemma/benchmarks/internal/engine"
	"stemma/timeline"
)

const base = "base"

// object is what a key holds: size bytes that follow from the seed.
type object struct {
	seed uint64 // zero: nothing
	size int
	hash uint64
}

// bucket is what is known of a bucket.
type bucket struct {
	name    string
	content engine.Content
	own     map[int]object // keys that a fork changed; of the base: all
}

// storm is one run on one store.
type storm struct {
	e    *engine.Engine
	ctx  context.Context
	rng  *rand.Rand
	base bucket

	living []*bucket
	seeds  uint64
	buf    []byte

	alone, peak                       int64 // layers and values on the disk
	user, streamed                    int64 // bytes of bodies put in forks
	exclusive, sampled                int64 // of forks, before they were deleted
	baseChecks, forkChecks, getChecks int
}

func key(i int) []byte { return fmt.Appendf(nil, "object-%09d", i) }

// body makes a new object of a random size; the bytes are good until the next call.
func (s *storm) body(i int) (object, []byte) {
	s.seeds++
	o := object{seed: s.seeds, size: engine.Size(s.rng, *least, *most)}
	p := s.bytes(o)
	o.hash = engine.Hash(key(i), p)
	return o, p
}

func (s *storm) bytes(o object) []byte {
	if cap(s.buf) < o.size {
		s.buf = make([]byte, 2*o.size)
	}
	p := s.buf[:o.size]
	engine.Fill(p, o.seed)
	return p
}

// fill makes the base.
func (s *storm) fill() error {
	if _, err := s.e.CreateBucket(s.ctx, timeline.NewBucket{Name: base}); err != nil {
		return err
	}
	s.base = bucket{name: base, own: make(map[int]object, *objects)}
	b := s.e.NewBatch(base)
	for i := range *objects {
		o, p := s.body(i)
		s.base.own[i] = o
		s.base.content.Add(o.size, o.hash)
		if err := b.Put(s.ctx, key(i), p); err != nil {
			return err
		}
	}
	return b.Commit(s.ctx)
}

// settle collects everything and returns what is on the disk then.
func (s *storm) settle() (engine.Disk, error) {
	if _, err := s.e.CollectFull(s.ctx); err != nil {
		return engine.Disk{}, fmt.Errorf("full collection: %w", err)
	}
	return engine.DiskOf(s.e.Dir)
}

// run makes all forks and deletes those that are too many.
func (s *storm) run() error {
	for i := range *forks {
		if err := s.fork(fmt.Sprintf("fork-%06d", i)); err != nil {
			return err
		}
		for len(s.living) > *live {
			if err := s.deleteAt(*keep + s.rng.IntN(len(s.living)-*keep)); err != nil {
				return err
			}
		}
		if (i+1)%*verify == 0 {
			if err := s.check(); err != nil {
				return fmt.Errorf("after %d forks: %w", i+1, err)
			}
		}
		disk, err := engine.DiskOf(s.e.Dir)
		if err != nil {
			return err
		}
		s.peak = max(s.peak, disk.Data())
	}
	return nil
}

// fork makes a fork and changes a part of it: half overwritten, a quarter
// deleted, and as many new ones.
func (s *storm) fork(name string) error {
	if err := s.e.Fork(s.ctx, base, name); err != nil {
		return err
	}
	f := &bucket{name: name, content: s.base.content, own: make(map[int]object)}
	b := s.e.NewBatch(name)
	changes := max(1, int(*change*float64(*objects)))
	for n := range changes {
		i := s.rng.IntN(*objects)
		if n%4 == 2 {
			i = *objects + n // a new one
		}
		var o object
		var err error
		if n%4 == 3 {
			err = b.Delete(s.ctx, key(i))
		} else {
			var p []byte
			o, p = s.body(i)
			s.user += int64(o.size)
			if o.size >= engine.InlineBelow {
				s.streamed += int64(o.size)
			}
			err = b.Put(s.ctx, key(i), p)
		}
		if err != nil {
			return err
		}
		s.change(f, i, o)
	}
	s.living = append(s.living, f)
	if err := b.Commit(s.ctx); err != nil {
		return err
	}
	return s.spotCheck(f)
}

// change enters what a fork holds now under a key.
func (s *storm) change(f *bucket, i int, o object) {
	if old := s.holds(f, i); old.seed != 0 {
		f.content.Remove(old.size, old.hash)
	}
	if o.seed != 0 {
		f.content.Add(o.size, o.hash)
	}
	f.own[i] = o
}

func (s *storm) holds(f *bucket, i int) object {
	if o, ok := f.own[i]; ok {
		return o
	}
	return s.base.own[i]
}

// spotCheck reads some objects of a fork one by one, changed and inherited ones.
func (s *storm) spotCheck(f *bucket) error {
	n := 0
	for i := range f.own {
		if err := s.checkGet(f, i); err != nil {
			return err
		}
		if err := s.checkGet(f, s.rng.IntN(*objects)); err != nil {
			return err
		}
		if n++; n == 10 {
			break
		}
	}
	return nil
}

func (s *storm) checkGet(f *bucket, i int) error {
	s.getChecks++
	want := s.holds(f, i)
	p, err := s.e.Get(s.ctx, f.name, 0, key(i))
	switch {
	case errors.Is(err, timeline.ErrNotFound) && want.seed == 0:
		return nil
	case err != nil:
		return fmt.Errorf("%s of %s: %w", key(i), f.name, err)
	case want.seed == 0 || len(p) != want.size || engine.Hash(key(i), p) != want.hash:
		return fmt.Errorf("%s of %s: %d bytes, want %d of seed %d", key(i), f.name, len(p), want.size, want.seed)
	}
	return nil
}

// check compares the base, one fork that stays and one that will go, in full.
func (s *storm) check() error {
	if err := s.e.Verify(s.ctx, base, s.base.content); err != nil {
		return err
	}
	s.baseChecks++
	for _, i := range []int{s.rng.IntN(min(*keep, len(s.living))), s.rng.IntN(len(s.living))} {
		if err := s.e.Verify(s.ctx, s.living[i].name, s.living[i].content); err != nil {
			return err
		}
		s.forkChecks++
	}
	return s.sample()
}

// sample asks what deleting each living fork would free.
func (s *storm) sample() error {
	u, err := s.e.Usage(s.ctx)
	if err != nil {
		return err
	}
	for i := range u.Timelines {
		if t := &u.Timelines[i]; t.State == timeline.TimelineLive && t.BranchLSN != 0 {
			s.exclusive += t.Exclusive
			s.sampled++
		}
	}
	return nil
}

func (s *storm) deleteAt(i int) error {
	f := s.living[i]
	last := len(s.living) - 1
	s.living[i] = s.living[last]
	s.living = s.living[:last]
	return s.e.Patiently(func() error {
		_, err := s.e.DeleteBucket(s.ctx, f.name, timeline.DeleteOptions{Force: true})
		return err
	})
}

// end deletes what lives but for those that are to stay, compares those in full,
// and deletes them.
func (s *storm) end() error {
	for len(s.living) > *keep {
		if err := s.deleteAt(*keep + s.rng.IntN(len(s.living)-*keep)); err != nil {
			return err
		}
	}
	if err := s.e.WaitIdle(s.ctx, *idle); err != nil {
		return err
	}
	if _, err := s.settle(); err != nil {
		return err
	}
	for _, f := range s.living {
		if err := s.e.Verify(s.ctx, f.name, f.content); err != nil {
			return fmt.Errorf("survivor: %w", err)
		}
		s.forkChecks++
	}
	for len(s.living) > 0 {
		if err := s.deleteAt(s.rng.IntN(len(s.living))); err != nil {
			return err
		}
	}
	return nil
}
