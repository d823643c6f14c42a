package report

import (
	"fmt"
	"io"
	"time"
)

// Progress tells somebody what is being done; nobody if W is nil.
type Progress struct{ W io.Writer }

// Say writes a line with the time of day.
func (p Progress) Say(format string, args ...any) {
	if p.W != nil {
		fmt.Fprintf(p.W, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
	}
}
