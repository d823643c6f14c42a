package pageserver

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/pageserver/s3api"
	"stemma/timeline"
	"stemma/wal"
)

// entry decides whether a request of a caller other than the root may be tried; name is the first variable of
// its path. What a body names, it decodes for itself.
type entry func(a *admin, ctx context.Context, r *adminRequest, name string) error

// entries have the entry of every route, by method and path. docs/identity.md has the table for people.
var entries map[string]entry

func init() { // not in the declaration: what decides leads back to the routes
	entries = map[string]entry{
		"POST gc":                  operator,
		"POST encryption/reseal":   operator,
		"GET usage":                operator,
		"GET profile":              operator,
		"GET background":           operator,
		"PUT background":           operator,
		"GET deleted":              operator,
		"POST deleted/{}/undelete": operator,
		"GET users":                operator,
		"POST users":               operator,
		"GET users/{}":             operator,
		"PUT users/{}":             operator,
		"DELETE users/{}":          operator,
		"POST users/{}/policy":     operator,
		"GET policies":             operator,
		"PUT policies/{}":          operator,
		"DELETE policies/{}":       operator,
		"GET keys":                 operator,
		"POST keys":                operator,
		"PUT keys/{}":              operator,
		"POST keys/{}/rotate":      operator,
		"DELETE keys/{}":           operator,

		"GET buckets":              func(_ *admin, _ context.Context, r *adminRequest, _ string) error { return r.judge.MayListBuckets() },
		"POST buckets":             mayMakeBucket,
		"GET buckets/{}":           does("stemma:GetBucketStats"),
		"PATCH buckets/{}":         mayPatchBucket,
		"DELETE buckets/{}":        mayDeleteBucket,
		"POST buckets/{}/rename":   mayRenameBucket,
		"GET buckets/{}/retention": does("stemma:GetBucketStats"),
		"PUT buckets/{}/retention": does("stemma:PutBucketRetention"),

		"GET buckets/{}/forks":    does("stemma:GetBucketStats"),
		"POST buckets/{}/forks":   mayFork,
		"GET buckets/{}/ancestry": does("stemma:GetBucketStats"),
		"GET buckets/{}/tree":     does("stemma:GetBucketStats"),
		"GET buckets/{}/distance": does("stemma:GetBucketStats"),

		"POST snapshots":                 maySnapshotMany,
		"POST buckets/{}/snapshots":      does("stemma:CreateSnapshot"),
		"GET buckets/{}/snapshots":       does("stemma:ListSnapshots"),
		"GET buckets/{}/snapshots/{}":    does("stemma:ListSnapshots"),
		"PATCH buckets/{}/snapshots/{}":  mayPatchSnapshot,
		"DELETE buckets/{}/snapshots/{}": does("stemma:DeleteSnapshot"),

		"GET buckets/{}/list":    mayListDescribed,
		"POST buckets/{}/look":   mayLook,
		"POST buckets/{}/commit": mayCommit,
		"GET buckets/{}/history": func(_ *admin, _ context.Context, r *adminRequest, name string) error {
			return r.judge.MayList(name, r.text("key"), true)
		},
		"GET buckets/{}/log": func(_ *admin, _ context.Context, r *adminRequest, name string) error {
			return r.judge.MayList(name, r.text("prefix"), true)
		},

		"POST diff/jobs":              mayDiff,
		"POST buckets/{}/detach":      does("stemma:DetachBucket"),
		"GET jobs":                    anyone, // who sees their own
		"GET jobs/{}":                 anyone,
		"GET jobs/{}/result":          anyone,
		"DELETE jobs/{}":              anyone,
		"POST diff":                   mayDiff,
		"POST buckets/{}/merge":       mayMerge,
		"POST buckets/{}/rebase":      mayMerge,
		"POST buckets/{}/cherry-pick": mayMerge,
		"POST buckets/{}/revert":      does("stemma:RestoreBucket"),
		"POST buckets/{}/restore":     does("stemma:RestoreBucket"),
		"POST buckets/{}/undelete":    does("stemma:RestoreBucket"),
		"POST buckets/{}/reset":       mayReset,
		"POST buckets/{}/promote":     mayPromote,
		"POST buckets/{}/swap":        maySwap,
	}
}

func denied() error { return s3api.ErrDenied }

// operator is what is for the root, and whom a policy lets administer everything.
func operator(_ *admin, _ context.Context, r *adminRequest, _ string) error {
	if !r.judge.Administers() {
		return s3api.ErrDenied
	}
	return nil
}

// anyone is what is for everybody with a key.
func anyone(*admin, context.Context, *adminRequest, string) error { return nil }

// does is an action done to the bucket of the path.
func does(action string) entry {
	return func(_ *admin, _ context.Context, r *adminRequest, name string) error {
		return r.judge.May(action, name)
	}
}

// decide decides about a request by its route. Errors: AccessDenied, timeline.ErrNoSuchBucket, and what is wrong with the
// body.
func (a *admin) decide(ctx context.Context, route *adminRoute, r *adminRequest, name string) error {
	if r.root {
		return nil
	}
	may, ok := entries[route.method+" "+strings.Join(route.path, "/")]
	if !ok {
		return denied() // a route that nobody thought of
	}
	return may(a, ctx, r, name)
}

// allOf returns the first error.
func allOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func mayMakeBucket(_ *admin, _ context.Context, r *adminRequest, _ string) error {
	var in NewBucket
	if err := r.decode(&in); err != nil {
		return err
	}
	return allOf(r.judge.MayMake(in.Name), r.mayMint(in.Key))
}

// mayMint decides about access keys that are made with buckets, for the caller. Keys that are held to buckets, and
// sessions, make none.
func (r *adminRequest) mayMint(k *ForkKey) error {
	switch c := r.caller; {
	case k == nil:
		return nil
	case c.Scope != nil || c.Session != "" || c.Unique == auth.RootID:
		return s3api.ErrDenied
	default:
		return r.judge.MayOwn("iam:CreateAccessKey", c.ARN)
	}
}

func mayPatchBucket(_ *admin, _ context.Context, r *adminRequest, name string) error {
	var in BucketChange
	if err := r.decode(&in); err != nil {
		return err
	}
	if expires(in.ExpiresIn, in.ExpiresAt) { // it goes then, with all that is in it
		if err := allOf(r.judge.May("s3:DeleteBucket", name), r.judge.May("stemma:ForceDeleteBucket", name)); err != nil {
			return err
		}
	}
	if in.QuotaBytes != nil || in.QuotaObjects != nil {
		if !r.judge.Administers() { // a quota is a bound on its owner, too
			return allOf(r.judge.May("stemma:PutBucketSettings", name), s3api.ErrDenied)
		}
	}
	return r.judge.May("stemma:PutBucketSettings", name)
}

// expires reports whether a change has something expire that may not have done so.
func expires(in *string, at *time.Time) bool { return at != nil || in != nil && *in != "never" }

func mayPatchSnapshot(_ *admin, _ context.Context, r *adminRequest, name string) error {
	var in SnapshotChange
	if err := r.decode(&in); err != nil {
		return err
	}
	err := r.judge.May("stemma:PutSnapshot", name)
	if err == nil && expires(in.ExpiresIn, in.ExpiresAt) {
		err = r.judge.May("stemma:DeleteSnapshot", name)
	}
	return err
}

func mayDeleteBucket(_ *admin, _ context.Context, r *adminRequest, name string) error {
	force, err := r.flag("force")
	if err != nil {
		return err
	}
	err = r.judge.May("s3:DeleteBucket", name)
	if err == nil && force {
		err = r.judge.May("stemma:ForceDeleteBucket", name)
	}
	return err
}

func mayRenameBucket(_ *admin, _ context.Context, r *adminRequest, name string) error {
	var in Renamed
	if err := r.decode(&in); err != nil {
		return err
	}
	return allOf(r.judge.May("stemma:RenameBucket", name), r.judge.MayMake(in.Name))
}

func mayFork(_ *admin, _ context.Context, r *adminRequest, source string) error {
	var in ForkRequest
	if err := r.decode(&in); err != nil {
		return err
	}
	names, err := in.names()
	if err != nil {
		return err
	}
	if err := r.judge.May("stemma:ForkBucket", source); err != nil {
		return err
	}
	for _, name := range names {
		if err := r.judge.MayMake(name); err != nil {
			return err
		}
	}
	return r.mayMint(in.Key)
}

func maySnapshotMany(_ *admin, _ context.Context, r *adminRequest, _ string) error {
	var in NewSnapshot
	if err := r.decode(&in); err != nil {
		return err
	}
	for _, b := range in.Buckets {
		if err := r.judge.May("stemma:CreateSnapshot", b); err != nil {
			return err
		}
	}
	return nil
}

// mayListDescribed decides about a list that tells what a HEAD of each object would.
func mayListDescribed(_ *admin, _ context.Context, r *adminRequest, name string) error {
	return allOf(r.judge.MayList(name, r.text("prefix"), r.text("at") != ""), r.judge.May("stemma:ListObjectMetadata", name))
}

// mayLook decides about what is at some keys, and whether others begin with them.
func mayLook(a *admin, ctx context.Context, r *adminRequest, name string) error {
	var in LookRequest
	if err := r.decode(&in); err != nil {
		return err
	}
	if err := r.judge.May("stemma:ListObjectMetadata", name); err != nil {
		return err
	}
	for _, key := range in.Keys {
		if err := r.judge.MayList(name, key, in.At != ""); err != nil {
			return err
		}
	}
	return nil
}

// mayCommit decides about each operation as about the request of S3 that does the same. One on a prefix changes keys
// that it does not name: it is an action on the bucket.
func mayCommit(a *admin, ctx context.Context, r *adminRequest, bucket string) error {
	var in CommitRequest
	if err := r.decode(&in); err != nil {
		return err
	}
	if _, err := a.server.objects.Bucket(bucket, 0); err != nil {
		return err
	}
	for _, k := range in.If {
		if err := r.judge.MayRead(ctx, bucket, k.Key, 0, false); err != nil && !errors.Is(err, object.ErrNoSuchKey) {
			return err
		}
	}
	if in.IfLSN != 0 {
		if err := r.judge.MayList(bucket, "", false); err != nil {
			return err
		}
	}
	for i := range in.Operations {
		if err := a.mayOperate(ctx, r, bucket, &in.Operations[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *admin) mayOperate(ctx context.Context, r *adminRequest, bucket string, op *CommitOperation) error {
	j := r.judge
	switch op.Op {
	case "delete":
		return j.MayKey("s3:DeleteObject", bucket, op.Key, object.PermWrite)
	case "rename-prefix", "delete-prefix":
		return j.May("stemma:ChangePrefix", bucket)
	}
	if err := j.MayKey("s3:PutObject", bucket, op.Key, object.PermWrite); err != nil {
		return err
	}
	if len(op.Tags) > 0 {
		var tags []object.Field
		for k, v := range op.Tags {
			tags = append(tags, object.Field{Key: k, Value: v})
		}
		if err := j.MayComeAlong("s3:PutObjectTagging", bucket, op.Key, tags); err != nil {
			return err
		}
	}
	source := cmp.Or(op.Staged, op.Source)
	if source == "" {
		return nil
	}
	from, at := bucket, wal.LSN(0)
	if op.Op == "copy" {
		from = cmp.Or(op.SourceBucket, bucket)
		if object.Reserved(from) {
			return timeline.ErrNoSuchBucket
		}
		// Who may not see the bucket is not told by its snapshots that it is there.
		err := j.MayList(from, source, op.SourceAt != "")
		if at2, bad := a.point(from, op.SourceAt); bad == nil {
			at = at2
		} else if err == nil {
			err = bad
		} else {
			return err
		}
	}
	if err := j.MayRead(ctx, from, source, at, !op.Replace); err != nil {
		return err
	}
	if op.Op == "copy" {
		return nil
	}
	return j.MayKey("s3:DeleteObject", bucket, source, object.PermWrite)
}

// mayDiff decides about the two sides of a difference. The side that is not named is what the other was forked from.
func mayDiff(a *admin, _ context.Context, r *adminRequest, _ string) error {
	var in DiffRequest
	if err := r.decode(&in); err != nil {
		return err
	}
	if err := r.mayCompare(in.To, in.Prefix, in.ToAt != "" || in.Token != ""); err != nil {
		return err
	}
	from, past := in.From, in.FromAt != "" || in.Token != ""
	if from == "" {
		info, err := a.server.objects.Bucket(in.To, 0)
		if err != nil || info.SourceName == "" {
			return err // the handler says what is wrong
		}
		from, past = info.SourceName, true
	}
	return r.mayCompare(from, in.Prefix, past)
}

func (r *adminRequest) mayCompare(bucket, prefix string, past bool) error {
	return allOf(r.judge.May("stemma:DiffBucket", bucket), r.judge.MayList(bucket, prefix, past))
}

// mayMerge decides about a merge, rebase or pick: it takes all that the source has.
func mayMerge(_ *admin, _ context.Context, r *adminRequest, target string) error {
	var in MergeRequest
	if err := r.decode(&in); err != nil {
		return err
	}
	return allOf(r.judge.May("stemma:MergeBucket", target), r.judge.May("stemma:ForkBucket", in.Source))
}

func mayReset(a *admin, _ context.Context, r *adminRequest, name string) error {
	if err := r.judge.May("stemma:RestoreBucket", name); err != nil {
		return err
	}
	info, err := a.server.objects.Bucket(name, 0)
	if err != nil || info.SourceName == "" {
		return err // the handler says what is wrong
	}
	return r.judge.May("stemma:ForkBucket", info.SourceName)
}

func mayPromote(a *admin, _ context.Context, r *adminRequest, name string) error {
	if err := r.judge.May("stemma:ForkBucket", name); err != nil {
		return err
	}
	info, err := a.server.objects.Bucket(name, 0)
	if err != nil || info.SourceName == "" {
		return err // the handler says what is wrong
	}
	return r.judge.May("stemma:RestoreBucket", info.SourceName)
}

func maySwap(_ *admin, _ context.Context, r *adminRequest, name string) error {
	var in MoveRequest
	if err := r.decode(&in); err != nil {
		return err
	}
	for _, b := range []string{name, in.With} {
		if err := allOf(r.judge.May("stemma:RestoreBucket", b), r.judge.May("stemma:ForkBucket", b)); err != nil {
			return err
		}
	}
	return nil
}

// owner returns the canonical id of who owns what the request makes; empty: the root.
func (r *adminRequest) owner() string {
	if r.caller.ID == auth.RootID {
		return ""
	}
	return r.caller.ID
}

// user returns the name of the user that access keys are made for; empty: the root.
func (r *adminRequest) user() string {
	if r.root {
		return ""
	}
	return r.caller.Name
}

// hideNames takes from an answer the names of buckets that the caller does not see: of what others were forked from.
func (r *adminRequest) hideNames(answer any) {
	switch v := answer.(type) {
	case Bucket:
		r.hideSource(&v)
	case *MadeBucket:
		r.hideSource(&v.Bucket)
	case *BucketsAnswer:
		for i := range v.Buckets {
			r.hideSource(&v.Buckets[i])
		}
	case *ForkAnswer:
		for i := range v.Forks {
			r.hideSource(&v.Forks[i].Bucket)
		}
	case *MoveAnswer:
		for i := range v.Buckets {
			r.hideSource(&v.Buckets[i])
		}
	case *AncestryAnswer:
		for i := range v.Ancestors {
			r.hide(&v.Ancestors[i].Bucket)
		}
	case *TreeAnswer:
		for i := range v.Nodes {
			r.hide(&v.Nodes[i].Bucket)
		}
	}
}

// hideSource hides the name of the source, which copies of a Bucket share.
func (r *adminRequest) hideSource(b *Bucket) {
	if b.Source != nil {
		r.hide(&b.Source.Bucket)
	}
}

func (r *adminRequest) hide(name *string) {
	if *name != "" && !r.judge.Sees(*name) {
		*name = ""
	}
}
