package pageserver

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// Snapshot keeps one moment of a bucket readable.
type Snapshot struct {
	ID        uint64     `json:"id"`
	Bucket    string     `json:"bucket"`
	Name      string     `json:"name,omitempty"`
	LSN       wal.LSN    `json:"lsn,string"` // its version: what it keeps
	Time      time.Time  `json:"time"`       // of the LSN
	Created   time.Time  `json:"created"`
	Label     string     `json:"label,omitempty"` // free text
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Held      bool       `json:"held"` // it neither expires nor can be deleted, nor its bucket
}

// NewSnapshot says what to take a snapshot of.
type NewSnapshot struct {
	// Buckets get one each, all of the same LSN, in one commit. Only of POST /v1/snapshots.
	Buckets   []string   `json:"buckets,omitempty"`
	At        string     `json:"at,omitempty"` // point in time; absent: now
	Name      string     `json:"name,omitempty"`
	Label     string     `json:"label,omitempty"`
	ExpiresIn string     `json:"expires_in,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Held      bool       `json:"held,omitempty"`
}

// SnapshotsAnswer are snapshots. Of a list they are newest first, and Next continues it as after, absent on the
// last page.
type SnapshotsAnswer struct {
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

// MaxSnapshotLabelBytes bounds the label of a snapshot.
const MaxSnapshotLabelBytes = 512

func checkSnapshotLabel(label string) error {
	if len(label) > MaxSnapshotLabelBytes || !utf8.ValidString(label) {
		return invalid("a label is at most " + strconv.Itoa(MaxSnapshotLabelBytes) + " bytes of UTF-8")
	}
	return nil
}

func snapshotAnswer(s *timeline.Snapshot, bucket string) Snapshot {
	return Snapshot{
		ID: uint64(s.ID), Bucket: bucket, Name: s.Name, LSN: s.LSN, Time: s.LSN.Time(), Created: s.Created.Time(),
		Label: strings.ToValidUTF8(string(s.Attrs), "\uFFFD"), ExpiresAt: expiresAt(s.Expires), Held: s.Held,
	}
}

// snapshotMany serves POST /v1/snapshots.
func (a *admin) snapshotMany(ctx context.Context, r *adminRequest, _ string) (any, error) {
	var in NewSnapshot
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if len(in.Buckets) == 0 || len(in.Buckets) > 1000 {
		return nil, invalid("buckets must name 1 to 1000 buckets")
	}
	return a.takeSnapshots(ctx, &in)
}

// snapshotOne serves POST /v1/buckets/{name}/snapshots.
func (a *admin) snapshotOne(ctx context.Context, r *adminRequest, bucket string) (any, error) {
	var in NewSnapshot
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.Buckets != nil {
		return nil, invalid("buckets is for /v1/snapshots")
	}
	in.Buckets = []string{bucket}
	return a.takeSnapshots(ctx, &in)
}

func (a *admin) takeSnapshots(ctx context.Context, in *NewSnapshot) (any, error) {
	expires, err := a.expiry(in.ExpiresIn, in.ExpiresAt)
	if err = errors.Join(err, checkSnapshotName(in.Name), checkSnapshotLabel(in.Label)); err != nil {
		return nil, err
	}
	for _, b := range in.Buckets {
		if object.Reserved(b) {
			return nil, timeline.ErrNoSuchBucket
		}
	}
	at, err := a.point(in.Buckets[0], in.At)
	if err != nil {
		return nil, err
	}
	made, err := a.server.store.Snapshot(ctx, timeline.NewSnapshot{Buckets: in.Buckets, At: at, SnapshotSettings: timeline.SnapshotSettings{
		Name: in.Name, Held: in.Held, Properties: timeline.Properties{Attrs: []byte(in.Label), Expires: expires},
	}})
	if err != nil {
		return nil, err
	}
	answer := &SnapshotsAnswer{}
	for i := range made {
		answer.Snapshots = append(answer.Snapshots, snapshotAnswer(&made[i], in.Buckets[i]))
	}
	return answer, nil
}

// snapshots serves GET /v1/buckets/{name}/snapshots.
func (a *admin) snapshots(_ context.Context, r *adminRequest, bucket string) (any, error) {
	limit, err := r.limit(1000, 1000)
	if err != nil {
		return nil, err
	}
	var after timeline.SnapshotCursor
	if s, ok := r.target.Get("after"); ok {
		lsn, id, _ := strings.Cut(s, ".")
		n, err := strconv.ParseUint(id, 10, 64)
		if after.LSN, _ = wal.ParseLSN(lsn); err != nil || after.LSN == 0 {
			return nil, invalid("after is not what a page has answered as next")
		}
		after.ID = timeline.SnapshotID(n)
	}
	info, err := a.server.objects.Bucket(bucket, 0)
	if err != nil {
		return nil, err
	}
	list := a.server.store.Snapshots(info.Bucket, after, limit+1)
	answer := &SnapshotsAnswer{Snapshots: []Snapshot{}}
	if len(list) > limit {
		list = list[:limit]
		last := list[limit-1].Cursor()
		answer.Next = last.LSN.String() + "." + strconv.FormatUint(uint64(last.ID), 10)
	}
	for i := range list {
		answer.Snapshots = append(answer.Snapshots, snapshotAnswer(&list[i], bucket))
	}
	return answer, nil
}

// findSnapshot returns a snapshot by its name, or by its version.
func (a *admin) findSnapshot(bucket, which string) (timeline.Snapshot, error) {
	info, err := a.server.objects.Bucket(bucket, 0)
	if err != nil {
		return timeline.Snapshot{}, err
	}
	if lsn, err := wal.ParseLSN(which); err == nil {
		return a.server.store.SnapshotAt(info.Bucket, lsn)
	}
	return a.server.store.SnapshotNamed(info.Bucket, which)
}

// snapshot serves GET /v1/buckets/{name}/snapshots/{snapshot}.
func (a *admin) snapshot(_ context.Context, r *adminRequest, bucket string) (any, error) {
	s, err := a.findSnapshot(bucket, r.second)
	if err != nil {
		return nil, err
	}
	return snapshotAnswer(&s, bucket), nil
}

// patchSnapshot serves PATCH /v1/buckets/{name}/snapshots/{snapshot}.
func (a *admin) patchSnapshot(ctx context.Context, r *adminRequest, bucket string) (any, error) {
	var in SnapshotChange
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	expires, err := a.newExpiry(in.ExpiresIn, in.ExpiresAt, in.Extend)
	if err != nil {
		return nil, err
	}
	if in.Name != nil {
		err = checkSnapshotName(*in.Name)
	}
	if in.Label != nil {
		err = errors.Join(err, checkSnapshotLabel(*in.Label))
	}
	if err != nil {
		return nil, err
	}
	s, err := a.findSnapshot(bucket, r.second)
	if err != nil {
		return nil, err
	}
	_, err = a.server.store.SetSnapshot(ctx, s.ID, func(o timeline.SnapshotSettings) (_ timeline.SnapshotSettings, err error) {
		if in.Name != nil {
			o.Name = *in.Name
		}
		if in.Label != nil {
			o.Attrs = []byte(*in.Label)
		}
		if in.Held != nil {
			o.Held = *in.Held
		}
		o.Expires, err = expires(o.Expires)
		s.SnapshotSettings = o
		return o, err
	})
	if err != nil {
		return nil, err
	}
	return snapshotAnswer(&s, bucket), nil
}

// deleteSnapshot serves DELETE /v1/buckets/{name}/snapshots/{snapshot}.
func (a *admin) deleteSnapshot(ctx context.Context, r *adminRequest, bucket string) (any, error) {
	s, err := a.findSnapshot(bucket, r.second)
	if err != nil {
		return nil, err
	}
	lsn, err := a.server.store.DeleteSnapshots(ctx, s.ID)
	if err != nil {
		return nil, err
	}
	return &Change{LSN: lsn}, nil
}
