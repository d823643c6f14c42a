package timeline

// Step names a durability step of background work, in the order in which the
// steps of one job come.
type Step string

// The steps. What a crash after each of them leaves behind is told in
// ARCHITECTURE.md under "Crash points".
const (
	StepFlushSynced    Step = "flush: values and layer synced"
	StepFlushCommitted Step = "flush: catalog synced"
	StepFlushPublished Step = "flush: version swapped"

	StepMergeWritten   Step = "merge: outputs synced"
	StepMergeVerified  Step = "merge: outputs verified"
	StepMergeCommitted Step = "merge: catalog synced"
	StepMergePublished Step = "merge: version swapped"

	StepRollupWritten   Step = "rollup: layer synced"
	StepRollupCommitted Step = "rollup: catalog synced"
	StepRollupPublished Step = "rollup: version swapped"

	StepAdoptStaged    Step = "adopt: layers synced"
	StepAdoptLogged    Step = "adopt: logged"
	StepAdoptRows      Step = "adopt: rows written"
	StepAdoptPublished Step = "adopt: version swapped"

	StepSegmentRowGone Step = "reclaim: row of segment deleted"
	StepSegmentGone    Step = "reclaim: segment unlinked"
	StepPunched        Step = "reclaim: holes punched"
	StepRewriteWritten Step = "rewrite: segment synced"
	StepRewriteRow     Step = "rewrite: row of segment synced"
	StepRewriteDone    Step = "rewrite: old file unlinked"

	StepExpireLogged Step = "expire: logged"
	StepDropLogged   Step = "drop: logged"
	StepPurged       Step = "purge: rows deleted"
)

// Steps lists all steps.
var Steps = []Step{
	StepFlushSynced, StepFlushCommitted, StepFlushPublished,
	StepMergeWritten, StepMergeVerified, StepMergeCommitted, StepMergePublished,
	StepRollupWritten, StepRollupCommitted, StepRollupPublished,
	StepAdoptStaged, StepAdoptLogged, StepAdoptRows, StepAdoptPublished,
	StepSegmentRowGone, StepSegmentGone, StepPunched, StepRewriteWritten, StepRewriteRow, StepRewriteDone,
	StepExpireLogged, StepDropLogged, StepPurged,
}

// at tells a crash test where the work stands.
func (s *Store) at(step Step) {
	if s.opts.At != nil {
		s.opts.At(step)
	}
}
