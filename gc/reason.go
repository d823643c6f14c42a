package gc

import "fmt"

// Reason says why a record is kept. The zero Reason keeps nothing.
type Reason byte

// The reasons, in the order in which Need looks for them.
const (
	None       Reason = iota // dead: nobody can read it
	Tip                      // newest version of a timeline that is readable
	InWindow                 // superseded within the window of its timeline
	Pin                      // a snapshot or a lease of its timeline reads it
	Child                    // a read child falls through to it
	ProbeLimit               // perhaps a read child falls through to it: the bound on probes was hit
	Unknown                  // its timeline is younger than the tree; callers find that
	numReasons
)

// NumReasons is the number of reasons, None included: for counters by Reason.
const NumReasons = int(numReasons)

var reasonNames = [NumReasons]string{
	"none", "tip", "window", "pin", "child", "probe_limit", "unknown",
}

// String returns the reason in lower case with underscores, as metrics name it.
func (r Reason) String() string {
	if r >= numReasons {
		return fmt.Sprintf("reason_%d", byte(r))
	}
	return reasonNames[r]
}
