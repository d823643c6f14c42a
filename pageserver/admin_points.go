package pageserver

import (
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// A point in time is a string everywhere in the native API: an LSN in decimal, a time in RFC 3339, how
// long ago it was (-5m), or the name of a snapshot of the bucket. Empty is the tip. No
// snapshot made here has a name that looks like one of the others.

// point returns the LSN that a string names for a bucket; zero is the tip. Errors: InvalidArgument,
// timeline.ErrNoSuchSnapshot, ErrNoSuchBucket, ErrFuture.
func (a *admin) point(bucket, at string) (wal.LSN, error) {
	switch {
	case object.Reserved(bucket):
		return 0, &AdminError{Code: "NoSuchBucket", Message: "no such bucket"}
	case at == "":
		return 0, nil
	}
	lsn, ok, err := parsePoint(a.server.store, at)
	if ok || err != nil {
		return lsn, err
	}
	info, err := a.server.objects.Bucket(bucket, 0)
	if err != nil {
		return 0, err
	}
	snap, err := a.server.store.SnapshotNamed(info.Bucket, at)
	if errors.Is(err, timeline.ErrNoSuchSnapshot) {
		return 0, &AdminError{Code: "NoSuchSnapshot", Message: strconv.Quote(at) + " is no LSN, no time, and no snapshot of " + strconv.Quote(bucket)}
	}
	return snap.LSN, err
}

// parsePoint returns the LSN of a point that is no name; false: it can only be one. Errors:
// InvalidArgument, timeline.ErrFuture.
func parsePoint(store *timeline.Store, at string) (wal.LSN, bool, error) {
	if lsn, err := wal.ParseLSN(at); err == nil {
		return lsn, true, nil
	}
	var lsn wal.LSN
	if t, err := time.Parse(time.RFC3339Nano, at); err == nil {
		if lsn = wal.LSNFromTime(t); lsn == 0 || t.Year() >= 2262 { // nanoseconds overflow in that year
			return 0, true, invalid("the time " + at + " is out of range")
		}
		lsn, err = store.LSNAt(t)
		return lsn, true, err
	}
	if d, err := time.ParseDuration(at); err == nil && strings.HasPrefix(at, "-") {
		now := store.Now()
		if lsn = wal.LSN(-d); d >= 0 || lsn >= now {
			return 0, true, invalid(at + " is no time ago")
		}
		return now - lsn, true, nil
	}
	return 0, false, nil
}

// MaxSnapshotNameBytes bounds the name of a snapshot.
const MaxSnapshotNameBytes = 255

// checkSnapshotName refuses names that could be taken for another point in time, or that
// have no place in a path.
func checkSnapshotName(name string) error {
	bad := func(why string) error {
		return invalid("a snapshot cannot be named " + strconv.Quote(name) + ": " + why)
	}
	switch {
	case name == "":
		return nil
	case len(name) > MaxSnapshotNameBytes || !utf8.ValidString(name):
		return bad("want at most " + strconv.Itoa(MaxSnapshotNameBytes) + " bytes of UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return r == '/' || unicode.IsControl(r) }), name == ".", name == "..":
		return bad("it would have no place in a path")
	case strings.HasPrefix(name, "-"):
		return bad("it would be how long ago")
	case strings.Trim(name, "0123456789") == "":
		return bad("it would be an LSN")
	}
	if _, err := time.Parse(time.RFC3339Nano, name); err == nil {
		return bad("it would be a time")
	}
	return nil
}

// expiry returns when something expires that a request says so of: in a duration, or at a time. Neither
// is never.
func (a *admin) expiry(in string, at *time.Time) (wal.LSN, error) {
	now := a.server.store.Now()
	switch {
	case in != "" && at != nil:
		return 0, invalid("expires_in and expires_at exclude each other")
	case in != "":
		d, err := time.ParseDuration(in)
		if err != nil || d <= 0 {
			return 0, invalid("expires_in " + strconv.Quote(in) + ": want a duration such as 24h")
		}
		return now + min(wal.LSN(d), wal.MaxLSN-now), nil
	case at != nil:
		lsn := wal.LSNFromTime(*at)
		if lsn <= now || at.Year() >= 2262 {
			return 0, invalid("expires_at must lie in the future")
		}
		return lsn, nil
	}
	return 0, nil
}

// expiresAt is the reverse: nil for never.
func expiresAt(lsn wal.LSN) *time.Time {
	if lsn == 0 {
		return nil
	}
	t := lsn.Time()
	return &t
}

// limit returns the parameter limit, or what it is without.
func (r *adminRequest) limit(otherwise, most int) (int, error) {
	s, ok := r.target.Get("limit")
	if !ok {
		return otherwise, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, invalid("limit must be a number from 1 to " + strconv.Itoa(most))
	}
	return n, nil
}

// flag returns a parameter that is true or false; false when it is absent.
func (r *adminRequest) flag(name string) (bool, error) {
	s, ok := r.target.Get(name)
	if ok && s != "true" && s != "false" {
		return false, invalid(name + " must be true or false")
	}
	return s == "true", nil
}

// text returns a parameter, empty when it is absent.
func (r *adminRequest) text(name string) string {
	s, _ := r.target.Get(name)
	return s
}
