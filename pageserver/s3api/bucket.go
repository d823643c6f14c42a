package s3api

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
)

// maxListBuckets bounds one page of buckets, asked for or not.
const maxListBuckets = 10_000

func listBuckets(ctx context.Context, r *request) error {
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
	if r.param("OnlyDeleted") == "true" {
		return r.listDeletedBuckets(prefix, after, limit)
	}
	list, err := r.bucketsOrForks()
	if err != nil {
		return err
	}
	var infos []timeline.Info
	if region := r.param("bucket-region"); region == "" || region == r.srv.o.Region {
		if infos, err = r.visibleBuckets(ctx, list, prefix, after, limit+1); err != nil {
			return err
		}
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
		return r.listBucketsJSON(ctx, infos, next)
	}
	w := newResult("ListAllMyBucketsResult")
	r.writeOwner(w, "Owner", r.proof.Caller.ID)
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

// lister returns up to limit buckets by name, those with the prefix and above after.
type lister func(prefix, after string, limit int) []timeline.Info

// bucketsOrForks returns what lists all buckets, or those that were forked from the one
// that X-Tigris-Fork names.
func (r *request) bucketsOrForks() (lister, error) {
	source := r.header().PeekAll("X-Tigris-Fork")
	if len(source) == 0 {
		return r.srv.objects.Buckets, nil
	}
	r.bucket = string(source[0]) // errors name it
	b, err := r.resource(r.bucket)
	if err != nil {
		return nil, err
	}
	if !r.maySee(b) {
		return nil, errDenied
	}
	return func(prefix, after string, limit int) []timeline.Info {
		return r.srv.objects.Store().Forks(b.info.Bucket, prefix, after, limit)
	}, nil
}

// visibleBuckets lists the buckets that are shown to the caller. Errors: those of ctx.
func (r *request) visibleBuckets(ctx context.Context, list lister, prefix, after string, limit int) ([]timeline.Info, error) {
	c := r.proof.Caller
	switch {
	case c.Root:
		return list(prefix, after, limit), nil
	case c.Anonymous():
		return nil, nil
	}
	const atOnce = 1000
	var visible []timeline.Info
	others := seesOthers(c)
	for ctx.Err() == nil {
		page := list(prefix, after, atOnce)
		for i := range page {
			after = page[i].Name
			attrs, err := r.srv.objects.Attributes(&page[i])
			if err != nil {
				return nil, err
			}
			if ownerOf(attrs) != c.ID && !others {
				continue
			}
			b, err := r.resource(after)
			if err != nil || !r.maySee(b) {
				continue // deleted meanwhile, or not for the caller's eyes
			}
			if visible = append(visible, page[i]); len(visible) == limit {
				return visible, nil
			}
		}
		if len(page) < atOnce {
			return visible, nil
		}
	}
	return nil, ctx.Err()
}

// createBucketXML is the body of CreateBucket.
type createBucketXML struct {
	XMLName            xml.Name     `xml:"CreateBucketConfiguration"`
	LocationConstraint string       `xml:"LocationConstraint"`
	Tags               *tagSetXML   `xml:"Tags"`
	Unknown            []unknownXML `xml:",any"`
}

func createBucket(ctx context.Context, r *request) error {
	if v := r.amz("x-amz-bucket-namespace"); v != "" && v != "global" {
		return notImplemented("the namespace " + clip(v) + " of buckets")
	}
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
	tags, err := r.firstTags(&doc)
	if err != nil {
		return err
	}
	info, err := r.createOrFork(ctx, location, tags)
	if errors.Is(err, timeline.ErrBucketExists) {
		return r.createAgain(err, tags)
	} else if err != nil {
		return err
	}
	if days, _ := r.softDeleteDays(); days > 0 { // firstSettings has seen it
		if err := r.keepHistory(ctx, days); err != nil {
			return err
		}
	}
	r.set("Location", "/"+r.bucket)
	r.setLSN(info.Created)
	r.setFork(&info)
	return nil
}

// firstTags returns the tags that the bucket is to have from the start. Errors:
// MalformedXML, *object.RuleError, errDenied.
func (r *request) firstTags(doc *createBucketXML) ([]object.Field, error) {
	if doc.Tags == nil {
		return nil, nil
	}
	tags, err := (&taggingXML{doc.Tags}).fields()
	if err != nil {
		return nil, err
	}
	if err := object.CheckBucketTags(tags); err != nil {
		return nil, err
	}
	if len(tags) > 0 && !r.mayByIdentity(tagResource, "arn:aws:s3:::"+r.bucket, tags...) {
		return nil, errDenied
	}
	return tags, nil
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

// createAgain answers the creation of a bucket that there is. In its first region S3 lets
// that pass and does nothing if the caller owns it, unless something else is asked for
// than is there.
func (r *request) createAgain(exists error, tags []object.Field) error {
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	if b.owner != r.proof.Caller.ID {
		return &apiError{code: "BucketAlreadyExists"}
	}
	if r.srv.o.Region != defaultRegion || len(r.header().PeekAll("X-Tigris-Fork-Source-Bucket")) > 0 {
		return exists
	}
	acl, _, err := r.newBucketACL()
	if err != nil {
		return err
	}
	if r.amz(bucketLockHeader) != "" || !acl.Equal(b.set.ACL) || len(tags) > 0 && !slices.Equal(tags, b.set.Tags) {
		return &apiError{code: "BucketAlreadyExists"}
	}
	r.set("Location", "/"+r.bucket)
	return r.checkBucket()
}

// newAttributes returns what a bucket that the caller makes has.
func (r *request) newAttributes() object.Attributes {
	if r.proof.Caller.ID == auth.RootID {
		return object.Attributes{}
	}
	return object.Attributes{Owner: r.proof.Caller.ID}
}

// createOrFork makes the bucket, empty or as a fork of the one that a header names,
// which is where that is.
func (r *request) createOrFork(ctx context.Context, location string, tags []object.Field) (timeline.Info, error) {
	at, err := r.pointInTime("x-stemma-at", "X-Tigris-Fork-Source-Bucket-Snapshot", "X-Tigris-Snapshot-Version")
	if err != nil {
		return timeline.Info{}, err
	}
	source := r.header().PeekAll("X-Tigris-Fork-Source-Bucket")
	if len(source) == 0 {
		if at != 0 {
			return timeline.Info{}, invalidArgument("X-Tigris-Fork-Source-Bucket", "", "A point in time needs the bucket to fork")
		}
		set, err := r.firstSettings(location, tags)
		if err != nil {
			return timeline.Info{}, err
		}
		return r.srv.objects.CreateBucketWith(ctx, r.bucket, set, r.newAttributes())
	}
	if locked, err := r.boolHeader(bucketLockHeader); err != nil || locked {
		return timeline.Info{}, errors.Join(err, invalidArgument(bucketLockHeader, "true", "A fork has the object lock of its source"))
	}
	if acl, ownership, err := r.newBucketACL(); err != nil || acl != nil || ownership != "" {
		return timeline.Info{}, errors.Join(err, invalidArgument("x-amz-acl", r.amz("x-amz-acl"), "A fork has the ACL and the ownership controls of its source"))
	}
	if len(tags) > 0 {
		return timeline.Info{}, invalidArgument("Tags", "", "A fork has the tags of its source")
	}
	if t, err := r.firstTigris(nil); err != nil || t.StorageClass != "" || t.SoftDeleteDays > 0 {
		return timeline.Info{}, errors.Join(err, invalidArgument("x-amz-storage-class", "", "A fork has the storage class and the soft deletion of its source"))
	}
	infos, err := r.srv.objects.ForkWith(ctx, string(source[0]), at, []string{r.bucket}, r.newAttributes())
	if errors.Is(err, timeline.ErrNoSuchBucket) {
		return timeline.Info{}, noSuchSource(string(source[0]))
	} else if err != nil {
		return timeline.Info{}, err
	}
	return infos[0], nil
}

// firstSettings returns how a new bucket is configured; nil: not at all.
func (r *request) firstSettings(location string, tags []object.Field) (*object.Settings, error) {
	on, err := r.wantsSnapshots()
	if err != nil {
		return nil, err
	}
	locked, err := r.boolHeader(bucketLockHeader)
	if err != nil {
		return nil, err
	}
	acl, ownership, err := r.newBucketACL()
	if err != nil {
		return nil, err
	}
	t, err := r.firstTigris(acl)
	if err != nil || !on && !locked && location == "" && acl == nil && ownership == "" && len(tags) == 0 && t == (object.TigrisSettings{}) {
		return nil, err
	}
	set := &object.Settings{Location: location, ACL: acl, Ownership: ownership, Tags: tags}
	if err := set.ChangeTigris(func(of *object.TigrisSettings) { *of = t }); err != nil {
		return nil, err
	}
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
	if undo == 0 { // nobody said for how long
		set, err := r.srv.objects.Settings(ctx, r.bucket, 0)
		if err != nil {
			return err
		}
		undo = time.Duration(set.OfTigris().SoftDeleteDays) * 24 * time.Hour
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
