package s3api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// tigrisRoutes are what clients of Tigris ask for: by headers, where S3 would
// understand something else, so they come first.
var tigrisRoutes = []route{
	{"GET", serviceLevel, "", "x-tigris-snapshot", &operation{name: "ListSnapshots", handle: listSnapshots,
		params: []string{"max-buckets", "continuation-token"}, tigris: []string{"snapshot"}}},
	{"PUT", bucketLevel, "", "x-tigris-snapshot", &operation{name: "CreateSnapshot", handle: createSnapshot, tigris: []string{"snapshot"}}},
	{"PUT", bucketLevel, "", "x-tigris-merge-source-bucket", mergeOperation},
	{"PUT", bucketLevel, "", "x-tigris-rebase", rebaseOperation},
	{"DELETE", bucketLevel, "", "x-tigris-snapshot-version", &operation{name: "DeleteSnapshot", handle: deleteSnapshot, tigris: []string{"snapshot-version"}}},
	{"GET", bucketLevel, "metadata", "", &operation{name: "GetBucketInfo", handle: getBucketInfo, params: []string{"metadata", "with-size"}}},
	{"PATCH", bucketLevel, "", "", &operation{name: "PatchBucket", handle: patchBucket}},
	{"PUT", objectLevel, "", "x-tigris-rename", &operation{name: "RenameObject", handle: tigrisRename, tigris: []string{"rename"}}},
	{"POST", bucketLevel, "bundle", "", bundleOperation},
	{"POST", bucketLevel, "restore", "", restoreBucketOperation},
}

// carries reports whether the request has a header that decides about its route.
func (r *request) carries(header string) bool {
	if strings.HasPrefix(header, "x-amz-") {
		return r.amz(header) != ""
	}
	return len(r.header().PeekAll(header)) > 0
}

// tigrisRename is RenameObject as a copy with one header more.
func tigrisRename(ctx context.Context, r *request) error {
	if v := r.peek("X-Tigris-Rename"); v != "true" {
		return invalidArgument("X-Tigris-Rename", v, "X-Tigris-Rename must be true")
	}
	bucket, key, id, err := r.copySource()
	if err != nil {
		return err
	}
	if id != 0 {
		return invalidArgument("x-amz-copy-source", id.String(), "What is renamed is the current version")
	}
	if r.sourcePast != "" {
		return errPastReadOnly
	}
	if bucket != r.bucket {
		return invalidArgument("x-amz-copy-source", bucket, "An object is renamed within its bucket")
	}
	if err := r.mayRename(ctx, key); err != nil {
		return err
	}
	lsn, err := r.srv.objects.Rename(ctx, r.bucket, r.key, &object.RenameInput{
		Source: key, SourceCond: r.sourceConditions(), Cond: r.writeConditions(),
	})
	if err != nil {
		return err
	}
	o, err := r.srv.objects.Head(ctx, r.bucket, r.key, &object.GetInput{At: lsn})
	if err != nil {
		return err
	}
	r.setLSN(lsn)
	w := newResult("CopyObjectResult")
	w.time("LastModified", lsn)
	w.text("ETag", `"`+o.ETag.String()+`"`)
	w.close("CopyObjectResult")
	r.sendXML(w)
	return nil
}

// maxSnapshotName bounds the name of a snapshot, in bytes as sent.
const maxSnapshotName = 512

// createSnapshot pins the bucket as it is. The name is kept as it was sent: clients
// differ in how they escape it.
func createSnapshot(ctx context.Context, r *request) error {
	const name = "X-Tigris-Snapshot"
	value := r.peek(name)
	on, label, named := strings.Cut(value, "; name=")
	if on != "true" || len(label) > maxSnapshotName || named && label == "" {
		return invalidArgument(name, value, name+` must be "true", or "true; name=" and a name of at most 512 bytes`)
	}
	// Two may have the same label here: it is no name in the sense of the store.
	settings := timeline.SnapshotSettings{Properties: timeline.Properties{Attrs: []byte(label)}}
	made, err := r.srv.objects.Store().Snapshot(ctx, timeline.NewSnapshot{Buckets: []string{r.bucket}, SnapshotSettings: settings})
	if err != nil {
		return err
	}
	r.set("X-Tigris-Snapshot-Version", made[0].LSN.String())
	r.setLSN(made[0].LSN)
	return nil
}

// listSnapshots lists the snapshots of a bucket, newest first, in the form of a list
// of buckets.
func listSnapshots(_ context.Context, r *request) error {
	bucket := r.peek("X-Tigris-Snapshot")
	limit, err := r.intParam("max-buckets", math.MaxInt32, 1, math.MaxInt32)
	if err != nil {
		return err
	}
	before := wal.MaxLSN
	if token, ok := r.target.Get("continuation-token"); ok {
		if before, err = wal.ParseLSN(token); err != nil {
			return object.ErrInvalidToken
		}
	}
	r.bucket = bucket // errors name it
	b, err := r.resource(bucket)
	if err != nil {
		return err
	}
	if !r.may(&need{action: "stemma:ListSnapshots", bucket: b}) {
		return errDenied
	}
	pins := r.srv.objects.Store().Snapshots(b.info.Bucket, timeline.SnapshotCursor{}, 0)
	w := newResult("ListAllMyBucketsResult")
	r.writeOwner(w, "Owner", b.owner)
	w.open("Buckets")
	n, next := 0, ""
	for i := range pins {
		if pins[i].LSN >= before {
			continue
		}
		if n == limit {
			next = pins[i-1].LSN.String()
			break
		}
		n++
		label := pins[i].LSN.String()
		if len(pins[i].Attrs) > 0 {
			label += "; name=" + string(pins[i].Attrs)
		}
		w.open("Bucket")
		w.text("Name", label)
		w.text("CreationDate", timeJSON(pins[i].Created.Time()))
		w.close("Bucket")
	}
	w.close("Buckets")
	w.optional("ContinuationToken", next)
	w.close("ListAllMyBucketsResult")
	r.sendXML(w)
	return nil
}

// deleteSnapshot lets go of a snapshot; the bucket is not touched.
func deleteSnapshot(ctx context.Context, r *request) error {
	const name = "X-Tigris-Snapshot-Version"
	values := r.header().PeekAll(name)
	version, err := wal.ParseLSN(string(values[0]))
	if err != nil || len(values) > 1 {
		return invalidArgument(name, string(values[0]), name+" must be the version of a snapshot")
	}
	info, err := r.srv.objects.Bucket(r.bucket, 0)
	if err != nil {
		return err
	}
	store := r.srv.objects.Store()
	if snap, err := store.SnapshotAt(info.Bucket, version); err == nil {
		if _, err := store.DeleteSnapshots(ctx, snap.ID); err != nil {
			return err
		}
		r.noContent()
		return nil
	}
	return &apiError{code: "NoSuchSnapshot", message: fmt.Sprintf("The bucket has no snapshot of version %d", version)}
}

// wantsSnapshots reads X-Tigris-Enable-Snapshot.
func (r *request) wantsSnapshots() (bool, error) {
	switch v := r.peek("X-Tigris-Enable-Snapshot"); v {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, invalidArgument("X-Tigris-Enable-Snapshot", v, "X-Tigris-Enable-Snapshot must be true or false")
	}
}

// snapshotsOn makes the settings those of a snapshot bucket, as Tigris calls it: one that
// keeps versions. Forks and snapshots themselves need no such thing here.
func snapshotsOn(set *object.Settings) {
	set.Snapshots, set.Versioning = true, object.Enabled
}

// firstTigris returns what headers of CreateBucket say for the settings of Tigris; acl is that of the bucket. Who says
// whether a public bucket may be listed means Tigris, where its objects are public, too.
func (r *request) firstTigris(acl object.ACL) (t object.TigrisSettings, err error) {
	class, err := object.ParseStorageClass(r.amz("x-amz-storage-class"))
	if err != nil {
		return t, err
	}
	if class != object.Standard {
		t.StorageClass = class.String()
	}
	t.Regions = r.peek("X-Tigris-Regions")
	listed, err := r.publicListing()
	if err != nil {
		return t, err
	}
	if listed != nil && acl.Public() {
		t.Public, t.HideListing = true, !*listed
	}
	t.SoftDeleteDays, err = r.softDeleteDays()
	return t, err
}

// softDeleteDays reads X-Tigris-Soft-Delete of CreateBucket: true, or a number of days; zero: it is not there.
func (r *request) softDeleteDays() (int, error) {
	v := r.peek(softDeleteHeader)
	switch v {
	case "", "false":
		return 0, nil
	case "true":
		return defaultSoftDelDays, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < object.MinSoftDeleteDays || n > object.MaxSoftDeleteDays {
		return 0, invalidArgument(softDeleteHeader, v, softDeleteHeader+" must be true, or from "+itoa(object.MinSoftDeleteDays)+" to "+itoa(object.MaxSoftDeleteDays)+" days")
	}
	return n, nil
}

// errSnapshots is what a change of a bucket's kind may run into.
func errSnapshots(message string) error {
	return &apiError{code: "InvalidRequest", message: message}
}

// snapshotsChange returns the change of settings by which a bucket keeps versions for its snapshots, or not.
func snapshotsChange(info *timeline.Info, on bool) func(*object.Settings) error {
	return func(set *object.Settings) error {
		switch {
		case set.Snapshots == on:
			return errSnapshots(map[bool]string{true: "Snapshots are already enabled", false: "Snapshots are not enabled"}[on])
		case on:
			snapshotsOn(set)
			return nil
		case info.HasForks || info.BranchLSN != 0:
			return errSnapshots("A bucket that is a fork, or that has forks, must keep its snapshots")
		case set.Lock != nil:
			return errSnapshots("Versioning cannot be suspended while the bucket has an object lock")
		}
		set.Snapshots, set.Versioning = false, object.Suspended
		return nil
	}
}

// errorStatus is the status of an error code.
func errorStatus(code string) int {
	if status := codes[code].status; status != 0 {
		return status
	}
	return http.StatusBadRequest // a code of package auth that the table lacks
}
