package timeline

import (
	"stemma/layers"
	"stemma/wal"
)

// CheckUnchanged refuses a bucket that has a record of its own above an LSN in any of the namespaces. Only
// under Exclusive does it still hold at the commit. Errors: ErrTargetChanged, layers.ErrCorrupt.
func (tx *Tx) CheckUnchanged(since wal.LSN, namespaces ...layers.Namespace) error {
	return tx.view.checkUnchanged(since, namespaces...)
}
