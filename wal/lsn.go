package wal

import (
	"fmt"
	"strconv"
	"time"
)

// LSN is the log sequence number of a commit: nanoseconds since 1970 by the
// store clock, strictly increasing over all commits of a store, never reused.
// Zero is no LSN. It is not a position in the log; positions are private to
// this package.
type LSN uint64

// MaxLSN is above every LSN that a commit can get.
const MaxLSN = LSN(1<<63 - 1)

// LSNFromTime returns the LSN that a commit at t would get; zero for a time
// before 1970.
func LSNFromTime(t time.Time) LSN {
	if n := t.UnixNano(); n > 0 {
		return LSN(n)
	}
	return 0
}

// Time returns the store-clock time of l.
func (l LSN) Time() time.Time { return time.Unix(0, int64(l)).UTC() }

// String returns l in decimal, the form of S3 version ids and snapshot versions.
func (l LSN) String() string { return strconv.FormatUint(uint64(l), 10) }

// ParseLSN parses the decimal form. It refuses zero, signs and values past MaxLSN.
func ParseLSN(s string) (LSN, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("parse LSN %q: want a decimal number from 1 to %d", s, uint64(MaxLSN))
	}
	return LSN(n), nil
}
