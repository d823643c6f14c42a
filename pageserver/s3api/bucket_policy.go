package s3api

import (
	"context"
	"errors"

	"stemma/pageserver/object"
	"stemma/pageserver/policy"
)

func getBucketPolicy(ctx context.Context, r *request) error {
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	if set.Policy == nil {
		return &apiError{code: "NoSuchBucketPolicy"}
	}
	r.ctx.Response.Header.SetContentType("application/json")
	r.ctx.Response.SetBodyString(set.Policy.Document)
	return nil
}

func putBucketPolicy(ctx context.Context, r *request) error {
	p, err := r.document(policy.MaxBytes, false)
	if err != nil {
		return err
	}
	if len(p) == 0 {
		return &apiError{code: "MissingRequestBodyError"}
	}
	doc, err := object.NewBucketPolicy(string(p), r.bucket)
	if err != nil {
		return err
	}
	switch binds, err := r.boolHeader("x-amz-confirm-remove-self-bucket-access"); {
	case err != nil:
		return err
	case binds:
		b, err := r.resource(r.bucket)
		if err != nil {
			return err
		}
		doc.BindsOwnerOf = uint64(b.info.Bucket)
	}
	lsn, err := r.srv.objects.UpdateSettings(ctx, r.bucket, func(set *object.Settings) error {
		if set.PublicAccessBlocked().BlockPublicPolicy && doc.Compiled().Public() {
			return errDenied
		}
		set.Policy = doc
		return nil
	})
	if err != nil {
		return err
	}
	r.setLSN(lsn)
	r.noContent()
	return nil
}

func deleteBucketPolicy(ctx context.Context, r *request) error {
	return r.deleteSettings(ctx, func(set *object.Settings) { set.Policy = nil })
}

// policyStatusXML is what GetBucketPolicyStatus answers.
type policyStatusXML struct {
	IsPublic bool `xml:"IsPublic"`
}

// getBucketPolicyStatus says whether policy or ACL make the bucket public. A bucket
// without a policy is answered, too.
func getBucketPolicyStatus(ctx context.Context, r *request) error {
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	block := set.PublicAccessBlocked()
	public := set.ACLsEnabled() && !block.IgnorePublicACLs && set.ACL.Public()
	if p := set.Policy.Compiled(); p != nil && p.Public() && !block.RestrictPublicBuckets {
		public = true
	}
	r.sendConfig("PolicyStatus", &policyStatusXML{public})
	return nil
}

// publicAccessXML is the document of a public access block.
type publicAccessXML struct {
	BlockPublicAcls       *bool `xml:"BlockPublicAcls"`
	IgnorePublicAcls      *bool `xml:"IgnorePublicAcls"`
	BlockPublicPolicy     *bool `xml:"BlockPublicPolicy"`
	RestrictPublicBuckets *bool `xml:"RestrictPublicBuckets"`
}

const publicAccessRoot = "PublicAccessBlockConfiguration"

func getPublicAccessBlock(ctx context.Context, r *request) error {
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	b := set.PublicAccess
	if b == nil {
		return &apiError{code: "NoSuchPublicAccessBlockConfiguration"}
	}
	r.sendConfig(publicAccessRoot, &publicAccessXML{&b.BlockPublicACLs, &b.IgnorePublicACLs, &b.BlockPublicPolicy, &b.RestrictPublicBuckets})
	return nil
}

func putPublicAccessBlock(ctx context.Context, r *request) error {
	var doc publicAccessXML
	if err := r.readConfig(publicAccessRoot, &doc); err != nil {
		return err
	}
	on := func(b *bool) bool { return b != nil && *b }
	b := &object.PublicAccessBlock{
		BlockPublicACLs: on(doc.BlockPublicAcls), IgnorePublicACLs: on(doc.IgnorePublicAcls),
		BlockPublicPolicy: on(doc.BlockPublicPolicy), RestrictPublicBuckets: on(doc.RestrictPublicBuckets),
	}
	return r.updateSettings(ctx, func() error { return nil }, func(set *object.Settings) { set.PublicAccess = b })
}

func deletePublicAccessBlock(ctx context.Context, r *request) error {
	return r.deleteSettings(ctx, func(set *object.Settings) { set.PublicAccess = nil })
}

// ownershipXML is the document of ownership controls.
type ownershipXML struct {
	Rules []struct {
		ObjectOwnership string `xml:"ObjectOwnership"`
	} `xml:"Rule"`
}

const ownershipRoot = "OwnershipControls"

// parseOwnership returns the value of a name; the empty name is nothing. Error: InvalidArgument.
func parseOwnership(name string) (object.ObjectOwnership, error) {
	switch o := object.ObjectOwnership(name); o {
	case "", object.ObjectWriter, object.BucketOwnerPreferred, object.BucketOwnerEnforced:
		return o, nil
	}
	return "", invalidArgument("x-amz-object-ownership", name, "Invalid x-amz-object-ownership header: "+clip(name))
}

func getOwnershipControls(ctx context.Context, r *request) error {
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	if set.Ownership == "" {
		return &apiError{code: "OwnershipControlsNotFoundError"}
	}
	var doc ownershipXML
	doc.Rules = append(doc.Rules, struct {
		ObjectOwnership string `xml:"ObjectOwnership"`
	}{string(set.Ownership)})
	r.sendConfig(ownershipRoot, &doc)
	return nil
}

func putOwnershipControls(ctx context.Context, r *request) error {
	var doc ownershipXML
	if err := r.readConfig(ownershipRoot, &doc); err != nil {
		return err
	}
	if len(doc.Rules) != 1 {
		return &apiError{code: "MalformedXML"}
	}
	to, err := parseOwnership(doc.Rules[0].ObjectOwnership)
	if err != nil || to == "" {
		return &apiError{code: "MalformedXML"}
	}
	lsn, err := r.srv.objects.UpdateSettings(ctx, r.bucket, func(set *object.Settings) error {
		if to == object.BucketOwnerEnforced && !set.ACL.Private() {
			return &apiError{code: "InvalidBucketAclWithObjectOwnership"}
		}
		set.Ownership = to
		return nil
	})
	if err != nil {
		return err
	}
	r.setLSN(lsn)
	return nil
}

func deleteOwnershipControls(ctx context.Context, r *request) error {
	return r.deleteSettings(ctx, func(set *object.Settings) { set.Ownership = "" })
}

// accessRoutes are the subresources that say who may do what.
var accessRoutes = []route{
	{"GET", bucketLevel, "acl", "", reads("GetBucketAcl", getBucketACL, "acl")},
	{"PUT", bucketLevel, "acl", "", writes("PutBucketAcl", putBucketACL, "acl")},
	{"GET", bucketLevel, "policy", "", reads("GetBucketPolicy", getBucketPolicy, "policy")},
	{"PUT", bucketLevel, "policy", "", writes("PutBucketPolicy", putBucketPolicy, "policy")},
	{"DELETE", bucketLevel, "policy", "", writes("DeleteBucketPolicy", deleteBucketPolicy, "policy")},
	{"GET", bucketLevel, "policyStatus", "", reads("GetBucketPolicyStatus", getBucketPolicyStatus, "policyStatus")},
	{"GET", bucketLevel, "publicAccessBlock", "", reads("GetPublicAccessBlock", getPublicAccessBlock, "publicAccessBlock")},
	{"PUT", bucketLevel, "publicAccessBlock", "", writes("PutPublicAccessBlock", putPublicAccessBlock, "publicAccessBlock")},
	{"DELETE", bucketLevel, "publicAccessBlock", "", writes("DeletePublicAccessBlock", deletePublicAccessBlock, "publicAccessBlock")},
	{"GET", bucketLevel, "ownershipControls", "", reads("GetBucketOwnershipControls", getOwnershipControls, "ownershipControls")},
	{"PUT", bucketLevel, "ownershipControls", "", writes("PutBucketOwnershipControls", putOwnershipControls, "ownershipControls")},
	{"DELETE", bucketLevel, "ownershipControls", "", writes("DeleteBucketOwnershipControls", deleteOwnershipControls, "ownershipControls")},
	{"GET", objectLevel, "acl", "", reads("GetObjectAcl", getObjectACL, "acl", "versionId")},
	{"PUT", objectLevel, "acl", "", writes("PutObjectAcl", putObjectACL, "acl", "versionId")},
}

// policyError words what is wrong with a policy document as S3 does.
func policyError(err error) *apiError {
	var malformed *policy.Error
	if errors.As(err, &malformed) {
		return &apiError{code: "MalformedPolicy", message: malformed.Message}
	}
	return nil
}
