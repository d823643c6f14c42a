package timeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stemma/layers"
	"stemma/wal"
)

// Lock names a key that Update reads or writes. Writers of a key that was not
// read need no exclusive lock.
type Lock struct {
	NS        layers.Namespace
	Key       []byte
	Exclusive bool
}

// Tx reads the newest visible state under the locks of Update and gathers what
// to write.
type Tx struct {
	Batch
	view   *View
	staged *stage // what was too much for a commit; nil: nothing
	// stageFrom is the size from which MakeRoom stages; zero: never.
	stageFrom int64
}

// MakeRoom has what was written so far go to a layer if it is much for one commit, so that more can be written in bounded
// memory. No key of it may be written again; range deletes hide nothing of it. Only in ExclusiveLarge and merges
// does it do anything; elsewhere what is too much is ErrBatchTooLarge in the end.
func (tx *Tx) MakeRoom() error {
	if tx.stageFrom == 0 || int64(tx.Bytes()) <= tx.stageFrom {
		return nil
	}
	return tx.stage()
}

// Get reads one key; see View.Get. The key must be among the locks, or be one of
// NamespaceConfig, see GuardConfig.
func (tx *Tx) Get(ns layers.Namespace, key []byte) (layers.Record, error) {
	if ns == layers.NamespaceConfig {
		tx.GuardConfig()
	}
	return tx.view.Get(ns, key)
}

// Stack reads a page; see View.Stack. What guards it must be among the locks.
func (tx *Tx) Stack(ns layers.Namespace, key []byte, dst []layers.Record) ([]layers.Record, error) {
	return tx.view.Stack(ns, key, dst)
}

// Scan walks a range; see View.Scan. Only under Exclusive, or when the locks
// make the answer stable, does it still hold at the commit.
func (tx *Tx) Scan(ns layers.Namespace, lower, upper []byte) *layers.Scan {
	return tx.view.Scan(ns, lower, upper)
}

// LSN returns the LSN that the Tx reads at.
func (tx *Tx) LSN() wal.LSN { return tx.view.lsn }

// BranchLSN is View.BranchLSN.
func (tx *Tx) BranchLSN() wal.LSN { return tx.view.BranchLSN() }

// Info describes the bucket.
func (tx *Tx) Info() Info { return tx.view.Info() }

// Commit writes a batch without looking at what was there, but see Batch.Guard.
// On return the records are durable and visible, at the LSN returned.
//
// Errors: ErrNoSuchBucket, ErrReadOnly, ErrConfigChanged, ErrBatchTooLarge, ErrSlowDown,
// storefs.ErrDiskFull and ctx's before anything was written; *wal.ReadOnlyError,
// after which the commit is indeterminate: whole or absent, never half.
func (s *Store) Commit(ctx context.Context, name string, b *Batch) (wal.LSN, error) {
	if err := s.admit(ctx, b); err != nil {
		return 0, err
	}
	if err := s.admitSpace(b); err != nil {
		return 0, err
	}
	lsn, err := s.retryMoved(ctx, name, func(bk *bucket, n *node) (wal.LSN, error) {
		var few [8]uint32
		set := stripeSet(few[:0])
		ranged := false
		for i := range b.ops {
			ranged = ranged || b.ops[i].kind == layers.KindRangeTombstone
			set = set.add(n.id, b.ops[i].ns, b.ops[i].key, false)
		}
		if ranged { // it touches keys that have no stripe here: nobody may have read one and not yet written
			n.use().gate.Lock()
			defer n.use().gate.Unlock()
			return s.append(ctx, name, bk, n, b, nil)
		}
		n.use().gate.RLock()
		defer n.use().gate.RUnlock()
		set = set.sorted()
		s.stripes.lock(set)
		defer s.stripes.unlock(set)
		return s.append(ctx, name, bk, n, b, nil)
	})
	if errors.Is(err, ErrConfigChanged) {
		err = s.settleConfig(ctx, name)
	}
	return lsn, err
}

// Update runs fn while it holds the stripes of locks, and commits what fn
// wrote. Every key that fn writes must be among the locks; a range delete takes
// none on the keys that it hides, so if others write those, use Exclusive. fn
// may run again when the bucket's name has moved meanwhile, or the configuration
// that it read has changed. When fn writes nothing, the LSN returned is the one that it read at.
//
// Errors: those of fn and of Commit.
func (s *Store) Update(ctx context.Context, name string, locks []Lock, fn func(tx *Tx) error) (wal.LSN, error) {
	if err := s.admit(ctx, nil); err != nil {
		return 0, err
	}
	return s.retryMoved(ctx, name, func(bk *bucket, n *node) (wal.LSN, error) {
		var few [8]uint32
		set := stripeSet(few[:0])
		for i := range locks {
			set = set.add(n.id, locks[i].NS, locks[i].Key, locks[i].Exclusive)
		}
		n.use().gate.RLock()
		defer n.use().gate.RUnlock()
		set = set.sorted()
		s.stripes.lock(set)
		defer s.stripes.unlock(set)
		return s.transact(ctx, name, bk, n, s.opts.maxCommitBytes(), fn)
	})
}

// Exclusive is Update with the timeline's gate held exclusively: no other
// commit to the timeline runs meanwhile, so scans hold at the commit.
func (s *Store) Exclusive(ctx context.Context, name string, fn func(tx *Tx) error) (wal.LSN, error) {
	return s.exclusive(ctx, name, s.opts.maxCommitBytes(), fn)
}

// ExclusiveLarge is Exclusive of a commit that may have more than the log has room for: fn calls Tx.MakeRoom now and then.
func (s *Store) ExclusiveLarge(ctx context.Context, name string, fn func(tx *Tx) error) (wal.LSN, error) {
	return s.exclusive(ctx, name, s.opts.maxMergeBytes(), func(tx *Tx) error {
		tx.stageFrom = s.opts.MergeBytes
		return fn(tx)
	})
}

// exclusive is Exclusive with a commit of up to so many bytes.
func (s *Store) exclusive(ctx context.Context, name string, maxBytes int, fn func(tx *Tx) error) (wal.LSN, error) {
	if err := s.admit(ctx, nil); err != nil {
		return 0, err
	}
	return s.retryMoved(ctx, name, func(bk *bucket, n *node) (wal.LSN, error) {
		n.use().gate.Lock()
		defer n.use().gate.Unlock()
		return s.transact(ctx, name, bk, n, maxBytes, fn)
	})
}

// transact runs fn on the newest visible state of n and commits its batch.
func (s *Store) transact(ctx context.Context, name string, bk *bucket, n *node, maxBytes int, fn func(tx *Tx) error) (wal.LSN, error) {
	if !bk.leadsTo(name, n) {
		return 0, errMoved
	}
	version, visible, err := s.acquire()
	if err != nil {
		return 0, err
	}
	tx := &Tx{view: s.newView(version, bk, n, visible)}
	tx.writer = writerOf(ctx)
	done, err := s.prepare(tx, maxBytes, fn)
	tx.view.Close()
	if err != nil {
		tx.staged.end(err)
		return 0, err
	}
	if tx.empty() {
		return visible, nil
	}
	lsn, err := s.append(ctx, name, bk, n, &tx.Batch, tx.staged)
	tx.staged.end(err)
	done(err == nil)
	if errors.Is(err, ErrConfigChanged) {
		err = errMoved // fn runs again
	}
	return lsn, err
}

// prepare runs fn, and finds out whether what it wrote may be committed; then, if that
// is anything, done must be told what became of it.
func (s *Store) prepare(tx *Tx, maxBytes int, fn func(tx *Tx) error) (done func(committed bool), err error) {
	if err := fn(tx); err != nil || tx.empty() {
		return nil, err
	}
	if tx.staged != nil { // all of it or nothing: the commit then has nothing but layers
		if err := tx.stage(); err != nil {
			return nil, err
		}
		s.at(StepAdoptStaged)
	}
	if err := tx.check(maxBytes); err != nil {
		return nil, err
	}
	if err := s.admitSpace(&tx.Batch); err != nil {
		return nil, err
	}
	done, err = s.askAdmission(tx)
	if err == nil && tx.staged != nil && tx.staged.err != nil {
		done(false)
		return nil, tx.staged.err
	}
	return done, err
}

// empty reports whether tx writes nothing.
func (tx *Tx) empty() bool { return tx.Len() == 0 && tx.staged == nil }

// append encodes and logs a batch whose locks are held, and waits until it is
// visible. With a stage it is empty but for what it remembers, and the layers of that are adopted.
//
// Errors: errMoved, ErrReadOnly, ErrConfigChanged, and those of the log.
func (s *Store) append(ctx context.Context, name string, bk *bucket, n *node, b *Batch, st *stage) (wal.LSN, error) {
	b.writer = writerOf(ctx)
	var c wal.Commit
	if st == nil {
		c.Payload = b.encode(n.id)
	} else {
		c.Payload = st.encode()
		st.hold()
	}
	stamps := b.stamps()
	c.Reserve = func(lsn wal.LSN) error {
		if !bk.leadsTo(name, n) {
			return errMoved
		}
		if bk.readOnly() {
			return ErrReadOnly
		}
		if !s.configHolds(&b.guard, n) {
			return ErrConfigChanged
		}
		if b.configures {
			n.use().configured.Store(uint64(lsn))
		}
		for _, at := range stamps {
			stamp := Stamp(lsn)
			copy(c.Payload[at:], stamp[:])
		}
		return nil
	}
	return s.logCommit(ctx, &c)
}

// logCommit puts a commit into the log's order and waits until it is visible.
func (s *Store) logCommit(ctx context.Context, c *wal.Commit) (wal.LSN, error) {
	if err := s.log.Append(ctx, c); err != nil {
		return 0, s.logError(err)
	}
	if err := s.log.Wait(c); err != nil {
		return 0, s.logError(err)
	}
	return c.LSN, nil
}

func (s *Store) logError(err error) error {
	if errors.Is(err, errMoved) || errors.Is(err, ErrConfigChanged) {
		return err
	}
	return fmt.Errorf("commit: %w", err)
}

// retryMoved runs try on the timeline that the name leads to, again for as
// long as the name moves before the commit has its place in the order, or an
// Admission says Later.
func (s *Store) retryMoved(ctx context.Context, name string, try func(*bucket, *node) (wal.LSN, error)) (wal.LSN, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		bk, visible, err := s.lookup(name)
		if err != nil {
			return 0, err
		}
		lsn, err := try(bk, bk.at(visible).node)
		if later := asLater(err); later != nil {
			if err := later.Wait(ctx); err != nil {
				return 0, err
			}
			continue
		}
		if !errors.Is(err, errMoved) {
			return lsn, err
		}
		// What moved the name is in the order but maybe not visible yet.
		if err := s.log.Settle(ctx, s.log.LastReserved()); err != nil {
			return 0, fmt.Errorf("wait for bucket %q to settle: %w", name, err)
		}
	}
}

// AdmitWrite refuses what a commit would refuse now, before the caller goes to
// the length of receiving a large body: ErrClosed, *wal.ReadOnlyError,
// storefs.ErrDiskFull, and after a wait ErrSlowDown.
func (s *Store) AdmitWrite(ctx context.Context) error {
	if err := s.admitFS(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return s.admit(ctx, nil)
}

// admit refuses a commit that could not be finished: too large, store closing or
// read-only, flush too far behind.
func (s *Store) admit(ctx context.Context, b *Batch) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if err := s.log.Err(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if b != nil {
		if err := b.check(s.opts.maxCommitBytes()); err != nil {
			return err
		}
	}
	return s.waitForFlush(ctx)
}

// admitSpace refuses to write more when the disk is nearly full. Deletions are
// let through: they are what makes room.
func (s *Store) admitSpace(b *Batch) error {
	if b.onlyDeletes() {
		return nil
	}
	if err := s.admitFS(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// waitForFlush lets a commit pass while flush and compaction keep up. Otherwise
// it waits for them for up to slowDownAfter, then refuses.
func (s *Store) waitForFlush(ctx context.Context) error {
	var timeout *time.Timer
	for {
		s.mu.Lock()
		err, changed := s.mu.failed, s.mu.changed
		behind := len(s.mu.frozen) >= maxFrozen
		s.mu.Unlock()
		if err != nil {
			return err
		}
		behind = behind || s.log.Size() >= s.opts.WALStopBytes || s.level0.Load() >= maxL0Layers
		if !behind {
			return nil
		}
		if timeout == nil {
			timeout = time.NewTimer(slowDownAfter)
			defer timeout.Stop()
		}
		select {
		case <-changed:
		case <-timeout.C:
			s.metrics.slowDowns.Add(1)
			return ErrSlowDown
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closing.Done():
			return ErrClosed
		}
	}
}
