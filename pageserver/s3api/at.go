package s3api

import (
	"strings"
	"time"

	"stemma/wal"
)

// at returns the LSN that a read asks for in x-stemma-at or
// X-Tigris-Snapshot-Version; zero is the tip. Errors: InvalidArgument.
func (r *request) at() (wal.LSN, error) {
	at, err := r.pointInTime("x-stemma-at", "X-Tigris-Snapshot-Version")
	if err != nil {
		return 0, err
	}
	return r.pastLSN(at, r.bucket, r.past)
}

// sourceAt is at for the source of a copy, once copySource has found it in bucket.
func (r *request) sourceAt(bucket string) (wal.LSN, error) {
	at, err := r.pointInTime("x-stemma-copy-source-at", "X-Tigris-Snapshot-Version")
	if err != nil {
		return 0, err
	}
	lsn, err := r.pastLSN(at, bucket, r.sourcePast)
	return lsn, r.hideMissing(err, bucket, "")
}

// pointInTime returns the point that any of the headers names. All that are
// there must name the same.
func (r *request) pointInTime(headers ...string) (wal.LSN, error) {
	var found wal.LSN
	for _, name := range headers {
		values := r.header().PeekAll(name)
		for _, v := range values {
			lsn, err := r.parseAt(name, string(v))
			if err != nil {
				return 0, err
			}
			if found != 0 && found != lsn {
				return 0, invalidArgument(name, string(v), "The request names two points in time")
			}
			found = lsn
		}
	}
	return found, nil
}

// parseAt parses an LSN in decimal, or a time in RFC 3339, which means the last
// commit at or before it.
func (r *request) parseAt(name, text string) (wal.LSN, error) {
	text = strings.TrimSpace(text)
	if lsn, err := wal.ParseLSN(text); err == nil {
		return lsn, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || wal.LSNFromTime(t) == 0 || t.Year() >= 2262 { // nanoseconds overflow in that year
		return 0, invalidArgument(name, text, name+" must be an LSN in decimal or a time in RFC 3339")
	}
	return r.srv.objects.Store().LSNAt(t)
}
