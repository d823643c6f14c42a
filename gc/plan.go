package gc

// Mode is how eager a rewrite is.
type Mode byte

// The modes.
const (
	Busy Mode = iota // beside other work
	Idle             // the store has nothing else to do
	Full             // `gc --full`: all that is dead goes
)

// String returns the mode in lower case.
func (m Mode) String() string {
	switch m {
	case Busy:
		return "busy"
	case Idle:
		return "idle"
	case Full:
		return "full"
	}
	return "unknown"
}

// Rewrite reports whether a layer is worth rewriting in place: of total bytes
// (the file's), dead are those of entries that nobody needs, which hold values of
// deadValues bytes elsewhere. A quarter must be dead; 5 % when idle, anything in
// full. Dead values that weigh as much as the layer suffice always.
func Rewrite(total, dead, deadValues int64, m Mode) bool {
	if dead <= 0 && deadValues <= 0 {
		return false
	}
	if m == Full || deadValues > 0 && deadValues >= total {
		return true
	}
	return dead > 0 && dead >= fraction(total, m)
}

// fraction returns what must be dead of total, rounded up.
func fraction(total int64, m Mode) int64 {
	parts := int64(4)
	if m == Idle {
		parts = 20
	}
	n := total / parts
	if total%parts != 0 {
		n++
	}
	return n
}

// RewriteSegment reports whether a segment of packed values is worth rewriting:
// of allocated bytes, live are referred to. Under half must be live; under 80 %
// when idle, anything less than all in full.
func RewriteSegment(allocated, live int64, m Mode) bool {
	switch m {
	case Full:
		return live < allocated
	case Idle:
		return live < allocated-allocated/5
	default:
		return live < allocated-allocated/2
	}
}

// rollupBase is how many times longer a rollup of the next tier reaches.
const rollupBase = 16

// RollupDepth returns the lineage depth at which a timeline of the given depth
// should read on, when that is not its ancestor's: depth - 16^k, for the highest
// 16^k, k >= 1, that divides it. It is false when depth has no such k.
func RollupDepth(depth int) (target int, ok bool) {
	if depth <= 0 || depth%rollupBase != 0 {
		return 0, false
	}
	step := rollupBase
	for depth/step%rollupBase == 0 {
		step *= rollupBase
	}
	return depth - step, true
}
