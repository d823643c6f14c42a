package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

// algorithmV2 is the name of version 2 in the Authorization header.
const algorithmV2 = "AWS"

// paramsV2 are the parameters of the query that version 2 signs.
var paramsV2 = []string{
	"accelerate", "acl", "analytics", "cors", "defaultObjectAcl", "delete", "inventory", "lifecycle", "location", "logging", "metrics",
	"notification", "object-lock", "partNumber", "policy", "replication", "requestPayment", "response-cache-control",
	"response-content-disposition", "response-content-encoding", "response-content-language", "response-content-type", "response-expires",
	"restore", "select", "select-type", "storageClass", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website",
}

// verifyHeaderV2 checks "AWS key:signature".
func (v *Verifier) verifyHeaderV2(h *fasthttp.RequestHeader, t *Target, authorization string) (*Proof, error) {
	id, signature, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(authorization, algorithmV2)), ":")
	if !ok || id == "" || signature == "" {
		return nil, &Error{Code: "InvalidArgument", Message: "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature"}
	}
	text, signed := string(h.Peek(fasthttp.HeaderDate)), string(h.Peek(fasthttp.HeaderDate))
	if amz := h.PeekAll("X-Amz-Date"); len(amz) > 0 {
		text, signed = string(amz[0]), "" // it is signed as a header
	}
	at, ok := parseDateV2(text)
	if !ok {
		return nil, errNoDate
	}
	if err := v.checkSkew(at, text); err != nil {
		return nil, err
	}
	return v.checkV2(h, t, &Proof{At: at}, id, signature, signed)
}

// parseDateV2 parses a date in one of the forms of HTTP or in that of version 4,
// from 1970 on.
func parseDateV2(s string) (time.Time, bool) {
	at, ok := parseDateTime(s)
	for _, form := range []string{time.RFC1123, time.RFC1123Z, time.RFC850, time.ANSIC} {
		if ok {
			break
		}
		var err error
		at, err = time.Parse(form, s)
		ok = err == nil
	}
	return at, ok && at.Unix() >= 0
}

// verifyQueryV2 checks AWSAccessKeyId, Expires and Signature of a presigned URL.
func (v *Verifier) verifyQueryV2(h *fasthttp.RequestHeader, t *Target) (*Proof, error) {
	id, _ := t.Get("AWSAccessKeyId")
	signature, _ := t.Get("Signature")
	expires, _ := t.Get("Expires")
	if id == "" || signature == "" || expires == "" {
		return nil, &Error{Code: "AccessDenied", Message: "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters"}
	}
	seconds, err := strconv.ParseInt(expires, 10, 64)
	if err != nil {
		return nil, &Error{Code: "AccessDenied", Message: "Invalid date (should be seconds since epoch): " + clip(expires)}
	}
	now := v.now()
	if seconds <= now.Unix() {
		return nil, &Error{Code: "AccessDenied", Message: "Request has expired", Fields: []Field{
			{"Expires", time.Unix(max(seconds, 0), 0).UTC().Format(expirationFmt)},
			{"ServerTime", now.UTC().Format(expirationFmt)},
		}}
	}
	return v.checkV2(h, t, &Proof{At: now, Presigned: true}, id, signature, expires)
}

// checkV2 looks up the key, computes the signature and compares; date is what is
// signed in the place of the date. It fills what p lacks.
func (v *Verifier) checkV2(h *fasthttp.RequestHeader, t *Target, p *Proof, id, claimed, date string) (*Proof, error) {
	p.Payload = Payload{Form: Unsigned}
	if hash := string(h.Peek("X-Amz-Content-Sha256")); hash != "" {
		var err error
		if p.Payload, err = parsePayload(hash); err != nil {
			return nil, err
		}
		if p.Payload.Form == SignedChunks || p.Payload.Form == SignedTrailer {
			return nil, &Error{Code: "InvalidArgument", Message: "Signed chunks need Signature Version 4"}
		}
	}
	key, err := v.key(h, t, id)
	if err != nil {
		return nil, err
	}
	toSign := appendToSignV2(nil, h, t, t.RawPath, date)
	if !signsV2(key.Secret, toSign, claimed) && !signsBucketV2(h, t, key.Secret, date, claimed) {
		return nil, &Error{
			Code: ErrChunkSignature.Code, Message: ErrChunkSignature.Message,
			Fields: []Field{{"AWSAccessKeyId", id}, {"StringToSign", string(toSign)}, {"SignatureProvided", claimed}},
		}
	}
	p.proved(&key, algorithmV2, service)
	return p, nil
}

// signsBucketV2 is signsV2 of a request to a bucket in the path, which clients sign with
// a slash behind it that they do not send.
func signsBucketV2(h *fasthttp.RequestHeader, t *Target, secret, date, claimed string) bool {
	if t.Bucket != "" || len(t.RawPath) < 2 || bytes.LastIndexByte(t.RawPath, '/') != 0 {
		return false
	}
	return signsV2(secret, appendToSignV2(nil, h, t, append(bytes.Clone(t.RawPath), '/'), date), claimed)
}

// signsV2 reports whether claimed, in base64, is the HMAC-SHA1 of what was signed.
func signsV2(secret string, toSign []byte, claimed string) bool {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write(toSign)
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return subtle.ConstantTimeCompare([]byte(want), []byte(claimed)) == 1
}

// appendToSignV2 appends what version 2 signs of a request whose path is path.
func appendToSignV2(dst []byte, h *fasthttp.RequestHeader, t *Target, path []byte, date string) []byte {
	dst = append(append(dst, h.Method()...), '\n')
	for _, name := range []string{"Content-Md5", "Content-Type"} {
		dst = append(append(dst, bytes.TrimSpace(h.Peek(name))...), '\n')
	}
	dst = append(append(dst, date...), '\n')
	dst = appendAmzV2(dst, h, t)
	if t.Bucket != "" {
		dst = append(append(dst, '/'), t.Bucket...)
	}
	dst = append(dst, path...)
	return appendParamsV2(dst, t.Params)
}

// appendAmzV2 appends the x-amz-* headers: names in lower case and ascending, values
// of one name in the order sent, separated by commas.
func appendAmzV2(dst []byte, h *fasthttp.RequestHeader, t *Target) []byte {
	values := make(map[string]string)
	add := func(name, value string) {
		if have, ok := values[name]; ok {
			value = have + "," + value
		}
		values[name] = value
	}
	for name, value := range h.All() {
		if lower := strings.ToLower(string(name)); strings.HasPrefix(lower, "x-amz-") {
			add(lower, strings.Join(strings.Fields(string(value)), " "))
		}
	}
	for _, p := range t.Params { // where clients that presign put it
		if strings.EqualFold(p.Name, "x-amz-security-token") {
			add("x-amz-security-token", p.Value)
		}
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		dst = append(append(append(append(dst, name...), ':'), values[name]...), '\n')
	}
	return dst
}

// appendParamsV2 appends the parameters that are signed, decoded and in order.
func appendParamsV2(dst []byte, params []Param) []byte {
	var signed []Param
	for _, p := range params {
		if slices.Contains(paramsV2, p.Name) {
			signed = append(signed, p)
		}
	}
	slices.SortStableFunc(signed, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })
	for i, p := range signed {
		sep := byte('&')
		if i == 0 {
			sep = '?'
		}
		dst = append(append(dst, sep), p.Name...)
		if p.Value != "" {
			dst = append(append(dst, '='), p.Value...)
		}
	}
	return dst
}
