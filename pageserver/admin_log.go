package pageserver

import (
	"context"
	"strings"
	"time"

	"stemma/pageserver/object"
	"stemma/wal"
)

// LogAnswer is one page of a log.
type LogAnswer struct {
	ToLSN wal.LSN `json:"to_lsn,string"`
	// SinceLSN is the LSN above which the log is complete. Cut says that it is above from: what was
	// before is not kept any more.
	SinceLSN wal.LSN    `json:"since_lsn,string"`
	Cut      bool       `json:"cut"`
	Entries  []LogEntry `json:"entries"`
	Next     string     `json:"next,omitempty"` // continues it as token; absent on the last page
}

// LogEntry is what one commit did to a key.
type LogEntry struct {
	LSN  wal.LSN   `json:"lsn,string"`
	Time time.Time `json:"time"`
	// Kind is put, write (in place), metadata, delete, marker, delete-version, current (newer versions
	// were removed), or move: the bucket as a whole became something else.
	Kind         string `json:"kind"`
	Key          string `json:"key,omitempty"`
	Size         uint64 `json:"size"`
	ETag         string `json:"etag,omitempty"`
	StorageClass string `json:"storage_class,omitempty"`
	// VersionID is as S3 has it; absent of delete and move.
	VersionID string `json:"version_id,omitempty"`
	// Principal is who made the commit: the ARN of a user, or anonymous. Absent: the root, or the server
	// itself; and of a move of the bucket.
	Principal string `json:"principal,omitempty"`
}

// LogEnd is the last line of a log that is answered line by line.
type LogEnd struct {
	ToLSN    wal.LSN     `json:"to_lsn,string"`
	SinceLSN wal.LSN     `json:"since_lsn,string"`
	Cut      bool        `json:"cut"`
	Error    *AdminError `json:"error,omitempty"` // the lines before it are not all
}

func (a *admin) logEntries(list []object.LogEntry) []LogEntry {
	out := make([]LogEntry, len(list))
	for i := range list {
		e := &list[i]
		out[i] = LogEntry{LSN: e.LSN, Time: e.LSN.Time(), Kind: string(e.Kind), Key: e.Key, Size: e.Size, Principal: a.directory().WriterName(e.Writer)}
		if e.Version == 0 {
			continue
		}
		out[i].VersionID = e.ID.String()
		if e.ETag != (object.ETag{}) {
			out[i].ETag, out[i].StorageClass = e.ETag.String(), e.Class.String()
		}
	}
	return out
}

// log serves GET /v1/buckets/{name}/log.
func (a *admin) log(ctx context.Context, r *adminRequest, bucket string) (any, error) {
	limit, err := r.limit(100, 1000)
	if err != nil {
		return nil, err
	}
	in := &object.LogInput{Bucket: bucket, Prefix: r.text("prefix"), Token: r.text("token"), Max: limit}
	if in.From, err = a.point(bucket, r.text("from")); err != nil {
		return nil, err
	}
	if in.To, err = a.point(bucket, r.text("to")); err != nil {
		return nil, err
	}
	if in.Oldest, err = r.flag("oldest"); err != nil {
		return nil, err
	}
	lines := strings.Contains(r.accept, linesType)
	if _, limited := r.target.Get("limit"); lines {
		if limited {
			return nil, invalid("a log line by line has no limit")
		}
		in.Max = 0
	}
	page, err := a.server.objects.Log(ctx, in)
	if err != nil {
		return nil, wordedMerge(err)
	}
	if lines {
		return &streamed{run: func(ctx context.Context, line func(any) error) { a.logLines(ctx, in, page, line) }}, nil
	}
	return &LogAnswer{ToLSN: page.To, SinceLSN: page.Since, Cut: page.Cut, Entries: a.logEntries(page.Entries), Next: page.NextToken}, nil
}

// logLines sends the first page and all that follow, and a LogEnd.
func (a *admin) logLines(ctx context.Context, in *object.LogInput, page *object.LogPage, line func(any) error) {
	end := LogEnd{ToLSN: page.To}
	for {
		for _, e := range a.logEntries(page.Entries) {
			if line(&e) != nil {
				return // nobody reads any more
			}
		}
		// The window may have moved on between two pages.
		end.SinceLSN, end.Cut = max(end.SinceLSN, page.Since), end.Cut || page.Cut
		if in.Token = page.NextToken; in.Token == "" {
			break
		}
		var err error
		if page, err = a.server.objects.Log(ctx, in); err != nil {
			end.Error = a.worded(wordedMerge(err))
			break
		}
	}
	_ = line(&end)
}
