package pageserver

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// nativeRoutes are the routes of buckets, forks, snapshots and time travel.
var nativeRoutes = []adminRoute{
	{"GET", []string{"buckets"}, []string{"prefix", "after", "limit", "label"}, false, (*admin).buckets},
	{"POST", []string{"buckets"}, nil, false, (*admin).createBucket},
	{"GET", []string{"buckets", "{}"}, nil, false, (*admin).bucket},
	{"PATCH", []string{"buckets", "{}"}, nil, false, (*admin).patchBucket},
	{"DELETE", []string{"buckets", "{}"}, []string{"force", "undo"}, false, (*admin).deleteBucket},
	{"POST", []string{"buckets", "{}", "rename"}, nil, false, (*admin).renameBucket},

	{"GET", []string{"buckets", "{}", "forks"}, []string{"prefix", "after", "limit", "label"}, false, (*admin).forks},
	{"POST", []string{"buckets", "{}", "forks"}, nil, false, (*admin).fork},
	{"GET", []string{"buckets", "{}", "ancestry"}, nil, false, (*admin).ancestry},
	{"GET", []string{"buckets", "{}", "tree"}, []string{"root", "limit"}, false, (*admin).tree},
	{"GET", []string{"buckets", "{}", "distance"}, nil, true, (*admin).distance},

	{"POST", []string{"snapshots"}, nil, false, (*admin).snapshotMany},
	{"GET", []string{"buckets", "{}", "snapshots"}, []string{"after", "limit"}, false, (*admin).snapshots},
	{"POST", []string{"buckets", "{}", "snapshots"}, nil, false, (*admin).snapshotOne},
	{"GET", []string{"buckets", "{}", "snapshots", "{}"}, nil, false, (*admin).snapshot},
	{"PATCH", []string{"buckets", "{}", "snapshots", "{}"}, nil, false, (*admin).patchSnapshot},
	{"DELETE", []string{"buckets", "{}", "snapshots", "{}"}, nil, false, (*admin).deleteSnapshot},

	{"POST", []string{"buckets", "{}", "commit"}, nil, true, (*admin).commit},
	{"GET", []string{"buckets", "{}", "history"}, []string{"key", "before", "limit"}, false, (*admin).history},
	{"GET", []string{"buckets", "{}", "log"}, []string{"from", "to", "prefix", "oldest", "limit", "token"}, true, (*admin).log},
}

// nativeErrors say which code an error of these has, and its status.
var nativeErrors = []struct {
	err    error
	code   string
	status int
}{
	{timeline.ErrNoSuchSnapshot, "NoSuchSnapshot", fasthttp.StatusNotFound},
	{timeline.ErrSnapshotExists, "SnapshotAlreadyExists", fasthttp.StatusConflict},
	{timeline.ErrSnapshotHeld, "SnapshotHeld", fasthttp.StatusConflict},
	{timeline.ErrReadOnly, "BucketReadOnly", fasthttp.StatusForbidden},
	{timeline.ErrProtected, "BucketProtected", fasthttp.StatusForbidden},
	{object.ErrBucketHasForks, "BucketHasForks", fasthttp.StatusConflict},
	{timeline.ErrBucketNotEmpty, "BucketNotEmpty", fasthttp.StatusConflict},
	{timeline.ErrBadProperties, "InvalidArgument", fasthttp.StatusBadRequest},
	{object.ErrBadAttributes, "InvalidArgument", fasthttp.StatusBadRequest},
	{timeline.ErrFuture, "InvalidArgument", fasthttp.StatusBadRequest},
	{object.ErrKeyTooLong, "InvalidArgument", fasthttp.StatusBadRequest},
	{object.ErrNoSuchKey, "NoSuchKey", fasthttp.StatusNotFound},
	{object.ErrPreconditionFailed, "PreconditionFailed", fasthttp.StatusPreconditionFailed},
	{timeline.ErrTargetChanged, "PreconditionFailed", fasthttp.StatusPreconditionFailed},
	{object.ErrReservedKey, "InvalidArgument", fasthttp.StatusBadRequest},
	{object.ErrBadCommit, "InvalidArgument", fasthttp.StatusBadRequest},
	{object.ErrSelfCopy, "InvalidArgument", fasthttp.StatusBadRequest},
	{object.ErrMetadataTooLarge, "InvalidArgument", fasthttp.StatusBadRequest},
	{object.ErrInvalidRedirect, "InvalidArgument", fasthttp.StatusBadRequest},
	{object.ErrInvalidStorageClass, "InvalidArgument", fasthttp.StatusBadRequest},
	{object.ErrMustRewrite, "InvalidRequest", fasthttp.StatusBadRequest},
	{object.ErrKeyRequired, "InvalidRequest", fasthttp.StatusBadRequest},
	{object.ErrNoMasterKey, "InvalidRequest", fasthttp.StatusBadRequest},
	{object.ErrNoSuchKMSKey, "InvalidRequest", fasthttp.StatusBadRequest},
	{object.ErrKMSKeyRequired, "InvalidRequest", fasthttp.StatusBadRequest},
	{object.ErrMarker, "InvalidRequest", fasthttp.StatusBadRequest},
	{object.ErrLocked, "AccessDenied", fasthttp.StatusForbidden},
	{object.ErrQuotaExceeded, "QuotaExceeded", fasthttp.StatusForbidden},
	{timeline.ErrBatchTooLarge, "RequestTooLarge", fasthttp.StatusRequestEntityTooLarge},
	{wal.ErrTooLarge, "RequestTooLarge", fasthttp.StatusRequestEntityTooLarge},
}

func init() {
	adminRoutes = append(adminRoutes, nativeRoutes...)
	for _, e := range nativeErrors {
		adminCodes[e.code] = e.status
		adminErrors = append(adminErrors, struct {
			err  error
			code string
		}{e.err, e.code})
	}
}

// Bucket is a bucket.
type Bucket struct {
	Name        string            `json:"name"`
	ID          uint64            `json:"id"`
	Created     time.Time         `json:"created"`
	CreatedLSN  wal.LSN           `json:"created_lsn,string"`
	Owner       string            `json:"owner,omitempty"` // canonical id of an account; absent: the root
	Labels      map[string]string `json:"labels,omitempty"`
	Description string            `json:"description,omitempty"`
	ReadOnly    bool              `json:"read_only"`
	Protected   bool              `json:"protected"`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty"`
	Retention   string            `json:"retention"` // see Retention
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
	LSN    wal.LSN   `json:"lsn,string"` // what the fork sees of it
	Time   time.Time `json:"time"`
}

// BucketsAnswer is a page of buckets by name; Next continues it as after, absent on the last one.
type BucketsAnswer struct {
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

// Renamed names what something is called from now on.
type Renamed struct {
	Name string `json:"name"`
}

// Change is the answer to a change that has nothing else to tell.
type Change struct {
	LSN wal.LSN `json:"lsn,string"`
}

func (a *admin) bucketAnswer(info *timeline.Info) (Bucket, error) {
	attrs, err := a.server.objects.Attributes(info)
	if err != nil {
		return Bucket{}, err
	}
	b := Bucket{
		Name: info.Name, ID: uint64(info.Bucket), Created: info.Created.Time(), CreatedLSN: info.Created,
		Owner: attrs.Owner, Labels: attrs.Labels, Description: attrs.Description, ReadOnly: info.ReadOnly, Protected: info.Protected,
		ExpiresAt: expiresAt(info.Expires), HasForks: info.HasForks,
	}
	if q := &attrs.Quota; q.Any() {
		b.Quota = &Quota{MaxBytes: q.MaxBytes, MaxObjects: q.MaxObjects}
	}
	b.Snapshots = ruleAnswers(attrs.Snapshots)
	if w, err := a.server.store.Window(info.Name); err == nil { // else it was deleted meanwhile
		b.Retention = FormatWindow(w)
	}
	if info.SourceBucket != 0 {
		b.Source = &Origin{Bucket: info.SourceName, ID: uint64(info.SourceBucket), LSN: info.BranchLSN, Time: info.BranchLSN.Time()}
	}
	return b, nil
}

// labelFilter is the parameter label: label=stage=test,team wants both of them, the second with any value.
type labelFilter [][2]string

func parseLabelFilter(s string) (f labelFilter, err error) {
	if s == "" {
		return nil, nil
	}
	for _, item := range strings.Split(s, ",") {
		k, v, valued := strings.Cut(item, "=")
		if k == "" {
			return nil, invalid("label " + strconv.Quote(s) + ": want key=value or key, with commas in between")
		}
		if !valued {
			v = "\x00" // no value holds it, see match
		}
		f = append(f, [2]string{k, v})
	}
	return f, nil
}

func (f labelFilter) match(labels map[string]string) bool {
	for _, l := range f {
		if v, ok := labels[l[0]]; !ok || l[1] != "\x00" && v != l[1] {
			return false
		}
	}
	return true
}

// Bounds of listings of buckets.
const (
	maxBuckets = 10_000
	// maxScanned bounds the buckets that one request with a filter looks at.
	maxScanned = 100_000
)

// listBuckets answers a page of what list lists by name.
func (a *admin) listBuckets(ctx context.Context, r *adminRequest, list func(prefix, after string, limit int) []timeline.Info) (any, error) {
	limit, err := r.limit(1000, maxBuckets)
	if err != nil {
		return nil, err
	}
	filter, err := parseLabelFilter(r.text("label"))
	if err != nil {
		return nil, err
	}
	answer, after := &BucketsAnswer{Buckets: []Bucket{}}, r.text("after")
	for scanned := 0; ctx.Err() == nil; {
		most := min(1000, limit-len(answer.Buckets)+1)
		page := list(r.text("prefix"), after, most)
		for i := range page {
			if len(answer.Buckets) == limit || scanned == maxScanned {
				answer.Next = after
				return answer, nil
			}
			scanned, after = scanned+1, page[i].Name
			b, err := a.bucketAnswer(&page[i])
			if err != nil {
				return nil, err
			}
			if filter.match(b.Labels) && (r.root || r.judge.Sees(b.Name)) {
				answer.Buckets = append(answer.Buckets, b)
			}
		}
		if len(page) < most {
			return answer, nil
		}
	}
	return nil, ctx.Err()
}

// buckets serves GET /v1/buckets.
func (a *admin) buckets(ctx context.Context, r *adminRequest, _ string) (any, error) {
	return a.listBuckets(ctx, r, a.server.objects.Buckets)
}

// bucket serves GET /v1/buckets/{name}.
func (a *admin) bucket(ctx context.Context, _ *adminRequest, name string) (any, error) {
	info, err := a.server.objects.Bucket(name, 0)
	if err != nil {
		return nil, err
	}
	b, err := a.bucketAnswer(&info)
	if err == nil && b.Quota != nil {
		b.Quota.Used, err = a.quotaUsage(ctx, name)
	}
	if b.Quota == nil || b.Quota.MaxBytes == 0 {
		b.Disk = a.server.diskRoom()
	}
	return b, err
}

// diskRoom says how much room the disk has; nil: it does not say.
func (s *Server) diskRoom() *Disk {
	u, err := s.disk.GetDiskUsage(s.o.Dir)
	if err != nil {
		return nil
	}
	return &Disk{Bytes: int64(u.TotalBytes), Free: int64(u.AvailBytes)}
}

// quotaUsage returns what counts for the quota of a bucket; nil: it is not counted yet, or cannot be now.
func (a *admin) quotaUsage(ctx context.Context, name string) (*QuotaUsage, error) {
	short, cancel := context.WithTimeout(ctx, quotaWait)
	defer cancel()
	used, err := a.server.objects.QuotaUsage(short, name)
	var readOnly *wal.ReadOnlyError
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil || errors.Is(err, timeline.ErrSlowDown) || errors.As(err, &readOnly) {
		return nil, nil // the rest can be told all the same
	}
	return &QuotaUsage{Bytes: used.Bytes, Objects: used.Objects}, err
}

// quotaWait bounds how long a description of a bucket waits for a count.
const quotaWait = 2 * time.Second

func (a *admin) options(r *adminRequest, in *BucketOptions) (*object.BucketOptions, error) {
	expires, err := a.expiry(in.ExpiresIn, in.ExpiresAt)
	rules, bad := snapshotRules(in.Snapshots)
	err = errors.Join(err, bad)
	quota := object.Quota{MaxBytes: in.QuotaBytes, MaxObjects: in.QuotaObjects}
	return &object.BucketOptions{
		Attributes: object.Attributes{Owner: r.owner(), Labels: in.Labels, Description: in.Description, Quota: quota, Snapshots: rules}, Expires: expires, ReadOnly: in.ReadOnly, Protected: in.Protected,
	}, err
}

// createBucket serves POST /v1/buckets.
func (a *admin) createBucket(ctx context.Context, r *adminRequest, _ string) (any, error) {
	var in NewBucket
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	o, err := a.options(r, &in.BucketOptions)
	if err != nil {
		return nil, err
	}
	if err := in.Key.check(); err != nil {
		return nil, err
	}
	info, err := a.server.objects.MakeBucket(ctx, in.Name, o)
	if err != nil {
		return nil, err
	}
	made, err := a.withKeys(ctx, r, []timeline.Info{info}, in.Key)
	if err != nil {
		return nil, err
	}
	return &made[0], nil
}

// patchBucket serves PATCH /v1/buckets/{name}.
func (a *admin) patchBucket(ctx context.Context, r *adminRequest, name string) (any, error) {
	var in BucketChange
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	expires, err := a.newExpiry(in.ExpiresIn, in.ExpiresAt, in.Extend)
	if err != nil {
		return nil, err
	}
	_, err = a.server.objects.UpdateBucket(ctx, name, func(o *object.BucketOptions) (err error) {
		if in.Labels != nil {
			o.Labels = *in.Labels
		}
		if in.Description != nil {
			o.Description = *in.Description
		}
		if in.ReadOnly != nil {
			o.ReadOnly = *in.ReadOnly
		}
		if in.Protected != nil {
			o.Protected = *in.Protected
		}
		if in.QuotaBytes != nil {
			o.MaxBytes = *in.QuotaBytes
		}
		if in.QuotaObjects != nil {
			o.MaxObjects = *in.QuotaObjects
		}
		if in.Snapshots != nil {
			if o.Snapshots, err = snapshotRules(*in.Snapshots); err != nil {
				return err
			}
		}
		o.Expires, err = expires(o.Expires)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a.bucket(ctx, r, name)
}

// newExpiry returns what a change makes of an expiry.
func (a *admin) newExpiry(in *string, at *time.Time, extend string) (func(old wal.LSN) (wal.LSN, error), error) {
	if extend != "" {
		d, err := time.ParseDuration(extend)
		if err != nil || d <= 0 || in != nil || at != nil {
			return nil, invalid("extend must be a duration such as 24h, without expires_in and expires_at")
		}
		return func(old wal.LSN) (wal.LSN, error) {
			if old == 0 {
				return 0, invalid("it does not expire, so there is nothing to extend")
			}
			return old + min(wal.LSN(d), wal.MaxLSN-old), nil
		}, nil
	}
	if in == nil && at == nil {
		return func(old wal.LSN) (wal.LSN, error) { return old, nil }, nil
	}
	text := ""
	if in != nil && *in != "never" {
		if text = *in; text == "" {
			return nil, invalid("expires_in must be a duration such as 24h, or never")
		}
	} else if in != nil && at != nil {
		return nil, invalid("expires_in and expires_at exclude each other")
	}
	lsn, err := a.expiry(text, at)
	return func(wal.LSN) (wal.LSN, error) { return lsn, nil }, err
}

// deleteBucket serves DELETE /v1/buckets/{name}.
func (a *admin) deleteBucket(ctx context.Context, r *adminRequest, name string) (any, error) {
	force, err := r.forced()
	if err != nil {
		return nil, err
	}
	o := timeline.DeleteOptions{Force: force}
	if undo, ok := r.target.Get("undo"); ok {
		if o.Undo, err = time.ParseDuration(undo); err != nil || o.Undo < 0 {
			return nil, invalid("undo must be a duration such as 24h, or 0s")
		}
		if o.Undo == 0 {
			o.Undo = -1
		}
	}
	lsn, err := a.server.objects.DeleteBucket(ctx, name, o)
	if err != nil {
		return nil, err
	}
	return &Change{LSN: lsn}, nil
}

// renameBucket serves POST /v1/buckets/{name}/rename.
func (a *admin) renameBucket(ctx context.Context, r *adminRequest, name string) (any, error) {
	var in Renamed
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	lsn, err := a.server.objects.RenameBucket(ctx, name, in.Name)
	if err != nil {
		return nil, err
	}
	return &Change{LSN: lsn}, nil
}
