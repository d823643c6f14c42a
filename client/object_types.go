package client

import "time"

// History is what a key was, newest first.
type History struct {
	Entries []HistoryEntry `json:"entries"`
	Next    string         `json:"next,omitempty"` // continues it as before; absent on the last page
	Cut     bool           `json:"cut"`            // what was before the last entry is not kept any more
}

// HistoryEntry is what one commit made of a key.
type HistoryEntry struct {
	LSN          LSN       `json:"lsn,string"`
	Time         time.Time `json:"time"`
	Deleted      bool      `json:"deleted"` // nothing is there from then on
	Size         uint64    `json:"size"`
	ETag         string    `json:"etag,omitempty"`
	StorageClass string    `json:"storage_class,omitempty"`
	// VersionLSN is another than LSN where only tags, storage class or lock have changed.
	VersionLSN LSN `json:"version_lsn,string"`
	// Principal is who made the commit: the ARN of a user, or anonymous. Absent: the root, or the server
	// itself; and of a move of the bucket.
	Principal string `json:"principal,omitempty"`
}

// LogPage is one page of a log.
type LogPage struct {
	ToLSN LSN `json:"to_lsn,string"`
	// SinceLSN is the LSN above which the log is complete. Cut says that it is above from: what was
	// before is not kept any more.
	SinceLSN LSN        `json:"since_lsn,string"`
	Cut      bool       `json:"cut"`
	Entries  []LogEntry `json:"entries"`
	Next     string     `json:"next,omitempty"` // continues it as token; absent on the last page
}

// LogEntry is what one commit did to a key.
type LogEntry struct {
	LSN  LSN       `json:"lsn,string"`
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

// logEnd is the last line of a log that is answered line by line.
type logEnd struct {
	ToLSN    LSN    `json:"to_lsn,string"`
	SinceLSN LSN    `json:"since_lsn,string"`
	Cut      bool   `json:"cut"`
	Error    *Error `json:"error,omitempty"` // the lines before it are not all
}

// CommitRequest is the body of POST /v1/buckets/{b}/commit: all operations are done in one commit, or none.
type CommitRequest struct {
	// IfLSN is the commit above which no object of the bucket may have changed.
	IfLSN      LSN               `json:"if_lsn,string,omitempty"`
	If         []CommitCondition `json:"if,omitempty"`
	Operations []CommitOperation `json:"operations"`
}

// CommitCondition is a condition on a key, by one of its other fields.
type CommitCondition struct {
	Key    string `json:"key"`
	ETag   string `json:"etag,omitempty"` // or *
	LSN    LSN    `json:"lsn,string,omitempty"`
	Absent bool   `json:"absent,omitempty"`
}

// CommitOperation is one change. docs/api.md says which fields go with which operation.
type CommitOperation struct {
	Op           string `json:"op"` // put, delete, rename, copy, rename-prefix, delete-prefix
	Key          string `json:"key"`
	Source       string `json:"source,omitempty"`
	SourceBucket string `json:"source_bucket,omitempty"`
	SourceAt     string `json:"source_at,omitempty"` // point in time
	Data         []byte `json:"data,omitempty"`      // base64
	Staged       string `json:"staged,omitempty"`
	Replace      bool   `json:"replace,omitempty"`

	ContentType        string            `json:"content_type,omitempty"`
	ContentEncoding    string            `json:"content_encoding,omitempty"`
	ContentDisposition string            `json:"content_disposition,omitempty"`
	ContentLanguage    string            `json:"content_language,omitempty"`
	CacheControl       string            `json:"cache_control,omitempty"`
	Metadata           map[string]string `json:"metadata,omitempty"`
	Tags               map[string]string `json:"tags,omitempty"`
	StorageClass       string            `json:"storage_class,omitempty"`
}

// Committed says what was done.
type Committed struct {
	LSN     LSN            `json:"lsn,string"` // everything is visible from here on
	Results []CommitResult `json:"results"`    // of the operations, in order
}

// CommitResult is what one operation did.
type CommitResult struct {
	Key       string `json:"key"`
	Keys      int    `json:"keys"` // how many it has written, renamed or deleted
	ETag      string `json:"etag,omitempty"`
	Size      uint64 `json:"size"`
	VersionID string `json:"version_id,omitempty"` // where the bucket keeps versions
	File      string `json:"file,omitempty"`       // of what is written in place; see PagesResult
}

// DiffRequest is the body of POST /v1/diff. From is the old side. Points in time that are absent are tips.
type DiffRequest struct {
	// From may be absent when To is a fork: what it was forked from, at the branch point unless
	// FromAt says otherwise.
	From   string `json:"from,omitempty"`
	FromAt string `json:"from_at,omitempty"`
	To     string `json:"to"`
	ToAt   string `json:"to_at,omitempty"`
	Prefix string `json:"prefix,omitempty"`
	// Token continues a difference: Next of the page before.
	Token string `json:"token,omitempty"`
	Max   int    `json:"max,omitempty"`
	// Summary asks for the counts of the whole difference, and no entries.
	Summary bool `json:"summary,omitempty"`
}

// DiffPage is one page of a difference.
type DiffPage struct {
	FromLSN LSN          `json:"from_lsn,string"`
	ToLSN   LSN          `json:"to_lsn,string"`
	Entries []DiffChange `json:"entries"`
	Summary DiffSummary  `json:"summary"` // of the page, or of all if that was asked for
	Next    string       `json:"next,omitempty"`
}

// DiffSummary counts the entries of a difference, and bytes of their objects.
type DiffSummary struct {
	Added    int64 `json:"added"`
	Removed  int64 `json:"removed"`
	Modified int64 `json:"modified"`
	Metadata int64 `json:"metadata"`
	Renamed  int64 `json:"renamed"`
	// BytesAdded are those of what was added and of the new side of what was modified,
	// BytesRemoved those of what was removed and of the old side.
	BytesAdded   uint64 `json:"bytes_added"`
	BytesRemoved uint64 `json:"bytes_removed"`
}

// DiffChange is one key that differs.
type DiffChange struct {
	Kind   string       `json:"kind"` // added, removed, modified, metadata, renamed
	Key    string       `json:"key"`
	OldKey string       `json:"old_key,omitempty"` // of what was renamed
	Old    *DiffVersion `json:"old,omitempty"`
	New    *DiffVersion `json:"new,omitempty"`
}

// DiffVersion is one side of a change.
type DiffVersion struct {
	Size uint64 `json:"size"`
	ETag string `json:"etag"`
	LSN  LSN    `json:"lsn,string"`
}

// DiffEnd is the last line of a difference that is answered line by line.
type DiffEnd struct {
	FromLSN LSN          `json:"from_lsn,string"`
	ToLSN   LSN          `json:"to_lsn,string"`
	Summary *DiffSummary `json:"summary,omitempty"`
	Error   *Error       `json:"error,omitempty"` // the lines before it are not all
}

// MergeRequest is the body of the POSTs that merge, rebase, pick and revert.
// docs/semantics.md has the rules.
type MergeRequest struct {
	// Source is the other bucket, not of a revert; At is the point in time of it, absent its tip.
	Source string `json:"source,omitempty"`
	At     string `json:"at,omitempty"`
	// From and To are points in time: a revert undoes what was committed above From, up to To, absent the tip.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Keys and Prefixes are what is picked or reverted.
	Keys     []string `json:"keys,omitempty"`
	Prefixes []string `json:"prefixes,omitempty"`
	// Strategy is fail, source-wins or dest-wins.
	Strategy  string          `json:"strategy,omitempty"`
	Overrides []MergeOverride `json:"overrides,omitempty"`
	// IfLSN is the commit above which no object of the target may have changed.
	IfLSN  LSN  `json:"if_lsn,string,omitempty"`
	DryRun bool `json:"dry_run,omitempty"`
	// After and Max page a dry run: Next of the page before, and how many entries.
	After string `json:"after,omitempty"`
	Max   int    `json:"max,omitempty"`
}

// MergeOverride is another strategy for a key or a prefix.
type MergeOverride struct {
	Key      string `json:"key,omitempty"`
	Prefix   string `json:"prefix,omitempty"`
	Strategy string `json:"strategy"`
}

// Merged says what was done, or would be.
type Merged struct {
	LSN       LSN           `json:"lsn,string"`
	SourceLSN LSN           `json:"source_lsn,string"`
	BaseLSN   LSN           `json:"base_lsn,string"`
	Committed bool          `json:"committed"`
	Put       int64         `json:"put"`
	Deleted   int64         `json:"deleted"`
	Same      int64         `json:"same"`
	Conflicts int64         `json:"conflicts"`
	Kept      int64         `json:"kept"`
	Open      int64         `json:"open"`
	Entries   []MergeChange `json:"entries"`
	Next      string        `json:"next,omitempty"`
}

// MergeChange is one key of a merge.
type MergeChange struct {
	Key      string       `json:"key"`
	Action   string       `json:"action"`
	Conflict bool         `json:"conflict"`
	Source   *DiffVersion `json:"source,omitempty"`
	Target   *DiffVersion `json:"target,omitempty"`
}

// UndeleteRequest is the body of POST /v1/buckets/{name}/undelete. With At those of the keys, and of what has the prefixes,
// that were there at that point in time and are not now; without it each as it was before it was deleted, at most 1,000 of them.
type UndeleteRequest struct {
	At       string   `json:"at,omitempty"`
	Keys     []string `json:"keys,omitempty"`
	Prefixes []string `json:"prefixes,omitempty"` // "" is all
	DryRun   bool     `json:"dry_run,omitempty"`
	Max      int      `json:"max,omitempty"` // entries of the answer; with at
}

// Undeleted is the answer without at.
type Undeleted struct {
	LSN       LSN               `json:"lsn,string"`
	Committed bool              `json:"committed"`
	Objects   []UndeletedObject `json:"objects"` // that came back, or would
}

// UndeletedObject is an object that came back.
type UndeletedObject struct {
	Key   string `json:"key"`
	Size  uint64 `json:"size"`
	ETag  string `json:"etag"`
	LSN   LSN    `json:"lsn,string"`    // that had made it
	AtLSN LSN    `json:"at_lsn,string"` // the last moment at which it was there
}
