package s3api

import (
	"strings"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

const defaultRegion = "us-east-1"

// anonymousID is how S3 calls whoever has not signed.
const anonymousID = "65a011a29cdf8ec533ec3d1ccaae921c"

// writeOwner writes an account by its canonical id.
func (r *request) writeOwner(w *xmlWriter, tag, id string) {
	if id == "" {
		id = anonymousID
	}
	w.open(tag)
	w.text("ID", id)
	if name, ok := r.srv.o.Accounts.DisplayName(id); ok {
		w.text("DisplayName", name)
	}
	w.close(tag)
}

// ownerOf returns the canonical id of the owner of what has been put into the bucket;
// own is that of the version, empty: the bucket's.
func (b *resource) ownerOf(own string) string {
	if own == "" || !b.set.ACLsEnabled() {
		return b.owner
	}
	return own
}

// checkOwner refuses the request unless a bucket has the owner that a header names, by its
// canonical id or the number of its account.
func (r *request) checkOwner(header, want string) error {
	bucket := r.bucket
	if strings.HasPrefix(header, "x-amz-source-") {
		var err error
		if bucket, _, _, err = r.copySource(); err != nil {
			return err
		}
	}
	if bucket == "" {
		return nil
	}
	b, err := r.resource(bucket)
	if err != nil {
		return nil // there is no owner; the operation says so
	}
	if want != b.owner && want != auth.AccountNumber(b.owner) {
		return errDenied
	}
	return nil
}

// leaveTenant takes a bucket that is there by its name where the request says TENANT:BUCKET, as clients
// of Ceph do: the tenant is empty, or what the owner of the bucket is shown as, up to a $.
func (r *request) leaveTenant() {
	tenant, bucket, ok := strings.Cut(r.bucket, ":")
	if !ok {
		return
	}
	b, err := r.resource(bucket)
	if err != nil {
		return // the name as it is says what is wrong
	}
	name, _ := r.srv.o.Accounts.DisplayName(b.owner)
	if shown, _, _ := strings.Cut(name, "$"); tenant == "" || tenant == shown {
		r.bucket = bucket
	}
}

// initiator returns who begins an upload of an object, as UploadInput.Initiator has it.
func (r *request) initiator(a *object.Access) (string, error) {
	b, err := r.resource(r.bucket)
	if err != nil {
		return "", err
	}
	if id := r.proof.Caller.ID; id != b.ownerOf(a.Owner) {
		return id, nil
	}
	return "", nil
}
