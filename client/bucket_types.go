package client

import "time"

// Bucket is a bucket.
type Bucket struct {
	Name        string            `json:"name"`
	ID          uint64            `json:"id"`
	Created     time.Time         `json:"created"`
	CreatedLSN  LSN               `json:"created_lsn,string"`
	Owner       string            `json:"owner,omitempty"` // canonical id of an account; absent: the root
	Labels      map[string]string `json:"labels,omitempty"`
	Description string            `json:"description,omitempty"`
	ReadOnly    bool              `json:"read_only"`
	Protected   bool              `json:"protected"`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty"`
	Retention   string            `json:"retention"` // see Client.Retention
	HasForks    bool              `json:"has_forks"`
	Source      *Origin           `json:"source,omitempty"` // of a fork
	Quota       *Quota            `json:"quota,omitempty"`
	Snapshots   []SnapshotRule    `json:"snapshots,omitempty"`
	// Disk is absent in lists, of a bucket that was just made, and where a quota says how many bytes there may be.
	Disk *Disk `json:"disk,omitempty"`
}

// Disk is the file system that all buckets share, in bytes.
type Disk struct {
	Bytes int64 `json:"bytes"`
	Free  int64 `json:"free"`
}

// SnapshotRule has snapshots taken of a bucket at regular times, and deletes them again. Durations are such as 90m or 24h.
type SnapshotRule struct {
	Name     string `json:"name"`                // a-z, 0-9 and -; snapshots are named like hourly-20261129T180000Z
	Every    string `json:"every"`               // whole minutes: at each multiple of it since 1970, UTC
	KeepFor  string `json:"keep_for,omitempty"`  // when they expire
	KeepLast int    `json:"keep_last,omitempty"` // how many there are at most; one of the two is needed
}

// Quota is what a bucket may hold at most, and what of that it does.
type Quota struct {
	MaxBytes   int64 `json:"max_bytes,omitempty"` // absent: no bound
	MaxObjects int64 `json:"max_objects,omitempty"`
	// Used is absent in lists, of a bucket that was just made, and while it is counted.
	Used *QuotaUsage `json:"used,omitempty"`
}

// QuotaUsage is what counts for a quota: of a fork what it has written and still has.
type QuotaUsage struct {
	Bytes   int64 `json:"bytes"`
	Objects int64 `json:"objects"` // versions with a body
}

// Origin is what a fork was made of.
type Origin struct {
	Bucket string    `json:"bucket,omitempty"` // its present name; absent: it was deleted
	ID     uint64    `json:"id"`
	LSN    LSN       `json:"lsn,string"` // what the fork sees of it
	Time   time.Time `json:"time"`
}

// BucketPage is a page of buckets by name; Next continues it as after, absent on the last one.
type BucketPage struct {
	Buckets []Bucket `json:"buckets"`
	Next    string   `json:"next,omitempty"`
}

// BucketOptions are what a bucket is given when it is made.
type BucketOptions struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Description string            `json:"description,omitempty"`
	ReadOnly    bool              `json:"read_only,omitempty"`
	Protected   bool              `json:"protected,omitempty"` // from deletion; excludes an expiry
	ExpiresIn   string            `json:"expires_in,omitempty"`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty"`
	// QuotaBytes and QuotaObjects bound what the bucket may hold; absent: no bound.
	QuotaBytes   int64 `json:"quota_bytes,omitempty"`
	QuotaObjects int64 `json:"quota_objects,omitempty"`
	// Snapshots are the rules by which snapshots of it are taken.
	Snapshots []SnapshotRule `json:"snapshots,omitempty"`
}

// NewBucket says which bucket to make.
type NewBucket struct {
	Name string `json:"name"`
	BucketOptions
	Key *ForkKey `json:"key,omitempty"` // an access key for it
}

// MadeBucket is a bucket that was made, with the access key that was made for it.
type MadeBucket struct {
	Bucket
	Key *AccessKey `json:"key,omitempty"`
}

// BucketChange says what to change of a bucket; what is absent stays.
type BucketChange struct {
	Labels      *map[string]string `json:"labels,omitempty"` // all of them
	Description *string            `json:"description,omitempty"`
	ReadOnly    *bool              `json:"read_only,omitempty"`
	Protected   *bool              `json:"protected,omitempty"`
	ExpiresIn   *string            `json:"expires_in,omitempty"` // from now on; never
	ExpiresAt   *time.Time         `json:"expires_at,omitempty"`
	Extend      string             `json:"extend,omitempty"` // how much later it expires than it would have
	// QuotaBytes and QuotaObjects are what it may hold; 0: no bound.
	QuotaBytes   *int64 `json:"quota_bytes,omitempty"`
	QuotaObjects *int64 `json:"quota_objects,omitempty"`
	// Snapshots are the rules by which snapshots of it are taken, all of them.
	Snapshots *[]SnapshotRule `json:"snapshots,omitempty"`
}

// Change is the answer to a change that has nothing else to tell.
type Change struct {
	LSN LSN `json:"lsn,string"`
}

// deletedAnswer lists the buckets that can be undeleted.
type deletedAnswer struct {
	Buckets []DeletedBucket `json:"buckets"`
}

// DeletedBucket is a bucket that can be undeleted until a time.
type DeletedBucket struct {
	ID      uint64    `json:"id"`
	Name    string    `json:"name"` // when it was deleted
	Deleted time.Time `json:"deleted"`
	Until   time.Time `json:"until"`
}

// undeletedBucket is a bucket that was brought back.
type undeletedBucket struct {
	ID   uint64 `json:"id"`
	Name string `json:"name"`
}

// retention is how far back a bucket can be read at every moment: a duration
// such as 24h, 0s, or forever. It is sent and answered.
type retention struct {
	Window string `json:"window"`
}

// AccessKey is an access key without its secret.
type AccessKey struct {
	ID          string     `json:"access_key"`
	User        string     `json:"user,omitempty"` // empty: the root's
	Created     time.Time  `json:"created"`
	Expires     *time.Time `json:"expires,omitempty"`
	Active      bool       `json:"active"`
	Description string     `json:"description,omitempty"`
	Scope       []KeyScope `json:"scope,omitempty"`
	SecretKey   string     `json:"secret_key,omitempty"` // only when it was just made
}

// KeyScope is one bucket that a key is held to; the key goes when all of them are gone.
type KeyScope struct {
	Bucket string `json:"bucket"`       // its present name; empty when it is deleted; "*" is any
	ID     uint64 `json:"id,omitempty"` // of the bucket; not read
	Role   string `json:"role"`         // editor or readonly
}

// ForkRequest says what to make of a bucket: the fork Name, those of Names, or Count of them that are
// named NamePrefix and a number. All are made in one commit.
type ForkRequest struct {
	Name       string   `json:"name,omitempty"`
	Names      []string `json:"names,omitempty"`
	Count      int      `json:"count,omitempty"`
	NamePrefix string   `json:"name_prefix,omitempty"`
	At         string   `json:"at,omitempty"` // point in time of the source; absent: its tip
	BucketOptions
	Key *ForkKey `json:"key,omitempty"` // an access key for each, which goes with it
}

// ForkKey is the access key that is made with a bucket and for it alone.
type ForkKey struct {
	Role        string     `json:"role,omitempty"` // editor or readonly; absent: editor
	Description string     `json:"description,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"` // absent: with the bucket
}

// Forked are the forks that were made, in the order of their names in the request.
type Forked struct {
	LSN       LSN          `json:"lsn,string"`        // of the commit
	SourceLSN LSN          `json:"source_lsn,string"` // what they see of the source
	Forks     []MadeBucket `json:"forks"`
}

// Ancestry are the buckets that a bucket descends from, its source first.
type Ancestry struct {
	Ancestors []Origin `json:"ancestors"`
}

// Tree is the family of a bucket, every fork behind what it was forked from.
type Tree struct {
	Nodes     []TreeNode `json:"nodes"`
	Truncated bool       `json:"truncated"` // there are more than were asked for
}

// TreeNode is one bucket of a family.
type TreeNode struct {
	Bucket    string     `json:"bucket,omitempty"` // absent: it was deleted
	ID        uint64     `json:"id"`
	Depth     int        `json:"depth"`             // below the first node
	BranchLSN LSN        `json:"branch_lsn,string"` // what it sees of what it was forked from; 0: a root
	Created   *time.Time `json:"created,omitempty"` // absent: it was deleted
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	ReadOnly  bool       `json:"read_only,omitempty"`
	Protected bool       `json:"protected,omitempty"`
}

// Distance is what a bucket has written since it was forked; of one that is no fork, what it holds.
type Distance struct {
	FromLSN       LSN    `json:"from_lsn,string"`
	ToLSN         LSN    `json:"to_lsn,string"`
	Keys          int64  `json:"keys"` // put and deleted ones
	Put           int64  `json:"put"`
	PutBytes      uint64 `json:"put_bytes"`
	Deleted       int64  `json:"deleted"`
	DeletedRanges int64  `json:"deleted_ranges"` // of keys that are not counted
}

// Snapshot keeps one moment of a bucket readable.
type Snapshot struct {
	ID        uint64     `json:"id"`
	Bucket    string     `json:"bucket"`
	Name      string     `json:"name,omitempty"`
	LSN       LSN        `json:"lsn,string"` // its version: what it keeps
	Time      time.Time  `json:"time"`       // of the LSN
	Created   time.Time  `json:"created"`
	Label     string     `json:"label,omitempty"` // free text
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Held      bool       `json:"held"` // it neither expires nor can be deleted, nor its bucket
}

// NewSnapshot says what to take a snapshot of.
type NewSnapshot struct {
	// Buckets get one each, all of the same LSN, in one commit. Only of SnapshotAll.
	Buckets   []string   `json:"buckets,omitempty"`
	At        string     `json:"at,omitempty"` // point in time; absent: now
	Name      string     `json:"name,omitempty"`
	Label     string     `json:"label,omitempty"`
	ExpiresIn string     `json:"expires_in,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Held      bool       `json:"held,omitempty"`
}

// SnapshotPage are snapshots. Of a list they are newest first, and Next continues it as after, absent on the
// last page.
type SnapshotPage struct {
	Snapshots []Snapshot `json:"snapshots"`
	Next      string     `json:"next,omitempty"`
}

// SnapshotChange says what to change of a snapshot; what is absent stays.
type SnapshotChange struct {
	Name      *string    `json:"name,omitempty"` // empty: none
	Label     *string    `json:"label,omitempty"`
	ExpiresIn *string    `json:"expires_in,omitempty"` // from now on; never
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Extend    string     `json:"extend,omitempty"` // how much later it expires than it would have
	Held      *bool      `json:"held,omitempty"`
}

// MoveRequest is the body of the POSTs that restore, reset, promote and swap whole buckets; each takes what it
// has a use for.
type MoveRequest struct {
	// At is a point in time: of the bucket that is restored, or of the source of a fork that is reset. Absent of a reset: the tip.
	At string `json:"at,omitempty"`
	// With is the other bucket of a swap.
	With string `json:"with,omitempty"`
	// IfLSN refuses what would be done if an object of the bucket that becomes another has changed above it; not of a swap.
	IfLSN LSN `json:"if_lsn,string,omitempty"`
	// Undo is how long what was before can be read at least, whatever the bucket's retention: a duration. 0s: no longer than
	// that. Absent: as long as a deleted bucket can be undeleted.
	Undo string `json:"undo,omitempty"`
}

// Moved says what a move did.
type Moved struct {
	LSN LSN `json:"lsn,string"` // of the commit
	// BeforeLSN is the last moment before it: a restore to it undoes it.
	BeforeLSN LSN      `json:"before_lsn,string"`
	Buckets   []Bucket `json:"buckets"` // that are now something else
}

// RestoreRequest is the body of POST /v1/buckets/{name}/restore. With keys or prefixes only these objects become what they were,
// by new writes to the bucket.
type RestoreRequest struct {
	At       string   `json:"at"`
	Keys     []string `json:"keys,omitempty"`
	Prefixes []string `json:"prefixes,omitempty"`
	IfLSN    LSN      `json:"if_lsn,string,omitempty"`
	Undo     string   `json:"undo,omitempty"`    // of a whole bucket; see MoveRequest
	DryRun   bool     `json:"dry_run,omitempty"` // of keys and prefixes
	Max      int      `json:"max,omitempty"`     // entries of the answer; of keys and prefixes
}
