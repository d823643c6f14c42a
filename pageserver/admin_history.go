package pageserver

import (
	"context"
	"time"

	"stemma/wal"
)

// HistoryAnswer is what a key was, newest first.
type HistoryAnswer struct {
	Entries []HistoryEntry `json:"entries"`
	Next    string         `json:"next,omitempty"` // continues it as before; absent on the last page
	Cut     bool           `json:"cut"`            // what was before the last entry is not kept any more
}

// HistoryEntry is what one commit made of a key.
type HistoryEntry struct {
	LSN          wal.LSN   `json:"lsn,string"`
	Time         time.Time `json:"time"`
	Deleted      bool      `json:"deleted"` // nothing is there from then on
	Size         uint64    `json:"size"`
	ETag         string    `json:"etag,omitempty"`
	StorageClass string    `json:"storage_class,omitempty"`
	// VersionLSN is another than LSN where only tags, storage class or lock have changed.
	VersionLSN wal.LSN `json:"version_lsn,string"`
	// Principal is who made the commit: the ARN of a user, or anonymous. Absent: the root, or the server
	// itself; and of a move of the bucket.
	Principal string `json:"principal,omitempty"`
}

// history serves GET /v1/buckets/{name}/history.
func (a *admin) history(ctx context.Context, r *adminRequest, bucket string) (any, error) {
	limit, err := r.limit(100, 1000)
	if err != nil {
		return nil, err
	}
	before, err := a.point(bucket, r.text("before"))
	if err != nil {
		return nil, err
	}
	if _, err := a.server.objects.Bucket(bucket, 0); err != nil {
		return nil, err
	}
	h, err := a.server.objects.History(ctx, bucket, r.text("key"), before, limit)
	if err != nil {
		return nil, err
	}
	answer := &HistoryAnswer{Entries: []HistoryEntry{}, Cut: h.Cut}
	if h.Next != 0 {
		answer.Next = h.Next.String()
	}
	for i := range h.Entries {
		e := &h.Entries[i]
		out := HistoryEntry{LSN: e.LSN, Time: e.LSN.Time(), Deleted: e.Deleted, Size: e.Size, VersionLSN: e.Version, Principal: a.directory().WriterName(e.Writer)}
		if !e.Deleted {
			out.ETag, out.StorageClass = e.ETag.String(), e.Class.String()
		}
		answer.Entries = append(answer.Entries, out)
	}
	return answer, nil
}
