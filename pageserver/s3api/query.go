package s3api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"

	"stemma/pageserver/auth"
	"stemma/pageserver/iam"
	"stemma/pageserver/object"
)

// queryOperation is an action of STS or IAM, which clients send to the service itself.
// Such a request is signed with the hash of its body, which most do not send, so it is
// verified when that was read.
var queryOperation = &operation{name: "QueryAPI", handle: serveQuery}

// maxQueryBytes bounds the parameters of an action: a policy, escaped, fits.
const maxQueryBytes = 96 << 10

func serveQuery(ctx context.Context, r *request) error {
	if r.srv.o.IAM == nil && !r.wantsPresigned() {
		return &apiError{code: "NotImplemented"}
	}
	answer, isJSON, err := r.query(ctx)
	h := &r.ctx.Response.Header
	if h.SetContentType("text/xml"); isJSON {
		h.SetContentType("application/json")
	}
	if err == nil {
		r.ctx.Response.SetBody(answer)
		return nil
	}
	var refusal *iam.Error
	if !errors.As(err, &refusal) {
		e := r.toAPIError(err)
		refusal = &iam.Error{Code: e.code, Message: e.text(), Status: errorStatus(e.code)}
		if e.code == "InvalidAccessKeyId" {
			refusal.Code, refusal.Message = "InvalidClientTokenId", "The security token included in the request is invalid."
		}
		if refusal.Status >= 500 {
			r.srv.log.Error("request failed", "request", r.id, "operation", r.operation(), "err", err)
		}
	}
	r.errorCode = refusal.Code
	r.ctx.SetStatusCode(refusal.Status)
	if r.wantsJSON() {
		return r.sendJSON(errorJSON{refusal.Code, refusal.Message, string(r.target.RawPath), r.id})
	}
	r.ctx.Response.SetBody(iam.ErrorDocument(refusal, r.id))
	return nil
}

// query verifies and serves the action.
func (r *request) query(ctx context.Context) (answer []byte, isJSON bool, err error) {
	p, err := r.queryBody()
	if err != nil {
		return nil, false, err
	}
	var params url.Values
	if !r.wantsPresigned() {
		if params, err = r.queryParams(p); err != nil {
			return nil, false, err
		}
	}
	r.proof, err = r.srv.o.Verifier.Verify(r.header(), &r.target)
	if errors.Is(err, auth.ErrAnonymous) {
		r.proof, err = auth.Anonymous(r.header())
	}
	if err != nil {
		return nil, false, err
	}
	sum := sha256.Sum256(p)
	if r.proof.Version != "" && (r.proof.Payload.Form != auth.Literal || r.proof.Payload.SHA256 != sum) {
		return nil, false, auth.ErrContentHash
	}
	if r.wantsPresigned() {
		answer, err = r.presign(p)
		return answer, true, err
	}
	return r.srv.o.IAM.Serve(ctx, &iam.Request{
		Params: params, Caller: r.proof.Caller, KeyID: r.proof.Key.ID, ID: r.id, JSON: r.wantsJSON(), Buckets: &bucketIDs{objects: r.srv.objects}, Conditions: &conditions{r: r, need: &need{}},
	})
}

// queryBody reads the body, and puts its hash where the signature is checked by it
// unless the client did. Errors: MissingContentLength, MaxMessageLengthExceeded, those of the connection.
func (r *request) queryBody() ([]byte, error) {
	switch n, given := contentLength(r.header()); {
	case !given || n < 0:
		return nil, &apiError{code: "MissingContentLength"}
	case n > maxQueryBytes:
		return nil, &apiError{code: "MaxMessageLengthExceeded"}
	}
	r.attachBody()
	p, err := readAll(&r.body, maxQueryBytes)
	if err != nil {
		return nil, err
	}
	if n, _ := contentLength(r.header()); int64(len(p)) != n {
		return nil, auth.ErrIncompleteBody
	}
	if r.peek("X-Amz-Content-Sha256") == "" {
		sum := sha256.Sum256(p)
		r.header().Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	}
	return p, nil
}

// queryParams returns the parameters of the body and of the query. Error: MalformedQueryString.
func (r *request) queryParams(p []byte) (url.Values, error) {
	if kind, _, _ := mime.ParseMediaType(string(r.header().ContentType())); len(p) > 0 && kind != "application/x-www-form-urlencoded" {
		return nil, &iam.Error{Code: "InvalidParameterValue", Message: "The body must be application/x-www-form-urlencoded", Status: http.StatusBadRequest}
	}
	params, err := url.ParseQuery(string(p))
	if err != nil {
		return nil, &iam.Error{Code: "MalformedQueryString", Message: "The query string contains a syntax error", Status: http.StatusBadRequest}
	}
	for _, t := range r.target.Params {
		if signingParams[t.Name] || t.Name == "X-Amz-Security-Token" {
			continue
		}
		if have := params[t.Name]; !slices.Contains(have, t.Value) {
			params[t.Name] = append(have, t.Value)
		}
	}
	return params, nil
}

// bucketIDs knows buckets by name and id. It implements iam.Buckets.
type bucketIDs struct {
	objects *object.Service
	names   map[uint64]string // of all, once one was asked for
}

// ID implements iam.Buckets.
func (b *bucketIDs) ID(name string) (uint64, bool) {
	info, err := b.objects.Bucket(name, 0)
	return uint64(info.Bucket), err == nil
}

// Name implements iam.Buckets.
func (b *bucketIDs) Name(id uint64) string {
	if b.names == nil {
		b.names = make(map[uint64]string)
		for _, info := range b.objects.Buckets("", "", 0) {
			b.names[uint64(info.Bucket)] = info.Name
		}
	}
	return b.names[id]
}
