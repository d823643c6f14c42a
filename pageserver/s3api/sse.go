package s3api

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// Headers of server-side encryption.
const (
	ssePrefix     = "x-amz-server-side-encryption"
	sseKMSKeyID   = ssePrefix + "-aws-kms-key-id"
	sseContext    = ssePrefix + "-context"
	sseBucketKey  = ssePrefix + "-bucket-key-enabled"
	sseCustomer   = ssePrefix + "-customer-"
	sseCopySource = "x-amz-copy-source-server-side-encryption-customer-"
)

// sseUse says which of the headers an operation takes.
type sseUse byte

const (
	sseMakes  sseUse = 1 << iota // an object or upload: all that say how to encrypt
	sseReads                     // a customer's key
	sseParts                     // a customer's key; clients also repeat what they said of the upload, which decides
	sseCopies                    // a customer's key of the source
)

var sseUses = map[string]sseUse{
	"PutObject": sseMakes, "PostObject": sseMakes, "CopyObject": sseMakes | sseCopies, "CreateMultipartUpload": sseMakes,
	"GetObject": sseReads, "HeadObject": sseReads, "GetObjectAttributes": sseReads, "ListParts": sseReads,
	"UploadPart": sseParts, "UploadPartCopy": sseParts | sseCopies, "CompleteMultipartUpload": sseParts,
}

// checkSSEHeader refuses a header of encryption that the operation does not take.
// Error: InvalidArgument.
func (r *request) checkSSEHeader(name string) error {
	use := sseUses[r.op.name]
	ok := false
	switch {
	case strings.HasPrefix(name, sseCopySource):
		ok = use&sseCopies != 0
	case strings.HasPrefix(name, sseCustomer):
		ok = use&(sseMakes|sseReads|sseParts) != 0
	default:
		ok = use&(sseMakes|sseParts) != 0
	}
	if !ok {
		return invalidArgument(clip(name), "", clip(name)+" header is not supported for this operation.")
	}
	if r.presigned && (name == sseCustomer+"key" || name == sseCopySource+"key") && len(r.header().Peek(name)) == 0 {
		return invalidArgument(name, "", "A key must be in a header that is signed, and not in the URL, which is logged.")
	}
	return nil
}

// sse returns how the request wants to have encrypted what it makes.
func (r *request) sse() (object.SSE, *object.CustomerKey, error) {
	if !r.speaksOfSSE() {
		return object.SSE{}, nil, nil
	}
	return parseSSE(r.amz, r.srv.o.RequireTLSForSSEC && !r.secure())
}

// parseSSE reads the headers of encryption, or the form fields named like them.
// Errors: InvalidArgument, InvalidEncryptionAlgorithmError, InvalidRequest.
func parseSSE(get func(string) string, insecure bool) (object.SSE, *object.CustomerKey, error) {
	fail := func(name, message string) (object.SSE, *object.CustomerKey, error) {
		return object.SSE{}, nil, invalidArgument(name, get(name), message)
	}
	key, err := parseCustomerKey(get, sseCustomer, insecure)
	if err != nil {
		return object.SSE{}, nil, err
	}
	var want object.SSE
	switch method := get(ssePrefix); {
	case method != "" && key != nil:
		return fail(ssePrefix, "Server Side Encryption with Customer provided key is incompatible with the encryption method specified")
	case key != nil:
		want.Kind = object.SSEC
	case method == "AES256":
		want.Kind = object.SSES3
	case method == "aws:kms":
		want.Kind = object.SSEKMS
	case method == "aws:kms:dsse":
		return want, nil, notImplemented("Encryption in two layers, aws:kms:dsse,")
	case method != "":
		return fail(ssePrefix, "The encryption method specified is not supported")
	}
	want.KeyID, want.Context = get(sseKMSKeyID), get(sseContext)
	if want.Kind != object.SSEKMS {
		for _, name := range []string{sseKMSKeyID, sseContext} {
			if get(name) != "" {
				return fail(name, "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms")
			}
		}
	}
	if !validKMSContext(want.Context) {
		return fail(sseContext, "The encryption context must be base64 of a JSON object whose values are strings")
	}
	switch v := get(sseBucketKey); strings.ToLower(v) {
	case "true":
		want.BucketKey = true
		if want.Kind == object.SSES3 || want.Kind == object.SSEC {
			return fail(sseBucketKey, "A bucket key goes with aws:kms only")
		}
	case "", "false":
	default:
		return fail(sseBucketKey, "The value must be true or false")
	}
	return want, key, nil
}

func validKMSContext(s string) bool {
	if s == "" {
		return true
	}
	p, err := base64.StdEncoding.DecodeString(s)
	var pairs map[string]string
	return len(s) <= object.MaxKMSContextBytes && err == nil && json.Unmarshal(p, &pairs) == nil && pairs != nil
}

// customerKey returns the customer's key that the headers with a prefix give; nil if
// there is none.
func (r *request) customerKey(prefix string) (*object.CustomerKey, error) {
	if !r.speaksOfSSE() {
		return nil, nil
	}
	return parseCustomerKey(r.amz, prefix, r.srv.o.RequireTLSForSSEC && !r.secure())
}

func parseCustomerKey(get func(string) string, prefix string, insecure bool) (*object.CustomerKey, error) {
	algorithm, key, sum := get(prefix+"algorithm"), get(prefix+"key"), get(prefix+"key-md5")
	fail := func(name, message string) (*object.CustomerKey, error) {
		return nil, invalidArgument(prefix+name, "", message)
	}
	const requests = "Requests specifying Server Side Encryption with Customer provided keys must "
	switch {
	case algorithm == "" && key == "" && sum == "":
		return nil, nil
	case insecure:
		return nil, &apiError{code: "InvalidRequest", message: requests + "be made over a secure connection."}
	case algorithm == "":
		return fail("algorithm", requests+"provide a valid encryption algorithm.")
	case algorithm != "AES256":
		return nil, &apiError{code: "InvalidEncryptionAlgorithmError"}
	case key == "":
		return fail("key", requests+"provide an appropriate secret key.")
	case sum == "":
		return fail("key-md5", requests+"provide the client calculated MD5 of the secret key.")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(key)
	if err != nil || len(raw) != len(object.CustomerKey{}) {
		return fail("key", "The secret key was invalid for the specified algorithm.")
	}
	want, err := base64.StdEncoding.Strict().DecodeString(sum)
	have := md5.Sum(raw)
	if err != nil || subtle.ConstantTimeCompare(want, have[:]) != 1 {
		return fail("key-md5", "The calculated MD5 hash of the key did not match the hash that was provided.")
	}
	return (*object.CustomerKey)(raw), nil
}

// setSSE says how what is answered about is encrypted. made says that the request made it.
func (r *request) setSSE(e object.SSE, key *object.CustomerKey, made bool) {
	switch e.Kind {
	case object.NoSSE:
		return
	case object.SSEC:
		r.set(sseCustomer+"algorithm", "AES256")
		if key != nil {
			sum := md5.Sum(key[:])
			r.set(sseCustomer+"key-MD5", base64.StdEncoding.EncodeToString(sum[:]))
		}
		return
	}
	r.set(ssePrefix, e.Kind.String())
	if e.Kind != object.SSEKMS {
		return
	}
	r.set(sseKMSKeyID, e.KeyID)
	if e.BucketKey {
		r.set(sseBucketKey, "true")
	}
	if made && e.Context != "" {
		r.set(sseContext, e.Context)
	}
}

// hasSSEPrefix reports whether a header is one of encryption.
func hasSSEPrefix(name string) bool {
	return strings.HasPrefix(name, ssePrefix) || strings.HasPrefix(name, "x-amz-copy-source-server-side-encryption")
}

// speaksOfSSE reports whether a header is one of encryption.
func (r *request) speaksOfSSE() bool {
	return slices.ContainsFunc(r.amzFields, func(f auth.Field) bool { return hasSSEPrefix(f.Name) })
}

// secure reports whether the connection is encrypted.
func (r *request) secure() bool {
	c, ok := r.ctx.Conn().(*conn)
	return ok && c.secure || r.ctx.IsTLS()
}
