package s3api

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"

	"stemma/pageserver/object"
	"stemma/timeline"
)

// restoreBucketOperation brings a deleted bucket back, as clients of Tigris ask for it.
var restoreBucketOperation = &operation{name: "RestoreBucket", handle: restoreBucket, params: []string{"restore"}}

// deletedBuckets returns the deleted buckets of the caller's that can be brought back, by name, of each name the one that
// was deleted last.
func (r *request) deletedBuckets() ([]timeline.Deleted, error) {
	var mine []timeline.Deleted
	for _, d := range r.srv.objects.Store().DeletedBuckets() {
		if object.Reserved(d.Name) {
			continue
		}
		attrs, err := r.srv.objects.Attributes(&d.Info)
		if err != nil {
			return nil, err
		}
		if c := r.proof.Caller; c.Root || !c.Anonymous() && ownerOf(attrs) == c.ID && c.Scope == nil {
			mine = append(mine, d)
		}
	}
	slices.SortFunc(mine, func(a, b timeline.Deleted) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		if a.Deleted > b.Deleted {
			return -1
		}
		return 1
	})
	return slices.CompactFunc(mine, func(a, b timeline.Deleted) bool { return a.Name == b.Name }), nil
}

// listDeletedBuckets answers GET /?OnlyDeleted=true.
func (r *request) listDeletedBuckets(prefix, after string, limit int) error {
	if !r.wantsJSON() {
		return notImplemented("the query parameter OnlyDeleted without JSON")
	}
	all, err := r.deletedBuckets()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(d timeline.Deleted) bool { return d.Name <= after || !strings.HasPrefix(d.Name, prefix) })
	next := ""
	if len(all) > limit {
		all = all[:limit]
		next = base64.RawURLEncoding.EncodeToString([]byte(all[limit-1].Name))
	}
	doc := r.newBucketsJSON(next, len(all))
	for i := range all {
		d := &all[i]
		set, err := r.srv.objects.Settings(r.srv.base, d.Name, d.Deleted-1)
		if err != nil {
			set = &object.Settings{} // it is not known any more
		}
		b := r.bucketJSON(&d.Info, set)
		days := int(d.Until.Time().Sub(d.Deleted.Time()).Hours()+23) / 24
		b.SoftDeleteInfo = &softDeleteInfoJSON{true, days}
		doc.Buckets.Bucket = append(doc.Buckets.Bucket, b)
	}
	return r.sendJSON(doc)
}

func restoreBucket(ctx context.Context, r *request) error {
	all, err := r.deletedBuckets()
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].Name != r.bucket {
			continue
		}
		info, err := r.srv.objects.Store().Undelete(ctx, all[i].Bucket, r.bucket)
		if err != nil {
			return err
		}
		r.setLSN(info.Created)
		return r.sendJSON(map[string]string{"status": "success"})
	}
	if _, err := r.srv.objects.Bucket(r.bucket, 0); err == nil {
		return &apiError{code: "BucketAlreadyExists", message: "The bucket is not deleted"}
	}
	return timeline.ErrNoSuchBucket
}

// mayRestoreBucket decides about a bucket that is not there: who may make it, and had it, may have it back.
func (r *request) mayRestoreBucket() error {
	if !r.mayByIdentity("s3:CreateBucket", "arn:aws:s3:::"+r.bucket) {
		return errDenied
	}
	if b, err := r.resource(r.bucket); err == nil && b.owner != r.proof.Caller.ID {
		return errDenied // another's of that name is there
	}
	return nil
}
