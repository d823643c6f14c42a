package timeline

import (
	"math"

	"stemma/wal"
)

// parent returns what differences take for the ancestor of n, and what n sees of
// it; no node for a root. That is its lineage. Where that leads to a timeline that was
// purged, what n reads on in stands in for it, as it does for the collection of
// garbage, which keeps the tombstones that differences need by the same rule. A
// timeline that was detached has no ancestor any more.
func (n *node) parent() readPair {
	reads := n.next(math.MaxUint64)
	if a := n.ancestor; reads.node != nil && a != nil && !a.purged.Load() {
		return readPair{a, n.branchLSN}
	}
	return reads
}

// common is the newest point that two lines of history have in common: what both
// see of its timeline. a and b are what each of them alone sees of that.
type common struct {
	node *node
	a, b wal.LSN
}

// lsn returns the LSN at and below which both sides see the same.
func (c *common) lsn() wal.LSN { return min(c.a, c.b) }

// commonPoint finds the newest common point of a at LSN la and b at lb; false when
// they have none.
func commonPoint(a *node, la wal.LSN, b *node, lb wal.LSN) (common, bool) {
	if a == b {
		return common{a, la, lb}, true
	}
	upTo := make(map[*node]wal.LSN)
	for {
		upTo[a] = la
		p := a.parent()
		if p.node == nil {
			break
		}
		a, la = p.node, min(la, p.lsn)
	}
	for {
		if la, ok := upTo[b]; ok {
			return common{b, la, lb}, true
		}
		p := b.parent()
		if p.node == nil {
			return common{}, false
		}
		b, lb = p.node, min(lb, p.lsn)
	}
}
