package s3api

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"strconv"
	"strings"
	"time"

	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// maxListBuckets bounds one page of buckets, asked for or not.
const maxListBuckets = 10_000

func listBuckets(_ context.Context, r *request) error {
	limit, err := r.intParam("max-buckets", maxListBuckets, 1, maxListBuckets)
	if err != nil {
		return err
	}
	after := ""
	if token := r.param("continuation-token"); token != "" {
		p, err := base64.RawURLEncoding.Strict().DecodeString(token)
		if err != nil || len(p) == 0 || len(p) > 255 {
			return object.ErrInvalidToken
		}
		after = string(p)
	}
	lsn := r.srv.objects.Store().Visible()
	prefix := r.param("prefix")
	infos, err := r.bucketsOrForks(prefix, after, limit+1)
	if err != nil {
		return err
	}
	if region := r.param("bucket-region"); region != "" && region != r.srv.o.Region {
		infos = nil
	}
	more := len(infos) > limit
	if more {
		infos = infos[:limit]
	}
	next := ""
	if more {
		next = base64.RawURLEncoding.EncodeToString([]byte(infos[limit-1].Name))
	}
	r.setLSN(lsn)
	if r.wantsJSON() {
		return r.listBucketsJSON(infos, next)
	}
	w := newResult("ListAllMyBucketsResult")
	w.owner("Owner")
	w.open("Buckets")
	for i := range infos {
		w.open("Bucket")
		w.text("Name", infos[i].Name)
		w.time("CreationDate", infos[i].Created)
		w.text("BucketRegion", r.srv.o.Region)
		w.close("Bucket")
	}
	w.close("Buckets")
	w.optional("ContinuationToken", next)
	w.optional("Prefix", prefix)
	w.close("ListAllMyBucketsResult")
	r.sendXML(w)
	return nil
}

// bucketsOrForks lists all buckets, or those that were forked from the one that
// X-Tigris-Fork names.
func (r *request) bucketsOrForks(prefix, after string, limit int) ([]timeline.Info, error) {
	source := r.header().PeekAll("X-Tigris-Fork")
	if len(source) == 0 {
		return r.srv.objects.Buckets(prefix, after, limit), nil
	}
	r.bucket = string(source[0]) // errors name it
	info, err := r.srv.objects.Bucket(r.bucket, 0)
	if err != nil {
		return nil, err
	}
	return r.srv.objects.Store().Forks(info.Bucket, prefix, after, limit), nil
}

// createBucketXML is the body of CreateBucket.
type createBucketXML struct {
	XMLName            xml.Name     `xml:"CreateBucketConfiguration"`
	LocationConstraint string       `xml:"LocationConstraint"`
	Unknown            []unknownXML `xml:",any"`
}

func createBucket(ctx context.Context, r *request) error {
	p, err := r.document(maxXMLBytes, false)
	if err != nil {
		return err
	}
	var doc createBucketXML
	if len(p) > 0 {
		if err := decodeXML(p, &doc); err != nil {
			return err
		}
		if len(doc.Unknown) > 0 {
			return notImplemented("the element " + clip(doc.Unknown[0].XMLName.Local))
		}
	}
	location, err := r.bucketLocation(doc.LocationConstraint)
	if err != nil {
		return err
	}
	info, err := r.createOrFork(ctx, location)
	if errors.Is(err, timeline.ErrBucketExists) {
		return r.createAgain(err)
	} else if err != nil {
		return err
	}
	r.set("Location", "/"+r.bucket)
	r.setLSN(info.Created)
	r.setFork(&info)
	return nil
}

// bucketLocation returns where the bucket is said to be, empty: where the server is. Any
// name will do, it is given back and changes nothing. Error: InvalidLocationConstraint.
func (r *request) bucketLocation(constraint string) (string, error) {
	bad := func(c rune) bool { return c <= ' ' || c >= 0x7f }
	if len(constraint) > 64 || strings.ContainsFunc(constraint, bad) {
		return "", &apiError{code: "InvalidLocationConstraint"}
	}
	if constraint == r.srv.o.Region {
		return "", nil
	}
	return constraint, nil
}

// createAgain answers the creation of a bucket that its owner has: in its first
// region S3 lets that pass and does nothing, unless something else is asked for
// than is there.
func (r *request) createAgain(exists error) error {
	if r.srv.o.Region != defaultRegion || len(r.header().PeekAll("X-Tigris-Fork-Source-Bucket")) > 0 {
		return exists
	}
	for _, f := range r.amzFields {
		if f.Name == "x-amz-acl" || f.Name == "x-amz-bucket-object-lock-enabled" || strings.HasPrefix(f.Name, "x-amz-grant-") {
			return &apiError{code: "BucketAlreadyExists"}
		}
	}
	r.set("Location", "/"+r.bucket)
	return r.checkBucket()
}

// createOrFork makes the bucket, empty or as a fork of the one that a header names,
// which is where that is.
func (r *request) createOrFork(ctx context.Context, location string) (timeline.Info, error) {
	at, err := r.pointInTime("x-stemma-at", "X-Tigris-Fork-Source-Bucket-Snapshot", "X-Tigris-Snapshot-Version")
	if err != nil {
		return timeline.Info{}, err
	}
	source := r.header().PeekAll("X-Tigris-Fork-Source-Bucket")
	if len(source) == 0 {
		if at != 0 {
			return timeline.Info{}, invalidArgument("X-Tigris-Fork-Source-Bucket", "", "A point in time needs the bucket to fork")
		}
		set, err := r.firstSettings(location)
		if err != nil {
			return timeline.Info{}, err
		}
		return r.srv.objects.CreateBucketWith(ctx, r.bucket, set)
	}
	if locked, err := r.boolHeader(bucketLockHeader); err != nil || locked {
		return timeline.Info{}, errors.Join(err, invalidArgument(bucketLockHeader, "true", "A fork has the object lock of its source"))
	}
	infos, err := r.srv.objects.Fork(ctx, string(source[0]), at, []string{r.bucket})
	if errors.Is(err, timeline.ErrNoSuchBucket) {
		return timeline.Info{}, noSuchSource(string(source[0]))
	} else if err != nil {
		return timeline.Info{}, err
	}
	return infos[0], nil
}

// firstSettings returns how a new bucket is configured; nil: not at all.
func (r *request) firstSettings(location string) (*object.Settings, error) {
	on, err := r.wantsSnapshots()
	if err != nil {
		return nil, err
	}
	locked, err := r.boolHeader(bucketLockHeader)
	if err != nil || !on && !locked && location == "" {
		return nil, err
	}
	set := &object.Settings{Location: location}
	if on {
		snapshotsOn(set)
	}
	if locked {
		set.Versioning, set.Lock = object.Enabled, &object.LockConfig{}
	}
	return set, nil
}

// setFork tells of what a bucket is a fork; on others the headers are absent.
func (r *request) setFork(info *timeline.Info) {
	if info.BranchLSN == 0 {
		return
	}
	if info.SourceName != "" {
		r.set("X-Tigris-Fork-Source-Bucket", info.SourceName)
	}
	r.set("X-Tigris-Fork-Source-Bucket-Snapshot", info.BranchLSN.String())
}

func headBucket(ctx context.Context, r *request) error {
	at, err := r.at()
	if err != nil {
		return err
	}
	lsn := at
	if at == 0 {
		lsn = r.srv.objects.Store().Visible()
	}
	info, err := r.srv.objects.Bucket(r.bucket, at)
	if err != nil {
		return err
	}
	r.set("x-amz-bucket-region", r.srv.o.Region)
	set, err := r.srv.objects.Settings(ctx, r.bucket, at)
	if err != nil {
		return err
	}
	r.set("X-Tigris-Enable-Snapshot", strconv.FormatBool(set.Snapshots))
	r.setFork(&info)
	if info.HasForks {
		r.set("X-Tigris-Is-Fork-Parent", "true")
	}
	r.setLSN(lsn)
	return nil
}

func deleteBucket(ctx context.Context, r *request) error {
	force := false
	for _, name := range []string{"Tigris-Force-Delete", "X-Tigris-Force-Delete"} {
		switch v := strings.ToLower(r.peek(name)); v {
		case "true":
			force = true
		case "", "false":
		default:
			return invalidArgument(name, v, name+" must be true or false")
		}
	}
	undo, err := r.undoTime()
	if err != nil {
		return err
	}
	lsn, err := r.srv.objects.DeleteBucket(ctx, r.bucket, timeline.DeleteOptions{Force: force, Undo: undo})
	if err != nil {
		return err
	}
	r.setLSN(lsn)
	r.noContent()
	return nil
}

// undoTime returns for how long the deletion of a bucket can be undone, as
// timeline.DeleteOptions has it: x-stemma-undo is a duration such as 24h.
func (r *request) undoTime() (time.Duration, error) {
	const name = "x-stemma-undo"
	values := r.header().PeekAll(name)
	if len(values) == 0 {
		return 0, nil
	}
	d, err := time.ParseDuration(string(values[0]))
	if err != nil || d < 0 || len(values) > 1 {
		return 0, invalidArgument(name, string(values[0]), name+" must be a duration such as 24h, or 0s")
	}
	if d == 0 {
		return -1, nil
	}
	return d, nil
}

func getBucketLocation(ctx context.Context, r *request) error {
	if err := r.checkBucket(); err != nil {
		return err
	}
	set, err := r.srv.objects.Settings(ctx, r.bucket, 0)
	if err != nil {
		return err
	}
	w := newResult("LocationConstraint")
	if location := cmp.Or(set.Location, r.srv.o.Region); location != defaultRegion {
		w.b = appendXMLText(w.b, location)
	}
	w.close("LocationConstraint")
	r.sendXML(w)
	return nil
}

// checkBucket refuses a bucket that does not exist, and says what it read at.
func (r *request) checkBucket() error {
	lsn := r.srv.objects.Store().Visible()
	if _, err := r.srv.objects.Bucket(r.bucket, wal.LSN(0)); err != nil {
		return err
	}
	r.setLSN(lsn)
	return nil
}
