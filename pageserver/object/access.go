package object

import (
	"context"

	"stemma/pageserver/policy"
)

// BucketPolicy is the policy of a bucket.
type BucketPolicy struct {
	// Document is as it was put.
	Document string `json:"document"`
	// Bucket is the name that the bucket had then, by which the document speaks of it:
	// also of a fork, which has the policy of its source, and after a rename.
	Bucket string `json:"bucket"`
	// BindsOwnerOf is the id of the bucket of which it was confirmed that the policy may take the owner's
	// right to change the policy; zero: of none. It binds no owner of a fork.
	BindsOwnerOf uint64 `json:"binds_owner_of,omitempty"`

	compiled *policy.Policy
}

// Compiled returns the policy to evaluate; nil when there is none.
func (p *BucketPolicy) Compiled() *policy.Policy {
	if p == nil {
		return nil
	}
	return p.compiled
}

// compile makes Compiled work. Errors: *policy.Error.
func (p *BucketPolicy) compile() (err error) {
	p.compiled, err = policy.Parse([]byte(p.Document), policy.Resource, p.Bucket)
	return err
}

// NewBucketPolicy returns the policy of a bucket. Errors: *policy.Error.
func NewBucketPolicy(document, bucket string) (*BucketPolicy, error) {
	p := &BucketPolicy{Document: document, Bucket: bucket}
	return p, p.compile()
}

// PublicAccessBlock keeps a bucket from being public.
type PublicAccessBlock struct {
	BlockPublicACLs       bool `json:"block_acls,omitempty"`
	IgnorePublicACLs      bool `json:"ignore_acls,omitempty"`
	BlockPublicPolicy     bool `json:"block_policy,omitempty"`
	RestrictPublicBuckets bool `json:"restrict,omitempty"`
}

// ObjectOwnership is who owns what others put into a bucket. Empty is ObjectWriter
// that nobody set.
type ObjectOwnership string

// The values of S3.
const (
	ObjectWriter         ObjectOwnership = "ObjectWriter"
	BucketOwnerPreferred ObjectOwnership = "BucketOwnerPreferred"
	BucketOwnerEnforced  ObjectOwnership = "BucketOwnerEnforced"
)

// ACLsEnabled reports whether ACLs count in the bucket.
func (s *Settings) ACLsEnabled() bool { return s.Ownership != BucketOwnerEnforced }

// PublicAccessBlocked returns what keeps the bucket from being public; nothing when
// nobody set it.
func (s *Settings) PublicAccessBlocked() PublicAccessBlock {
	if s.PublicAccess == nil {
		return PublicAccessBlock{}
	}
	return *s.PublicAccess
}

// SetAccess changes whose a version is and its ACL: change gets the settings of the
// bucket and the version. id zero is the current version. It returns the
// entry as it is now, and the commit as its At. Errors: those of change, *RuleError,
// and those of a read and of a commit.
func (s *Service) SetAccess(ctx context.Context, bucket, key string, id VersionID, change func(*Settings, *Entry) (Access, error)) (*Object, error) {
	return s.changeEntry(ctx, bucket, key, id, func(set *Settings, e *Entry) error {
		a, err := change(set, e)
		if err == nil {
			err = CheckACL(a.ACL)
		}
		if err != nil {
			return err
		}
		e.Access = a
		return nil
	})
}
