package s3api

import (
	"context"
	"mime"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// postOperation is the upload of an object by the form of a browser.
var postOperation = &operation{name: "PostObject", handle: postObject, long: true, amz: append(lockHeaders, taggingHeader)}

// postObject stores the file of a form. What other uploads say in headers this one says in
// fields before the file; the policy in one of them says what was signed.
func postObject(ctx context.Context, r *request) error {
	contentType := string(r.header().ContentType())
	if kind, _, err := mime.ParseMediaType(contentType); kind != "multipart/form-data" {
		if err != nil && strings.HasPrefix(strings.ToLower(contentType), "multipart/form-data") {
			return errMalformedPost
		}
		return &apiError{code: "PreconditionFailed", fields: []auth.Field{
			{Name: "Condition", Value: "Bucket POST must be of the enclosure-type multipart/form-data"},
		}}
	}
	if err := r.noHeadersOfForm(); err != nil {
		return err
	}
	body, err := r.openBody()
	if err != nil {
		return err
	}
	f, err := readForm(contentType, body)
	if err != nil {
		return err
	}
	policy, err := r.takeForm(f)
	if err != nil {
		return err
	}
	if ctx, err = r.asCaller(ctx); err != nil { // the caller is who signed the form
		return err
	}
	in, err := r.postInput(ctx, f)
	if err != nil {
		return err
	}
	file := &rangeReader{r: f.file, most: object.MaxPartBytes}
	if policy != nil {
		file.least, file.most = policy.bounds()
	}
	in.Body, in.Size = file, -1
	e, err := r.srv.objects.Put(ctx, r.bucket, r.key, in)
	if err != nil {
		return err
	}
	r.set("ETag", `"`+e.ETag.String()+`"`)
	r.setChecksum(e.Checksum)
	r.setNewVersion(e)
	r.setExpiration(ctx, e)
	r.setSSE(e.SSE(), in.CustomerKey, true)
	r.setLSN(e.LSN)
	r.answerPost(f, e)
	return nil
}

// noHeadersOfForm refuses headers of what only fields can say. Error: InvalidRequest.
func (r *request) noHeadersOfForm() error {
	for i := range r.amzFields {
		switch r.amzFields[i].Name {
		case "x-amz-user-agent", "x-amz-expected-bucket-owner", "x-amz-security-token", "x-amz-decoded-content-length":
		default:
			return &apiError{code: "InvalidRequest", message: "Conflicting values provided in HTTP headers and POST form fields."}
		}
	}
	return nil
}

// takeForm finds out who sent the form and makes its fields those of the request. It
// returns the policy, nil if nobody signed one. Errors: those of the signature, of the
// policy and of authorization; InvalidArgument.
func (r *request) takeForm(f *postForm) (policy *postPolicy, err error) {
	for i := range f.fields {
		if field := &f.fields[i]; f.named && !coveredAnyway[field.Name] {
			field.Value = strings.ReplaceAll(field.Value, "${filename}", f.filename)
		}
	}
	if r.key = f.get("key"); r.key == "" {
		return nil, auth.MissingField("key")
	}
	if !utf8.ValidString(r.key) {
		return nil, &apiError{code: "InvalidURI", message: "Couldn't parse the specified URI: the key is not valid UTF-8."}
	}
	proof, err := r.srv.o.Verifier.VerifyPost(f.get)
	switch {
	case err != nil:
		return nil, err
	case proof.Version != "" && r.proof.Version != "":
		return nil, &apiError{code: "InvalidRequest", message: "Either the request or the policy of the form may be signed, not both."}
	case proof.Version != "":
		r.proof = proof
		if policy, err = parsePostPolicy(f.get("policy")); err != nil {
			return nil, err
		}
		if err := policy.check(f, r.bucket, r.start); err != nil {
			return nil, err
		}
	}
	if err := r.amzOfForm(f); err != nil {
		return nil, err
	}
	if err := r.checkHeaders(); err != nil {
		return nil, err
	}
	if r.proof.Caller.Root {
		return policy, nil
	}
	return policy, writing{}.check(r)
}

// amzOfForm makes the fields that other requests have as x-amz-* headers those of this
// one. Error: InvalidArgument for what no header could hold.
func (r *request) amzOfForm(f *postForm) error {
	r.amzFields = r.amzFields[:0]
	for _, field := range f.fields {
		switch field.Name {
		case "acl":
			field.Name = "x-amz-acl"
		case "tagging":
			text, err := headerOfTags(field.Value)
			if err != nil {
				return err
			}
			field = auth.Field{Name: taggingHeader, Value: text}
		}
		if !strings.HasPrefix(field.Name, "x-amz-") || signingFields[field.Name] {
			continue
		}
		if strings.ContainsFunc(field.Name, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == ':' }) || !validHeaderValue(field.Value) {
			return invalidArgument(clip(field.Name), "", "The field stands for a header, and no header can hold it")
		}
		if r.amz(field.Name) != "" {
			return invalidArgument(clip(field.Name), "", "Two fields say the same")
		}
		r.amzFields = append(r.amzFields, field)
	}
	return nil
}

// signingFields are the fields of a signature.
var signingFields = makeSet("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token")

// postInput reads what the fields say of the object.
func (r *request) postInput(ctx context.Context, f *postForm) (*object.PutInput, error) {
	in := &object.PutInput{Headers: object.Headers{
		ContentType: f.get("content-type"), ContentEncoding: f.get("content-encoding"), ContentDisposition: f.get("content-disposition"),
		ContentLanguage: f.get("content-language"), CacheControl: f.get("cache-control"), Expires: f.get("expires"),
		WebsiteRedirect: r.amz("x-amz-website-redirect-location"),
	}, UserMeta: r.userMeta()}
	for _, name := range []string{"content-type", "content-encoding", "content-disposition", "content-language", "cache-control", "expires"} {
		if !validHeaderValue(f.get(name)) {
			return nil, invalidArgument(name, "", "The field stands for a header, and no header can hold it")
		}
	}
	var err error
	if in.StorageClass, err = r.storageClass(); err != nil {
		return nil, err
	}
	if in.Tags, err = r.headerTags(); err != nil {
		return nil, err
	}
	if in.SSE, in.CustomerKey, err = r.sse(); err != nil {
		return nil, err
	}
	if in.Access, err = r.newAccess(); err != nil {
		return nil, err
	}
	in.Cond.Bucket = r.decidedFor()
	if in.ContentMD5, err = parseMD5(f.get("content-md5")); err != nil {
		return nil, err
	}
	if in.Checksum, err = r.postChecksum(); err != nil {
		return nil, err
	}
	in.Lock, err = r.putLock(ctx, in.ContentMD5 != nil || in.Checksum.Algorithm != object.NoChecksum)
	return in, err
}

// headerOfTags returns the document of the field tagging as the header that says the
// same, so that conditions of policies see its tags, too. Errors: MalformedXML, InvalidArgument.
func headerOfTags(document string) (string, error) {
	var doc taggingXML
	if err := strictXML([]byte(document), "Tagging", &doc); err != nil {
		return "", err
	}
	tags, err := doc.fields()
	if err != nil {
		return "", err
	}
	pairs := make([]string, len(tags))
	for i, t := range tags {
		pairs[i] = url.QueryEscape(t.Key) + "=" + url.QueryEscape(t.Value)
	}
	return strings.Join(pairs, "&"), nil
}

// postChecksum returns what the fields promise of the checksum of the file. Error: InvalidRequest.
func (r *request) postChecksum() (object.Expect, error) {
	value, err := r.checksumHeader()
	if err != nil {
		return object.Expect{}, err
	}
	if value.Composite {
		return object.Expect{}, object.ErrInvalidChecksum
	}
	want := object.Expect{Algorithm: value.Algorithm, Value: value}
	if name := r.amz("x-amz-checksum-algorithm"); name != "" {
		a, err := object.ParseAlgorithm(name)
		if err != nil {
			return want, err
		}
		if a != want.Algorithm {
			return want, &apiError{code: "InvalidRequest", message: "x-amz-checksum-algorithm specified, but no corresponding x-amz-checksum-* field was found."}
		}
	}
	return want, nil
}

// answerPost answers as the form asks for: with another page, a document, or nothing.
func (r *request) answerPost(f *postForm, e *object.Entry) {
	place := r.placeOf(r.bucket, r.key)
	r.set("Location", place)
	to := f.get("success_action_redirect")
	if to == "" {
		to = f.get("redirect")
	}
	if u, err := url.Parse(to); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && validHeaderValue(to) {
		query := "bucket=" + url.QueryEscape(r.bucket) + "&key=" + url.QueryEscape(r.key) + "&etag=" + url.QueryEscape(`"`+e.ETag.String()+`"`)
		if u.RawQuery != "" {
			query = u.RawQuery + "&" + query
		}
		u.RawQuery, u.ForceQuery = query, false
		r.set("Location", u.String())
		r.ctx.SetStatusCode(fasthttp.StatusSeeOther)
		return
	}
	switch f.get("success_action_status") {
	case "200":
	case "201":
		w := newDocument()
		w.open("PostResponse")
		w.text("Location", place)
		w.text("Bucket", r.bucket)
		w.text("Key", r.key)
		w.text("ETag", `"`+e.ETag.String()+`"`)
		w.close("PostResponse")
		r.sendXML(w)
		r.ctx.SetStatusCode(fasthttp.StatusCreated)
	default:
		r.noContent()
	}
}

// placeOf returns the URL of an object, in the style in which the request names its bucket.
func (r *request) placeOf(bucket, key string) string {
	scheme := "http://"
	if r.ctx.IsTLS() || r.secure() {
		scheme = "https://"
	}
	b := append([]byte(scheme), r.header().Host()...)
	if r.target.Bucket == "" {
		b = auth.AppendEscaped(append(b, '/'), bucket, false)
	}
	return string(auth.AppendEscaped(append(b, '/'), key, false))
}
