package timeline

import (
	"context"
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/wal"
)

// ErrConfigChanged says that the configuration that a batch was made for is not
// that of the bucket any more. When it comes, the change is visible.
var ErrConfigChanged = errors.New("timeline: configuration changed")

// ConfigGuard says what configuration a batch was made for: that of a timeline as
// of an LSN. The zero guard guards nothing.
type ConfigGuard struct {
	Timeline layers.TimelineID
	AsOf     wal.LSN
}

// Guard has Commit refuse the batch with ErrConfigChanged when by then the bucket
// leads to another timeline, or a commit above AsOf wrote to the timeline's
// NamespaceConfig or changed the attributes of its bucket.
func (b *Batch) Guard(g ConfigGuard) { b.guard = g }

// lastConfigured is the LSN of the last commit in order that can have written
// configuration to a timeline, or changed the attributes of its bucket: its birth, or the last commit before the store was
// opened, when there was none since.
func (s *Store) lastConfigured(n *node) wal.LSN {
	return max(n.birth, wal.LSN(n.use().configured.Load()), s.opened)
}

// configHolds reports whether for the next commit in order, to n, the configuration is
// the one that g speaks of. The caller is in Reserve.
func (s *Store) configHolds(g *ConfigGuard, n *node) bool {
	return g.Timeline == 0 || g.Timeline == n.id && s.lastConfigured(n) <= g.AsOf
}

// Configured returns the timeline that a bucket leads to, and the LSN of the last
// commit in order, visible or not, that can have changed its configuration.
// Errors: ErrNoSuchBucket.
func (s *Store) Configured(name string) (layers.TimelineID, wal.LSN, error) {
	bk, visible, err := s.lookup(name)
	if err != nil {
		return 0, 0, err
	}
	n := bk.at(visible).node
	return n.id, s.lastConfigured(n), nil
}

// Configured is Store.Configured of the timeline that is read.
func (v *View) Configured() (layers.TimelineID, wal.LSN) {
	return v.node.id, v.store.lastConfigured(v.node)
}

// Configured is Store.Configured of the timeline that is read.
func (tx *Tx) Configured() (layers.TimelineID, wal.LSN) { return tx.view.Configured() }

// GuardConfig says that what fn read of the configuration must still hold at the
// commit; otherwise fn runs again. Get of NamespaceConfig implies it.
func (tx *Tx) GuardConfig() { tx.Guard(ConfigGuard{Timeline: tx.view.node.id, AsOf: tx.view.lsn}) }

// settleConfig waits until the change that a guard ran into is visible.
func (s *Store) settleConfig(ctx context.Context, name string) error {
	if err := s.log.Settle(ctx, s.log.LastReserved()); err != nil {
		return fmt.Errorf("wait for the configuration of bucket %q to settle: %w", name, err)
	}
	return ErrConfigChanged
}
