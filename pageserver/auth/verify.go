package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	maxSkew       = 15 * time.Minute
	maxExpires    = 604800 // seconds
	dateTimeForm  = "20060102T150405Z"
	expirationFmt = "2006-01-02T15:04:05Z"
)

// Verifier checks the signatures of requests. Safe for concurrent use.
type Verifier struct {
	keys  Keys
	now   func() time.Time
	cache signingKeys
	bufs  sync.Pool // of *[]byte: canonical requests
}

// NewVerifier returns a verifier over keys; now is the wall clock.
func NewVerifier(keys Keys, now func() time.Time) *Verifier {
	v := &Verifier{keys: keys, now: now}
	v.bufs.New = func() any { b := make([]byte, 0, 2048); return &b }
	return v
}

// Proof is what the signature of a request proves.
type Proof struct {
	Key       Key
	Presigned bool
	Payload   Payload

	// For the signatures of chunks.
	date       string // YYYYMMDDTHHMMSSZ
	scope      scope
	signingKey [sha256.Size]byte
	seed       string
}

// Verify checks the signature of a request with the headers h and the target t.
//
// Error: *Error; AccessDenied when the request has no signature at all. h is
// only read. It must still have the header names as fasthttp normalises them.
func (v *Verifier) Verify(h *fasthttp.RequestHeader, t *Target) (*Proof, error) {
	authorization := h.Peek(fasthttp.HeaderAuthorization)
	presigned, old := scheme(t)
	switch {
	case len(authorization) > 0 && (presigned || old):
		return nil, errTwoSchemes
	case len(authorization) > 0:
		return v.verifyHeader(h, t, string(authorization))
	case presigned:
		return v.verifyQuery(h, t)
	case old:
		return nil, errOldScheme
	}
	return nil, errAnonymous
}

// scheme reports whether the query presigns the request, and whether it does
// so in a way before version 4.
func scheme(t *Target) (presigned, old bool) {
	for i := range t.Params {
		switch t.Params[i].Name {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature":
			presigned = true
		case "AWSAccessKeyId", "Signature":
			old = true
		}
	}
	return presigned, old
}

func (v *Verifier) verifyHeader(h *fasthttp.RequestHeader, t *Target, authorization string) (*Proof, error) {
	sig, err := parseAuthorization(authorization)
	if err != nil {
		return nil, err
	}
	at, err := headerTime(h)
	if err != nil {
		return nil, err
	}
	p := &Proof{date: at.Format(dateTimeForm), scope: sig.scope, seed: sig.hex}
	if sig.scope.date != p.date[:8] {
		return nil, malformedHeader(`Invalid credential date "` + sig.scope.date +
			`". This date is not the same as X-Amz-Date: "` + p.date[:8] + `".`)
	}
	if now := v.now(); now.Sub(at).Abs() > maxSkew {
		return nil, &Error{
			Code: "RequestTimeTooSkewed", Message: "The difference between the request time and the current time is too large.",
			Fields: []Field{
				{"RequestTime", p.date},
				{"ServerTime", now.UTC().Format(expirationFmt)},
				{"MaxAllowedSkewMilliseconds", strconv.FormatInt(maxSkew.Milliseconds(), 10)},
			},
		}
	}
	hash := string(h.Peek("X-Amz-Content-Sha256"))
	if hash == "" {
		return nil, errNoHash
	}
	if p.Payload, err = parsePayload(hash); err != nil {
		return nil, err
	}
	return p, v.check(h, t, &sig, p, hash)
}

// headerTime returns the time that a request was signed at, from x-amz-date or else Date.
func headerTime(h *fasthttp.RequestHeader) (time.Time, error) {
	if s := h.Peek("X-Amz-Date"); len(s) > 0 {
		at, err := time.Parse(dateTimeForm, string(s))
		if err != nil {
			return time.Time{}, errNoDate
		}
		return at, nil
	}
	at, err := fasthttp.ParseHTTPDate(h.Peek(fasthttp.HeaderDate))
	if err != nil {
		return time.Time{}, errNoDate
	}
	return at.UTC(), nil
}

func (v *Verifier) verifyQuery(h *fasthttp.RequestHeader, t *Target) (*Proof, error) {
	var q struct{ algorithm, credential, signature, date, headers, expires string }
	for _, f := range []struct {
		name string
		to   *string
	}{
		{"X-Amz-Algorithm", &q.algorithm}, {"X-Amz-Credential", &q.credential}, {"X-Amz-Signature", &q.signature},
		{"X-Amz-Date", &q.date}, {"X-Amz-SignedHeaders", &q.headers}, {"X-Amz-Expires", &q.expires},
	} {
		if *f.to, _ = t.Get(f.name); *f.to == "" {
			return nil, errQueryMissing
		}
	}
	if q.algorithm != algorithm {
		return nil, &Error{Code: "AuthorizationQueryParametersError", Message: `X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"`}
	}
	sig := signature{headers: q.headers, hex: q.signature}
	var why string
	if sig.accessKey, sig.scope, why = parseCredential(q.credential); why != "" {
		return nil, malformedQuery(why)
	}
	if !validHex(sig.hex) || !validSignedHeaders(sig.headers) {
		return nil, malformedQuery("X-Amz-Signature or X-Amz-SignedHeaders is malformed")
	}
	at, err := time.Parse(dateTimeForm, q.date)
	if err != nil {
		return nil, &Error{Code: "AuthorizationQueryParametersError", Message: `X-Amz-Date must be in the ISO8601 Long Format "yyyyMMdd'T'HHmmss'Z'"`}
	}
	if sig.scope.date != q.date[:8] {
		return nil, malformedQuery(`Invalid credential date "` + sig.scope.date +
			`". This date is not the same as X-Amz-Date: "` + q.date[:8] + `".`)
	}
	if err := v.checkExpiry(at, q.expires); err != nil {
		return nil, err
	}
	hash, ok := t.Get("X-Amz-Content-Sha256")
	if !ok {
		hash = string(h.Peek("X-Amz-Content-Sha256"))
	}
	if hash == "" {
		hash = unsignedPayload
	}
	p := &Proof{Presigned: true, date: q.date, scope: sig.scope, seed: sig.hex}
	if p.Payload, err = parsePayload(hash); err != nil {
		return nil, err
	}
	return p, v.check(h, t, &sig, p, hash)
}

func (v *Verifier) checkExpiry(at time.Time, expires string) error {
	seconds, err := strconv.ParseUint(expires, 10, 32)
	if err != nil || seconds < 1 || seconds > maxExpires {
		return errExpires
	}
	now := v.now()
	if at.Sub(now) > maxSkew {
		return errNotYetValid
	}
	if end := at.Add(time.Duration(seconds) * time.Second); now.After(end) {
		return &Error{Code: "AccessDenied", Message: "Request has expired", Fields: []Field{
			{"X-Amz-Expires", expires},
			{"Expires", end.UTC().Format(expirationFmt)},
			{"ServerTime", now.UTC().Format(expirationFmt)},
		}}
	}
	return nil
}

// check looks up the key, computes the signature and compares. It fills what p
// lacks.
func (v *Verifier) check(h *fasthttp.RequestHeader, t *Target, sig *signature, p *Proof, hash string) error {
	key, ok := v.keys.Key(sig.accessKey)
	if !ok {
		return &Error{
			Code: "InvalidAccessKeyId", Message: "The AWS Access Key Id you provided does not exist in our records.",
			Fields: []Field{{"AWSAccessKeyId", sig.accessKey}},
		}
	}
	if err := checkSigned(h, sig, p.Presigned); err != nil {
		return err
	}
	if _, ok := t.Get("X-Amz-Security-Token"); ok || len(h.Peek("X-Amz-Security-Token")) > 0 {
		return errToken
	}
	buf := v.bufs.Get().(*[]byte)
	defer v.bufs.Put(buf)

	signingKey := v.cache.get(&key, p.scope)
	escaped := string(AppendEscaped(nil, t.Path, true))
	paths := []string{escaped}
	if raw := string(t.RawPath); raw != escaped {
		paths = append(paths, raw)
	}
	var first [2]string // canonical request and string to sign, for the error
	for i, path := range paths {
		*buf = appendCanonical((*buf)[:0], h, t, sig, path, hash, p.Presigned)
		toSign := stringToSign(p.date, p.scope, *buf)
		if want := sign(signingKey, toSign); subtle.ConstantTimeCompare([]byte(want), []byte(sig.hex)) == 1 {
			v.cache.put(&key, p.scope, signingKey)
			p.Key, p.signingKey = key, signingKey
			return nil
		}
		if i == 0 {
			first = [2]string{string(*buf), string(toSign)}
		}
	}
	return &Error{
		Code: ErrChunkSignature.Code, Message: ErrChunkSignature.Message,
		Fields: []Field{
			{"AWSAccessKeyId", sig.accessKey},
			{"StringToSign", first[1]},
			{"SignatureProvided", sig.hex},
			{"CanonicalRequest", first[0]},
		},
	}
}

// checkSigned refuses a request whose host or an x-amz-* header is not signed.
// The payload hash is signed by its place in the canonical request.
func checkSigned(h *fasthttp.RequestHeader, sig *signature, presigned bool) error {
	var missing []string
	if !sig.signs("host") {
		missing = append(missing, "host")
	}
	for name := range h.All() {
		lower := strings.ToLower(string(name))
		if strings.HasPrefix(lower, "x-amz-") && lower != "x-amz-content-sha256" && !sig.signs(lower) {
			missing = append(missing, lower)
		}
	}
	if missing == nil {
		return nil
	}
	slices.Sort(missing)
	return &Error{
		Code: "AccessDenied", Message: "There were headers present in the request which were not signed",
		Fields: []Field{{"HeadersNotSigned", strings.Join(slices.Compact(missing), ", ")}},
	}
}

// stringToSign returns what is signed for a canonical request.
func stringToSign(date string, s scope, canonical []byte) []byte {
	sum := sha256.Sum256(canonical)
	b := make([]byte, 0, 192)
	b = append(append(append(b, algorithm+"\n"...), date...), '\n')
	b = append(s.append(b), '\n')
	return hex.AppendEncode(b, sum[:])
}

// sign returns the signature of toSign in hexadecimal.
func sign(key [sha256.Size]byte, toSign []byte) string {
	sum := mac(key[:], toSign)
	return hex.EncodeToString(sum[:])
}

func mac(key, message []byte) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, key)
	m.Write(message)
	m.Sum(sum[:0])
	return sum
}
