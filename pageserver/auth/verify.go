package auth

import (
	"bytes"
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
	works sync.Pool // of *work
}

// work is the memory that the check of a signature needs.
type work struct {
	path      []byte // as it is signed
	canonical []byte
	toSign    []byte
	lower     []byte // the name of a header
}

// NewVerifier returns a verifier over keys; now is the wall clock.
func NewVerifier(keys Keys, now func() time.Time) *Verifier {
	v := &Verifier{keys: keys, now: now}
	v.works.New = func() any { return &work{canonical: make([]byte, 0, 2048)} }
	return v
}

// Proof is what the signature of a request proves.
type Proof struct {
	Key Key
	// Caller is who sent the request, never nil.
	Caller    *Caller
	Presigned bool
	Payload   Payload
	// Version is the algorithm of the signature: AWS4-HMAC-SHA256, AWS for version 2, empty for an anonymous request.
	Version string
	// Service is what was signed for: s3, iam or sts.
	Service string
	// Region is what was signed for; empty: version 2, or nobody signed.
	Region string
	// At is when the request was signed.
	At time.Time

	// For the signatures of chunks.
	date       string // YYYYMMDDTHHMMSSZ
	scope      scope
	signingKey [sha256.Size]byte
	seed       string
}

// Verify checks the signature of a request with the headers h and the target t.
//
// Error: *Error; ErrAnonymous when the request has no signature at all. h is
// only read. It must still have the header names as fasthttp normalises them.
func (v *Verifier) Verify(h *fasthttp.RequestHeader, t *Target) (*Proof, error) {
	authorization := h.Peek(fasthttp.HeaderAuthorization)
	presigned, old := scheme(t)
	switch {
	case len(authorization) > 0 && (presigned || old), presigned && old:
		return nil, errTwoSchemes
	case bytes.HasPrefix(authorization, []byte("AWS ")):
		return v.verifyHeaderV2(h, t, string(authorization))
	case len(authorization) > 0:
		return v.verifyHeader(h, t, string(authorization))
	case presigned:
		return v.verifyQuery(h, t)
	case old:
		return v.verifyQueryV2(h, t)
	}
	return nil, ErrAnonymous
}

// Anonymous returns what a request without a signature proves: nothing but the hash
// of its body, if it has one. Error: *Error.
func Anonymous(h *fasthttp.RequestHeader) (*Proof, error) {
	p := &Proof{Caller: nobody, Service: service, Payload: Payload{Form: Unsigned}}
	if hash := string(h.Peek("X-Amz-Content-Sha256")); hash != "" {
		var err error
		if p.Payload, err = parsePayload(hash); err != nil {
			return nil, err
		}
		if p.Payload.Form == SignedChunks || p.Payload.Form == SignedTrailer {
			return nil, ErrAnonymous
		}
	}
	return p, nil
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
	at, date, err := headerTime(h)
	if err != nil {
		return nil, err
	}
	p := &Proof{date: date, scope: sig.scope, seed: sig.hex, At: at}
	if sig.scope.date != p.date[:8] {
		return nil, malformedHeader(`Invalid credential date "` + sig.scope.date +
			`". This date is not the same as X-Amz-Date: "` + p.date[:8] + `".`)
	}
	if err := v.checkSkew(at, p.date); err != nil {
		return nil, err
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

// checkSkew refuses a request that was signed at a time too far from now; text is the
// time as it was sent.
func (v *Verifier) checkSkew(at time.Time, text string) error {
	now := v.now()
	if now.Sub(at).Abs() <= maxSkew {
		return nil
	}
	return &Error{
		Code: "RequestTimeTooSkewed", Message: "The difference between the request time and the current time is too large.",
		Fields: []Field{
			{"RequestTime", text},
			{"ServerTime", now.UTC().Format(expirationFmt)},
			{"MaxAllowedSkewMilliseconds", strconv.FormatInt(maxSkew.Milliseconds(), 10)},
		},
	}
}

// headerTime returns the time that a request was signed at, from x-amz-date or
// else Date, and its form YYYYMMDDTHHMMSSZ.
func headerTime(h *fasthttp.RequestHeader) (time.Time, string, error) {
	if s := string(h.Peek("X-Amz-Date")); s != "" {
		at, ok := parseDateTime(s)
		if !ok {
			return time.Time{}, "", errNoDate
		}
		return at, s, nil
	}
	date := h.Peek(fasthttp.HeaderDate)
	at, err := fasthttp.ParseHTTPDate(date)
	if err != nil {
		if at, err = time.Parse(time.RFC1123Z, string(date)); err != nil { // as Python's clients write it
			return time.Time{}, "", errNoDate
		}
	}
	at = at.UTC()
	return at, at.Format(dateTimeForm), nil
}

// parseDateTime parses YYYYMMDDTHHMMSSZ, as time.Parse with dateTimeForm does, in
// a tenth of its time.
func parseDateTime(s string) (time.Time, bool) {
	if len(s) != len(dateTimeForm) || s[8] != 'T' || s[15] != 'Z' {
		return time.Time{}, false
	}
	var n [14]int
	for i := range n {
		c := s[i+i/8] // passes over the T
		if c < '0' || c > '9' {
			return time.Time{}, false
		}
		n[i] = int(c - '0')
	}
	two := func(i int) int { return n[i]*10 + n[i+1] }
	year, month, day := two(0)*100+two(2), time.Month(two(4)), two(6)
	hour, minute, second := two(8), two(10), two(12)
	t := time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	// time.Date takes the 31st of February for a day of March.
	ok := t.Month() == month && t.Day() == day && hour < 24 && minute < 60 && second < 60
	return t, ok
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
	at, ok := parseDateTime(q.date)
	if !ok {
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
	p := &Proof{Presigned: true, date: q.date, scope: sig.scope, seed: sig.hex, At: at}
	var err error
	if p.Payload, err = parsePayload(hash); err != nil {
		return nil, err
	}
	return p, v.check(h, t, &sig, p, hash)
}

func (v *Verifier) checkExpiry(at time.Time, expires string) error {
	seconds, err := strconv.ParseInt(expires, 10, 64)
	if err != nil {
		return errNoExpires
	}
	if seconds < 1 || seconds > maxExpires {
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
	key, err := v.key(h, t, sig.accessKey)
	if err != nil {
		return err
	}
	w := v.works.Get().(*work)
	defer v.works.Put(w)
	if err := w.checkSigned(h, t, sig, p.Presigned); err != nil {
		return err
	}
	var claimed [sha256.Size]byte
	if _, err := hex.Decode(claimed[:], []byte(sig.hex)); err != nil {
		panic("BUG: " + err.Error()) // validHex
	}
	signingKey := v.cache.get(&key, p.scope)
	w.path = AppendEscaped(w.path[:0], t.Path, true)
	proved := func() error {
		v.cache.put(&key, p.scope, signingKey)
		p.proved(&key, algorithm, p.scope.service)
		p.signingKey = signingKey
		return nil
	}
	if w.signs(h, t, sig, p, hash, &signingKey, &claimed, false) {
		return proved()
	}
	refusal := &Error{
		Code: ErrChunkSignature.Code, Message: ErrChunkSignature.Message,
		Fields: []Field{
			{"AWSAccessKeyId", sig.accessKey},
			{"StringToSign", string(w.toSign)},
			{"SignatureProvided", sig.hex},
			{"CanonicalRequest", string(w.canonical)},
		},
	}
	// Some clients send headers in Latin-1, as HTTP has it, and sign their characters in UTF-8.
	if signsBytesAbove(h, sig) && w.signs(h, t, sig, p, hash, &signingKey, &claimed, true) {
		return proved()
	}
	if bytes.Equal(w.path, t.RawPath) {
		return refusal
	}
	// Some clients sign the path as they sent it.
	w.path = append(w.path[:0], t.RawPath...)
	if w.signs(h, t, sig, p, hash, &signingKey, &claimed, false) {
		return proved()
	}
	return refusal
}

// key finds the key that a request names; with a session token it is the token's.
func (v *Verifier) key(h *fasthttp.RequestHeader, t *Target, id string) (Key, error) {
	token, has := t.Get("X-Amz-Security-Token")
	if header := h.Peek("X-Amz-Security-Token"); len(header) > 0 {
		token, has = string(header), true
	}
	if has && token == "" {
		return Key{}, ErrToken
	}
	return v.keyOf(id, token)
}

// Key returns the key with an id that may be used, and whether there is one.
func (v *Verifier) Key(id string) (Key, bool) { return v.keys.Key(id) }

// keyOf finds a key; with a session token, if that is not empty, it is the token's.
func (v *Verifier) keyOf(id, token string) (Key, error) {
	if token != "" {
		return v.keys.Session(id, token)
	}
	key, ok := v.keys.Key(id)
	if !ok {
		return Key{}, unknownKey(id)
	}
	return key, nil
}

func unknownKey(id string) *Error {
	return &Error{
		Code: "InvalidAccessKeyId", Message: "The AWS Access Key Id you provided does not exist in our records.",
		Fields: []Field{{"AWSAccessKeyId", id}},
	}
}

// proved fills in whose signature held.
func (p *Proof) proved(k *Key, version, service string) {
	p.Key, p.Caller, p.Version, p.Service, p.Region = *k, k.CallerOf(), version, service, p.scope.region
}

// signs reports whether the signature claimed is that of the request with the
// path w.path; latin1 takes the values of headers for Latin-1. It leaves the canonical request and what is signed in w.
func (w *work) signs(h *fasthttp.RequestHeader, t *Target, sig *signature, p *Proof, hash string, key, claimed *[sha256.Size]byte, latin1 bool) bool {
	w.canonical = appendCanonical(w.canonical[:0], h, t, sig, w.path, hash, p.Presigned, latin1)
	w.toSign = appendStringToSign(w.toSign[:0], p.date, p.scope, w.canonical)
	sum := mac(key[:], w.toSign)
	return subtle.ConstantTimeCompare(sum[:], claimed[:]) == 1
}

// checkSigned refuses a request whose host or an x-amz-* header is not signed.
// The payload hash is signed by its place in the canonical request; and a header that repeats what the signed
// query of a presigned request says: some clients move headers there and send them, too.
func (w *work) checkSigned(h *fasthttp.RequestHeader, t *Target, sig *signature, presigned bool) error {
	var missing []string
	if !signs(sig, "host") {
		missing = append(missing, "host")
	}
	for name, value := range h.All() {
		if len(name) < len("x-amz-") || name[0]|0x20 != 'x' {
			continue
		}
		w.lower = append(w.lower[:0], name...)
		for i, c := range w.lower {
			if 'A' <= c && c <= 'Z' {
				w.lower[i] = c + 'a' - 'A'
			}
		}
		if bytes.HasPrefix(w.lower, []byte("x-amz-")) && string(w.lower) != "x-amz-content-sha256" && !signs(sig, w.lower) &&
			!(presigned && t.repeats(string(w.lower), value)) {
			missing = append(missing, string(w.lower))
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

// repeats reports whether a parameter says what a header of the name, in lower case, says.
func (t *Target) repeats(name string, value []byte) bool {
	for i := range t.Params {
		if p := &t.Params[i]; lowerASCII(p.Name) == name && strings.TrimSpace(p.Value) == string(bytes.TrimSpace(value)) {
			return true
		}
	}
	return false
}

// appendStringToSign appends what is signed for a canonical request.
func appendStringToSign(dst []byte, date string, s scope, canonical []byte) []byte {
	sum := sha256.Sum256(canonical)
	dst = append(append(append(dst, algorithm+"\n"...), date...), '\n')
	dst = append(s.append(dst), '\n')
	return hex.AppendEncode(dst, sum[:])
}

// mac returns the HMAC-SHA256 (RFC 2104). Unlike crypto/hmac it allocates
// nothing for messages of some hundred bytes.
func mac(key, message []byte) [sha256.Size]byte {
	var inner [sha256.BlockSize + 448]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	if len(key) > sha256.BlockSize {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range sha256.BlockSize {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	sum := sha256.Sum256(append(inner[:sha256.BlockSize], message...))
	copy(outer[sha256.BlockSize:], sum[:])
	return sha256.Sum256(outer[:])
}
