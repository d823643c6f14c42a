package s3api

import (
	"context"
	"errors"
	"strings"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/pageserver/policy"
	"stemma/timeline"
)

// errDenied is the answer to whoever may not do what was asked for.
var errDenied = &apiError{code: "AccessDenied"}

// resource is a bucket as authorization sees it.
type resource struct {
	info  timeline.Info
	owner string // canonical id
	set   *object.Settings
}

// resource returns the bucket of a name. Errors: timeline.ErrNoSuchBucket.
func (r *request) resource(bucket string) (*resource, error) {
	if r.known != nil && r.known.info.Name == bucket {
		return r.known, nil
	}
	info, err := r.srv.objects.Bucket(bucket, 0)
	if err != nil {
		return nil, err
	}
	attrs, err := r.srv.objects.Attributes(&info)
	if err != nil {
		return nil, err
	}
	set, err := r.srv.objects.Settings(r.srv.base, bucket, 0)
	if err != nil {
		return nil, err
	}
	res := &resource{info: info, owner: ownerOf(attrs), set: set}
	if bucket == r.bucket {
		r.known = res
	}
	return res, nil
}

// decidedFor returns the bucket that it was decided about; zero of the root, who may
// write to any.
func (r *request) decidedFor() timeline.BucketID {
	if r.known == nil {
		return 0
	}
	return r.known.info.Bucket
}

// ownerOf returns the canonical id of the owner that attributes name.
func ownerOf(a object.Attributes) string {
	if a.Owner == "" {
		return auth.RootID
	}
	return a.Owner
}

// need is one thing that a caller must be allowed to do.
type need struct {
	action string
	bucket *resource
	key    string // empty: to the bucket
	// acl is the permission that lets it, if ACLs can; of the version with entry, else of the bucket.
	acl object.Permission
	// entry is the version that it is done to, where whose that is decides.
	entry *object.Entry
	// tags are those that the request brings, unless a header has them.
	tags []object.Field
	// prefix is what s3:prefix stands for when no listing was asked for.
	prefix *string
	// version is the id that it is done to, unless a parameter has it.
	version string
}

// owner returns the canonical id of whose it is.
func (n *need) owner() string {
	if n.entry != nil {
		return n.bucket.ownerOf(n.entry.Owner)
	}
	return n.bucket.owner
}

func (n *need) resourceARN(bucket string) string {
	if n.key == "" {
		return "arn:aws:s3:::" + bucket
	}
	return "arn:aws:s3:::" + bucket + "/" + n.key
}

// may reports whether the caller may do n. docs/identity.md has the rules in words.
func (r *request) may(n *need) bool {
	c := r.proof.Caller
	if c.Root {
		return true
	}
	if !inScope(c.Scope, uint64(n.bucket.info.Bucket), n.action) {
		return false
	}
	if n.bucket.set.RequesterPays() && c.ID != n.bucket.owner {
		if c.Anonymous() || r.amz("x-amz-request-payer") != "requester" {
			return false
		}
		r.set("x-amz-request-charged", "requester")
	}
	q := &policy.Request{Principal: c.Principal, Action: n.action, Resource: n.resourceARN(n.bucket.info.Name), Context: &conditions{r: r, need: n}}
	owner := n.owner()
	mine, allowed := byIdentity(c, q, owner)
	if mine == policy.Deny {
		return false
	}
	if mine == policy.Allow && c.ID == owner && !c.Principal.Delegated && n.revoked() {
		mine = policy.None // who has the account is one like others to the ACL
	}
	// The policy speaks of the bucket by the name that it had.
	doc := n.bucket.set.Policy
	granted := policy.None
	if compiled := doc.Compiled(); compiled != nil {
		q.Resource = n.resourceARN(doc.Bucket)
		granted = compiled.Evaluate(q)
		block := n.bucket.set.PublicAccessBlocked()
		switch {
		case granted == policy.Deny && !(c.Owner && c.ID == n.bucket.owner && doc.BindsOwnerOf != uint64(n.bucket.info.Bucket) && policyActions[n.action]):
			return false
		case block.RestrictPublicBuckets && compiled.Public() && c.ID != n.bucket.owner,
			owner != n.bucket.owner: // it is not the bucket owner's to give
			granted = policy.None
		}
	}
	if mine == policy.Allow || granted == policy.Allow && c.ID == n.bucket.owner {
		return true
	}
	if !allowed || granted == policy.Allow {
		return allowed
	}
	r.byACL = r.mayByACL(n, owner)
	return r.byACL
}

// revoked reports whether the ACL of the bucket takes from its owner what ACLs can give:
// one that was put and does not grant it.
func (n *need) revoked() bool {
	set := n.bucket.set
	if n.entry != nil || set.ACL == nil || !set.ACLsEnabled() || n.acl != object.PermRead && n.acl != object.PermWrite {
		return false
	}
	return !set.ACL.Grants(object.ACLCaller{ID: n.bucket.owner, Owner: true}, n.acl)
}

// policyActions are what the owner of a bucket may do whatever the policy denies, so that
// nobody is locked out by mistake.
var policyActions = makeSet("s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy")

// byIdentity evaluates what is attached to the caller: what that decides about a
// resource of an owner by itself, and whether it lets the caller take what others grant.
func byIdentity(c *auth.Caller, q *policy.Request, owner string) (decision policy.Decision, allowed bool) {
	if c.Bound != nil && c.Bound.Evaluate(q) != policy.Allow {
		return policy.Deny, false
	}
	if c.Anonymous() {
		return policy.None, true
	}
	if c.Owner {
		allowed = true
		if c.ID == owner {
			decision = policy.Allow
		}
	}
	for i := range c.Grants {
		g := &c.Grants[i]
		switch g.Policy.Evaluate(q) {
		case policy.Deny:
			return policy.Deny, false
		case policy.Allow:
			allowed = true
			if owner == c.ID || g.Reach == auth.ReachAll || g.Reach == auth.ReachRoot && owner == auth.RootID {
				decision = policy.Allow
			}
		}
	}
	return decision, allowed
}

// inScope reports whether a key that is held to a scope may do the action in a bucket;
// bucket zero is none of those that there are.
func inScope(scope []auth.BucketRole, bucket uint64, action string) bool {
	if scope == nil {
		return true
	}
	for _, s := range scope {
		if s.Bucket == 0 || s.Bucket == bucket && bucket != 0 {
			return !s.ReadOnly || readsOnly(action)
		}
	}
	return false
}

// readsOnly reports whether an action changes nothing.
func readsOnly(action string) bool {
	_, verb, _ := strings.Cut(action, ":")
	for _, p := range []string{"Get", "List", "Head", "Diff", "Watch"} {
		if strings.HasPrefix(verb, p) {
			return true
		}
	}
	return false
}

// mayByACL reports whether the ACL of the version or the bucket grants n.
func (r *request) mayByACL(n *need, owner string) bool {
	if n.acl == 0 || !n.bucket.set.ACLsEnabled() {
		return false
	}
	c := r.proof.Caller
	who := object.ACLCaller{ID: c.ID, Owner: c.ID != "" && c.ID == owner, IgnorePublic: n.bucket.set.PublicAccessBlocked().IgnorePublicACLs}
	acl, t := n.bucket.set.ACL, n.bucket.set.OfTigris()
	switch {
	case n.entry == nil:
		who.IgnorePublic = who.IgnorePublic || t.HideListing && n.acl == object.PermRead
	case t.Public && n.action == "s3:GetObject" && n.acl == object.PermRead && acl.Grants(object.ACLCaller{IgnorePublic: who.IgnorePublic}, object.PermRead):
		return true
	case !n.bucket.set.ObjectACLsEnabled():
		acl = nil
	default:
		acl = n.entry.ACL
	}
	if who.Owner && (n.acl == object.PermReadACP || n.acl == object.PermWriteACP) {
		return true // so that nobody is locked out by mistake
	}
	return acl.Grants(who, n.acl)
}

// mayList reports whether the caller may know which keys a bucket has, or had at the
// point in time that the request names, at least of this key.
func (r *request) mayList(b *resource, key string) bool {
	n := need{action: "s3:ListBucket", bucket: b, acl: object.PermRead, prefix: &key}
	if r.atPoint() {
		n.action, n.acl = "s3:ListBucketVersions", 0
	}
	return r.may(&n)
}

// atPoint reports whether the request reads, or copies, as of a point in time. ACLs
// grant nothing there: what was public once need not be now.
func (r *request) atPoint() bool {
	h := r.header()
	return r.past != "" || r.sourcePast != "" || len(h.Peek("x-stemma-at")) > 0 || len(h.Peek("X-Tigris-Snapshot-Version")) > 0 || len(h.Peek("x-stemma-copy-source-at")) > 0
}

// missing reports whether err says that there is no such object, version or key.
func missing(err error) bool {
	return errors.Is(err, object.ErrNoSuchKey) || errors.Is(err, object.ErrNoSuchVersion) || errors.Is(err, object.ErrMarker)
}

// hideMissing keeps who may not list from learning by an error whether there is a key.
// The first that it is asked about counts.
func (r *request) hideMissing(err error, bucket, key string) error {
	if err == nil || r.proof == nil || r.proof.Caller.Root || r.told || !missing(err) {
		return err
	}
	r.told = true
	b, lookup := r.resource(bucket)
	if lookup != nil {
		return lookup
	}
	if !r.mayList(b, key) {
		return errDenied
	}
	return err
}

// allowSource returns what GetInput.Allow is for a version that the caller reads by
// another way than GetObject; nil lets everything pass. Errors: timeline.ErrNoSuchBucket.
func (r *request) allowSource(bucket, key, version string, past bool) (func(*object.Entry) error, error) {
	if r.proof.Caller.Root {
		return nil, nil
	}
	b, err := r.resource(bucket)
	if err != nil {
		return nil, err
	}
	return r.allow(&need{action: "s3:GetObject", bucket: b, key: key, version: version, acl: object.PermRead}, past, "s3:GetObjectVersion"), nil
}

// allow returns a function that decides n for the version that it is given. In the
// past, or by version id, another action is done.
func (r *request) allow(n *need, past bool, versionAction string) func(*object.Entry) error {
	if past {
		n.action = versionAction
	}
	if r.atPoint() {
		n.acl = 0
	}
	return func(e *object.Entry) error {
		n.entry = e
		if !r.may(n) {
			return errDenied
		}
		return nil
	}
}

// lookUp returns the version that the request names, for a decision about it.
func (r *request) lookUp(ctx context.Context) (*object.Entry, error) {
	in := &object.GetInput{Clear: true}
	var err error
	if in.Version, err = r.versionID(); err != nil {
		return nil, err
	}
	if r.op.reads {
		if in.At, err = r.at(); err != nil {
			return nil, err
		}
	}
	o, err := r.srv.objects.Head(ctx, r.bucket, r.key, in)
	if err != nil {
		return nil, err
	}
	return &o.Entry, nil
}

// authorize decides whether the operation may be tried. What it can only decide about
// a version that is read, it leaves to r.allowEntry.
func (r *request) authorize() error {
	if r.proof.Caller.Root {
		return nil
	}
	a, ok := accessOf[r.op.name]
	if !ok {
		return errDenied // an operation that nobody thought of
	}
	return a.check(r)
}
