package s3api

import (
	"context"
	"strings"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/pageserver/policy"
)

// notDenied refuses what is denied in so many words. What comes with a new version,
// such as its ACL, whoever may put the version may choose.
func (r *request) notDenied(n *need) error {
	c := r.proof.Caller
	q := &policy.Request{Principal: c.Principal, Action: n.action, Resource: n.resourceARN(n.bucket.info.Name), Context: &conditions{r: r, need: n}}
	if decision, _ := byIdentity(c, q, n.owner()); decision == policy.Deny {
		return errDenied
	}
	if doc := n.bucket.set.Policy; doc != nil {
		q.Resource = n.resourceARN(doc.Bucket)
		if doc.Compiled().Evaluate(q) == policy.Deny {
			return errDenied
		}
	}
	return nil
}

// mayCreateBucket decides about a bucket that is not there yet: only what is attached
// to the caller counts. A fork takes a right on its source, besides.
func (r *request) mayCreateBucket() error {
	if r.proof.Caller.Anonymous() {
		return errDenied
	}
	actions := []string{"s3:CreateBucket"}
	for _, f := range r.amzFields {
		switch {
		case f.Name == "x-amz-acl" || strings.HasPrefix(f.Name, "x-amz-grant-"):
			actions = append(actions, "s3:PutBucketAcl")
		case f.Name == "x-amz-object-ownership":
			actions = append(actions, "s3:PutBucketOwnershipControls")
		case f.Name == bucketLockHeader:
			actions = append(actions, "s3:PutBucketObjectLockConfiguration", "s3:PutBucketVersioning")
		}
	}
	for _, action := range actions {
		if !r.mayByIdentity(action, "arn:aws:s3:::"+r.bucket) {
			return errDenied
		}
	}
	if source := r.peek("X-Tigris-Fork-Source-Bucket"); source != "" {
		return r.mayTakeAll(source)
	}
	return nil
}

// tagResource is the right to make a bucket with tags.
const tagResource = "s3:TagResource"

// mayByIdentity decides by what is attached to the caller alone about something that
// its own account will have, or has. tags are those that the request gives it.
func (r *request) mayByIdentity(action, arn string, tags ...object.Field) bool {
	c := r.proof.Caller
	if c.Root {
		return true
	}
	if !inScope(c.Scope, 0, action) {
		return false
	}
	q := &policy.Request{Principal: c.Principal, Action: action, Resource: arn, Context: &conditions{r: r, need: &need{action: action, tags: tags}}}
	decision, _ := byIdentity(c, q, c.ID)
	return decision == policy.Allow && !c.Anonymous()
}

// mayTakeAll decides about a fork of a bucket, or a merge of it: whoever may do that
// gets all that is in it.
func (r *request) mayTakeAll(bucket string) error {
	if r.proof.Caller.Root {
		return nil
	}
	b, err := r.resource(bucket)
	if err != nil {
		return noSuchSource(bucket)
	}
	if !r.may(&need{action: "stemma:ForkBucket", bucket: b}) {
		return errDenied
	}
	return nil
}

// mayListBuckets decides about ListBuckets, which shows the caller what it may see, unless
// that is denied in so many words.
func (r *request) mayListBuckets() error {
	c := r.proof.Caller
	q := &policy.Request{Principal: c.Principal, Action: "s3:ListAllMyBuckets", Resource: "arn:aws:s3:::*", Context: &conditions{r: r, need: &need{}}}
	if decision, _ := byIdentity(c, q, c.ID); decision == policy.Deny {
		return errDenied
	}
	return nil
}

// maySee reports whether a bucket is shown to the caller by ListBuckets: its own, those
// that it may list by its policies, and of a scoped key those of the scope.
func (r *request) maySee(b *resource) bool {
	c := r.proof.Caller
	if c.Root {
		return true
	}
	if c.Anonymous() || !inScope(c.Scope, uint64(b.info.Bucket), "s3:ListBucket") {
		return false
	}
	if b.owner == c.ID && c.Scope == nil {
		return true
	}
	q := &policy.Request{Principal: c.Principal, Action: "s3:ListBucket", Resource: "arn:aws:s3:::" + b.info.Name, Context: &conditions{r: r, need: &need{bucket: b}}}
	decision, _ := byIdentity(c, q, b.owner)
	return decision == policy.Allow
}

// seesOthers reports whether the caller can see any bucket that its account does not own.
func seesOthers(c *auth.Caller) bool {
	if c.Root {
		return true
	}
	for i := range c.Grants {
		if c.Grants[i].Reach != auth.ReachAccount {
			return true
		}
	}
	return false
}

// mayGetAttributes decides about GetObjectAttributes, which tells what GetObject tells.
func (r *request) mayGetAttributes() error {
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	past := r.inPast()
	get := r.allow(&need{action: "s3:GetObject", bucket: b, key: r.key, acl: object.PermRead}, past, "s3:GetObjectVersion")
	attributes := r.allow(&need{action: "s3:GetObjectAttributes", bucket: b, key: r.key, acl: object.PermRead}, past, "s3:GetObjectVersionAttributes")
	r.allowEntry = func(e *object.Entry) error {
		if err := get(e); err != nil {
			return err
		}
		return attributes(e)
	}
	return nil
}

// mayReadSome lets in whom the handler then asks about for each key.
func (r *request) mayReadSome() error {
	_, err := r.resource(r.bucket)
	return err
}

// mayDelete decides about DeleteObject.
func (r *request) mayDelete() error {
	version, _ := r.target.Get("versionId")
	bypass, err := r.bypass()
	if err != nil {
		return err
	}
	return r.mayDeleteKey(r.key, version, bypass)
}

// mayDeleteKey decides about one key of a deletion; version is empty for what is current.
func (r *request) mayDeleteKey(key, version string, bypass bool) error {
	if r.proof.Caller.Root {
		return nil
	}
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	n := need{action: "s3:DeleteObject", bucket: b, key: key, acl: object.PermWrite}
	if n.version = version; version != "" {
		n.action, n.acl = "s3:DeleteObjectVersion", 0 // what may be overwritten, not what may be lost
	}
	if !r.may(&n) {
		return errDenied
	}
	if bypass {
		n.action, n.acl = "s3:BypassGovernanceRetention", 0
		if !r.may(&n) {
			return errDenied
		}
	}
	return nil
}

// mayTag decides about the tags that an object is to have.
func (r *request) mayTag(tags []object.Field) error {
	if r.proof.Caller.Root {
		return nil
	}
	return looked{"s3:PutObjectTagging", "s3:PutObjectVersionTagging", 0, false}.decide(r, tags)
}

// mayRename decides about the source of a rename, which is read and taken away.
func (r *request) mayRename(ctx context.Context, source string) error {
	if r.proof.Caller.Root {
		return nil
	}
	allow, err := r.allowSource(r.bucket, source, "", false)
	if err != nil {
		return err
	}
	_, err = r.srv.objects.Head(ctx, r.bucket, source, &object.GetInput{Clear: true, Allow: allow})
	if err = r.hideMissing(err, r.bucket, source); err != nil && !missing(err) { // it may have been renamed before
		return err
	}
	return r.mayDeleteKey(source, "", false)
}

// allowCopy is allowSource for CopyObject; tags says that those of the source are copied, too.
func (r *request) allowCopy(bucket, key, version string, past, tags bool) (func(*object.Entry) error, error) {
	get, err := r.allowSource(bucket, key, version, past)
	if err != nil || get == nil || !tags {
		return get, err
	}
	b, err := r.resource(bucket)
	if err != nil {
		return nil, err
	}
	tagging := r.allow(&need{action: "s3:GetObjectTagging", bucket: b, key: key, version: version}, past, "s3:GetObjectVersionTagging")
	return func(e *object.Entry) error {
		if err := get(e); err != nil || len(e.Tags) == 0 {
			return err
		}
		ofBucket := *e
		ofBucket.Owner = "" // tags are the bucket owner's
		return tagging(&ofBucket)
	}, nil
}
