package s3api

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/pageserver/policy"
	"stemma/wal"
)

// ErrDenied is the answer of a Judge to what the caller may not do.
var ErrDenied = errors.New("s3api: access denied")

// Judge decides what the caller of a request by another door may do, by the rules of this one. It belongs
// to the goroutine of the request.
type Judge struct{ r *request }

// Judge returns who decides about a request that was verified. Answers get headers that belong to a decision.
func (s *Server) Judge(ctx *fasthttp.RequestCtx, target auth.Target, proof *auth.Proof) *Judge {
	return &Judge{&request{srv: s, ctx: ctx, start: time.Now(), target: target, proof: proof, op: judgedOperation}}
}

// judgedOperation stands for operations of other doors.
var judgedOperation = &operation{name: "Native"}

// Encryption returns what the headers of the request say: how to encrypt what it makes, a customer's key, and that of the source of a
// copy. From then on decisions know of it. An error says what is wrong with them.
func (j *Judge) Encryption() (want object.SSE, key, source *object.CustomerKey, err error) {
	r := j.r
	r.amzFields = r.fewFields[:0]
	for name, value := range r.header().All() {
		if lower := strings.ToLower(string(name)); hasSSEPrefix(lower) {
			r.amzFields = append(r.amzFields, auth.Field{Name: lower, Value: string(value)})
		}
	}
	if want, key, err = r.sse(); err == nil {
		source, err = r.customerKey(sseCopySource)
	}
	var worded *apiError
	if errors.As(err, &worded) {
		err = errors.New(worded.text())
	}
	return want, key, source, err
}

// Base returns the context of what the request does: commits with it are those of the caller.
func (j *Judge) Base(ctx context.Context) (context.Context, error) { return j.r.asCaller(ctx) }

// May decides about an action that is done to a bucket. Errors: timeline.ErrNoSuchBucket, ErrDenied.
func (j *Judge) May(action, bucket string) error {
	b, err := j.r.resource(bucket)
	if err != nil {
		return err
	}
	if !j.r.may(&need{action: action, bucket: b}) {
		return ErrDenied
	}
	return nil
}

// MayKey decides about an action that is done to a key, whatever is there, which ACLs of the bucket let with the
// permission acl, unless that is zero.
func (j *Judge) MayKey(action, bucket, key string, acl object.Permission) error {
	b, err := j.r.resource(bucket)
	if err != nil {
		return err
	}
	if !j.r.may(&need{action: action, bucket: b, key: key, acl: acl}) {
		return ErrDenied
	}
	return nil
}

// MayComeAlong decides about what comes with a new version, such as its tags: it may unless it is denied.
func (j *Judge) MayComeAlong(action, bucket, key string, tags []object.Field) error {
	b, err := j.r.resource(bucket)
	if err == nil && !j.r.proof.Caller.Root {
		err = j.r.notDenied(&need{action: action, bucket: b, key: key, tags: tags})
	}
	if err == errDenied {
		err = ErrDenied
	}
	return err
}

// MayRead decides about the version of a key that is there at an LSN, zero being now, and about its tags if they
// are taken, too. Whether there is one only who may list is told. Errors besides: object.ErrNoSuchKey and its kin.
func (j *Judge) MayRead(ctx context.Context, bucket, key string, at wal.LSN, tags bool) error {
	if j.r.proof.Caller.Root {
		return nil
	}
	past := ""
	if at != 0 { // what ACLs granted once need not be granted now
		past = at.String()
	}
	was := j.r.past
	j.r.past = past
	defer func() { j.r.past = was }()
	allow, err := j.r.allowCopy(bucket, key, "", at != 0, tags)
	if err != nil {
		return err
	}
	_, err = j.r.srv.objects.Head(ctx, bucket, key, &object.GetInput{At: at, Clear: true, Allow: allow})
	j.r.told = false // each key is asked about for itself
	if err = j.r.hideMissing(err, bucket, key); err == errDenied {
		err = ErrDenied
	}
	return err
}

// MayList decides about a list of the keys that begin with a prefix, as they are or were.
func (j *Judge) MayList(bucket, prefix string, past bool) error {
	b, err := j.r.resource(bucket)
	if err != nil {
		return err
	}
	n := need{action: "s3:ListBucket", bucket: b, acl: object.PermRead, prefix: &prefix}
	if past {
		n.action, n.acl = "s3:ListBucketVersions", 0
	}
	if !j.r.may(&n) {
		return ErrDenied
	}
	return nil
}

// MayMake decides about a bucket that is not there yet.
func (j *Judge) MayMake(bucket string) error {
	if !j.r.mayByIdentity("s3:CreateBucket", "arn:aws:s3:::"+bucket) {
		return ErrDenied
	}
	return nil
}

// MayOwn decides, by what is attached to the caller alone, about an action on what its account has.
func (j *Judge) MayOwn(action, arn string) error {
	if !j.r.mayByIdentity(action, arn) {
		return ErrDenied
	}
	return nil
}

// Administers reports whether the caller may do what is the operator's: the root, and whom a policy that reaches
// everything lets do everything. Keys that are held to buckets, and sessions, do not.
func (j *Judge) Administers() bool {
	c := j.r.proof.Caller
	if c.Root {
		return true
	}
	if c.Scope != nil || c.Session != "" || c.Anonymous() {
		return false
	}
	q := &policy.Request{Principal: c.Principal, Action: "stemma:Administer", Resource: "arn:aws:s3:::*", Context: &conditions{r: j.r, need: &need{}}}
	decision, _ := byIdentity(c, q, "") // of no account: only what reaches all counts
	return decision == policy.Allow
}

// Sees reports whether a bucket is shown to the caller by lists of buckets.
func (j *Judge) Sees(bucket string) bool {
	b, err := j.r.resource(bucket)
	return err == nil && j.r.maySee(b)
}

// MayListBuckets decides about lists of buckets, which show what the caller sees.
func (j *Judge) MayListBuckets() error {
	if j.r.mayListBuckets() != nil {
		return ErrDenied
	}
	return nil
}
