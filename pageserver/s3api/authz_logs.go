package s3api

import (
	"context"
	"errors"
	"strconv"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/pageserver/policy"
	"stemma/timeline"
)

// logService is who delivers records of requests, as policies call it.
const logService = "logging.s3.amazonaws.com"

// ErrLogsDenied: the owner of a bucket does not want the records of another in it.
var ErrLogsDenied = errors.New("s3api: records of requests may not be put there")

// MayDeliverLogs returns the access of records of requests that are delivered with an ACL: none where the target bucket has
// no ACLs, or keeps public ones out. It decides whether records of the requests for the bucket source, of an
// owner, may be put into a bucket under a key: that must be of the same owner, and its
// policy must not deny it to the service that delivers. Errors: ErrLogsDenied,
// timeline.ErrNoSuchBucket, and those of a read.
func MayDeliverLogs(ctx context.Context, objects *object.Service, source, owner, target, key string, acl object.ACL, now time.Time) (a object.Access, err error) {
	info, err := objects.Bucket(target, 0)
	if err != nil {
		return a, err
	}
	attrs, err := objects.Attributes(&info)
	if err != nil {
		return a, err
	}
	set, err := objects.Settings(ctx, target, 0)
	if err != nil {
		return a, err
	}
	if ownerOf(attrs) != owner {
		return a, ErrLogsDenied
	}
	if len(acl) > 0 && set.ACLsEnabled() && checkPublicACL(set, acl) == nil {
		a.ACL = append(object.ACL{{Kind: object.GranteeOwner, Permission: object.PermFullControl}}, acl...)
	}
	if set.Policy == nil {
		return a, nil
	}
	q := policy.Request{
		Principal: policy.Principal{Service: logService}, Action: "s3:PutObject", Resource: "arn:aws:s3:::" + set.Policy.Bucket + "/" + key,
		Context: &logConditions{source: source, owner: owner, now: now},
	}
	if set.Policy.Compiled().Evaluate(&q) == policy.Deny {
		return a, ErrLogsDenied
	}
	return a, nil
}

// logConditions has the values of condition keys for a delivery. It implements policy.Context.
type logConditions struct {
	source, owner string
	now           time.Time
}

// Values implements policy.Context.
func (c *logConditions) Values(key string) []string {
	switch key {
	case "aws:sourcearn":
		return []string{"arn:aws:s3:::" + c.source}
	case "aws:sourceaccount":
		return []string{auth.AccountNumber(c.owner), c.owner}
	case "aws:currenttime":
		return []string{c.now.UTC().Format(time.RFC3339)}
	case "aws:epochtime":
		return []string{strconv.FormatInt(c.now.Unix(), 10)}
	case "aws:principalisawsservice", "aws:securetransport":
		return []string{"true"}
	case "aws:principalservicename":
		return []string{logService}
	}
	return nil
}

// logTarget returns the target of logs, and refuses one that another owns than the bucket of the request.
func (r *request) logTarget(target string) (*resource, error) {
	b, err := r.resource(r.bucket)
	if err != nil {
		return nil, err
	}
	to, err := r.resource(target)
	switch {
	case errors.Is(err, timeline.ErrNoSuchBucket):
		return nil, &apiError{code: "InvalidTargetBucketForLogging"}
	case err != nil:
		return nil, err
	case to.owner != b.owner:
		return nil, &apiError{code: "InvalidTargetBucketForLogging", message: "The owner for the bucket to be logged and the target bucket must be the same."}
	}
	return to, nil
}
