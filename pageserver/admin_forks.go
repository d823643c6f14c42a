package pageserver

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/identity"
	"stemma/timeline"
	"stemma/wal"
)

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

func (k *ForkKey) check() error {
	if k != nil && k.Role != "" && k.Role != roleEditor && k.Role != roleReadOnly {
		return invalid("a role must be " + roleEditor + " or " + roleReadOnly)
	}
	return nil
}

// ForkAnswer are the forks that were made, in the order of their names in the request.
type ForkAnswer struct {
	LSN       wal.LSN      `json:"lsn,string"`        // of the commit
	SourceLSN wal.LSN      `json:"source_lsn,string"` // what they see of the source
	Forks     []MadeBucket `json:"forks"`
}

// MaxForks is the most that one request makes.
const MaxForks = 10_000

// names returns the names of the forks.
func (in *ForkRequest) names() ([]string, error) {
	ways := 0
	for _, given := range []bool{in.Name != "", len(in.Names) > 0, in.Count != 0 || in.NamePrefix != ""} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return nil, invalid("say one of name, names, and count with name_prefix")
	case in.Name != "":
		return []string{in.Name}, nil
	case len(in.Names) > MaxForks, in.Count > MaxForks, len(in.Names) == 0 && (in.Count < 1 || in.NamePrefix == ""):
		return nil, invalid(fmt.Sprintf("1 to %d forks are made at once; count goes with name_prefix", MaxForks))
	case len(in.Names) > 0:
		return in.Names, nil
	}
	names, digits := make([]string, in.Count), len(strconv.Itoa(in.Count))
	for i := range names {
		names[i] = fmt.Sprintf("%s%0*d", in.NamePrefix, digits, i+1)
	}
	return names, nil
}

// fork serves POST /v1/buckets/{name}/forks.
func (a *admin) fork(ctx context.Context, r *adminRequest, source string) (any, error) {
	var in ForkRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	names, err := in.names()
	if err != nil {
		return nil, err
	}
	o, err := a.options(r, &in.BucketOptions)
	if err != nil {
		return nil, err
	}
	if err := in.Key.check(); err != nil {
		return nil, err
	}
	at, err := a.point(source, in.At)
	if err != nil {
		return nil, err
	}
	infos, err := a.server.objects.ForkMany(ctx, source, at, names, o)
	if err != nil {
		return nil, err
	}
	forks, err := a.withKeys(ctx, r, infos, in.Key)
	if err != nil {
		return nil, err
	}
	return &ForkAnswer{LSN: infos[0].Created, SourceLSN: infos[0].BranchLSN, Forks: forks}, nil
}

// withKeys describes buckets that were just made, and makes an access key for each if one is wanted. When that
// fails, the buckets go again.
func (a *admin) withKeys(ctx context.Context, r *adminRequest, infos []timeline.Info, k *ForkKey) ([]MadeBucket, error) {
	made := make([]MadeBucket, len(infos))
	var err error
	for i := range infos {
		if made[i].Bucket, err = a.bucketAnswer(&infos[i]); err != nil {
			return nil, err
		}
	}
	if k == nil {
		return made, nil
	}
	list := make([]identity.NewKey, len(infos))
	for i := range infos {
		list[i] = identity.NewKey{User: r.user(), Description: k.Description, Scope: []auth.BucketRole{{Bucket: uint64(infos[i].Bucket), ReadOnly: k.Role == roleReadOnly}}}
		if k.Expires != nil {
			list[i].Expires = *k.Expires
		}
	}
	keys, secrets, err := a.directory().CreateKeys(ctx, list)
	if err != nil {
		return nil, errors.Join(err, a.unmake(infos))
	}
	for i := range infos {
		answer := a.keyAnswer(&keys[i], map[uint64]string{uint64(infos[i].Bucket): infos[i].Name})
		answer.SecretKey = secrets[i]
		made[i].Key = &answer
	}
	return made, nil
}

// unmake deletes buckets that were just made. A protected one stays.
func (a *admin) unmake(infos []timeline.Info) error {
	var errs []error
	for i := range infos {
		if _, err := a.server.objects.DeleteBucket(a.server.jobs.ctx, infos[i].Name, timeline.DeleteOptions{Force: true, Undo: -1}); err != nil {
			errs = append(errs, fmt.Errorf("the bucket stays, without a key: %w", err))
		}
	}
	return errors.Join(errs...)
}

// forks serves GET /v1/buckets/{name}/forks: what was forked from it.
func (a *admin) forks(ctx context.Context, r *adminRequest, name string) (any, error) {
	info, err := a.server.objects.Bucket(name, 0)
	if err != nil {
		return nil, err
	}
	return a.listBuckets(ctx, r, func(prefix, after string, limit int) []timeline.Info {
		return a.server.store.Forks(info.Bucket, prefix, after, limit)
	})
}

// AncestryAnswer are the buckets that a bucket descends from, its source first.
type AncestryAnswer struct {
	Ancestors []Origin `json:"ancestors"`
}

// ancestry serves GET /v1/buckets/{name}/ancestry.
func (a *admin) ancestry(_ context.Context, _ *adminRequest, name string) (any, error) {
	list, err := a.server.store.Ancestry(name)
	if err != nil {
		return nil, err
	}
	answer := &AncestryAnswer{Ancestors: []Origin{}}
	for _, o := range list {
		answer.Ancestors = append(answer.Ancestors, Origin{Bucket: o.Name, ID: uint64(o.Bucket), LSN: o.BranchLSN, Time: o.BranchLSN.Time()})
	}
	return answer, nil
}

// TreeAnswer is the family of a bucket, every fork behind what it was forked from.
type TreeAnswer struct {
	Nodes     []TreeNode `json:"nodes"`
	Truncated bool       `json:"truncated"` // there are more than were asked for
}

// TreeNode is one bucket of a family.
type TreeNode struct {
	Bucket    string     `json:"bucket,omitempty"` // absent: it was deleted
	ID        uint64     `json:"id"`
	Depth     int        `json:"depth"`             // below the first node
	BranchLSN wal.LSN    `json:"branch_lsn,string"` // what it sees of what it was forked from; 0: a root
	Created   *time.Time `json:"created,omitempty"` // absent: it was deleted
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	ReadOnly  bool       `json:"read_only,omitempty"`
	Protected bool       `json:"protected,omitempty"`
}

// tree serves GET /v1/buckets/{name}/tree: the bucket and what descends from it, or with root=true the whole family.
func (a *admin) tree(ctx context.Context, r *adminRequest, name string) (any, error) {
	whole, err := r.flag("root")
	if err != nil {
		return nil, err
	}
	limit, err := r.limit(1000, maxBuckets)
	if err != nil {
		return nil, err
	}
	info, err := a.server.objects.Bucket(name, 0)
	if err != nil {
		return nil, err
	}
	w := treeWalk{a: a, ctx: ctx, limit: limit, answer: &TreeAnswer{Nodes: []TreeNode{}}}
	if !whole || info.SourceBucket == 0 {
		return w.answer, w.visit(&info, 0)
	}
	list, err := a.server.store.Ancestry(name)
	if err != nil {
		return nil, err
	}
	root := list[len(list)-1]
	if root.Name != "" {
		if info, err = a.server.objects.Bucket(root.Name, 0); err == nil && info.Bucket == root.Bucket {
			return w.answer, w.visit(&info, 0)
		}
	}
	w.answer.Nodes = append(w.answer.Nodes, TreeNode{ID: uint64(root.Bucket)})
	return w.answer, w.children(root.Bucket, 1)
}

// treeWalk visits a family in order, up to a number of buckets.
type treeWalk struct {
	a      *admin
	ctx    context.Context
	limit  int
	answer *TreeAnswer
}

func (w *treeWalk) visit(info *timeline.Info, depth int) error {
	if len(w.answer.Nodes) == w.limit {
		w.answer.Truncated = true
		return nil
	}
	created := info.Created.Time()
	w.answer.Nodes = append(w.answer.Nodes, TreeNode{
		Bucket: info.Name, ID: uint64(info.Bucket), Depth: depth, BranchLSN: info.BranchLSN, Created: &created,
		ExpiresAt: expiresAt(info.Expires), ReadOnly: info.ReadOnly, Protected: info.Protected,
	})
	if !info.HasForks {
		return nil
	}
	return w.children(info.Bucket, depth+1)
}

func (w *treeWalk) children(of timeline.BucketID, depth int) error {
	for after := ""; !w.answer.Truncated; {
		page := w.a.server.store.Forks(of, "", after, 1000)
		for i := range page {
			if err := w.ctx.Err(); err != nil {
				return err
			}
			after = page[i].Name
			if err := w.visit(&page[i], depth); err != nil || w.answer.Truncated {
				return err
			}
		}
		if len(page) < 1000 {
			return nil
		}
	}
	return nil
}

// DistanceAnswer is what a bucket has written since it was forked; of one that is no fork, what it holds.
type DistanceAnswer struct {
	FromLSN       wal.LSN `json:"from_lsn,string"`
	ToLSN         wal.LSN `json:"to_lsn,string"`
	Keys          int64   `json:"keys"` // put and deleted ones
	Put           int64   `json:"put"`
	PutBytes      uint64  `json:"put_bytes"`
	Deleted       int64   `json:"deleted"`
	DeletedRanges int64   `json:"deleted_ranges"` // of keys that are not counted
}

// distance serves GET /v1/buckets/{name}/distance.
func (a *admin) distance(ctx context.Context, _ *adminRequest, name string) (any, error) {
	d, err := a.server.objects.Distance(ctx, name)
	if err != nil {
		return nil, err
	}
	return &DistanceAnswer{
		FromLSN: d.From, ToLSN: d.To, Keys: d.Put + d.Deleted, Put: d.Put, PutBytes: d.PutBytes, Deleted: d.Deleted, DeletedRanges: d.DeletedRanges,
	}, nil
}
