package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"time"
)

// maxPostAge is for how long after its date the policy of a form may be used.
const maxPostAge = maxExpires * time.Second

// VerifyPost checks the signature of the policy of a form that uploads an object. get
// returns the field of a name in lower case, empty if there is none; both versions sign
// the policy as it was sent, in base64. Without any field of a signature the form
// proves nothing, and the caller is nobody. Error: *Error.
func (v *Verifier) VerifyPost(get func(name string) string) (*Proof, error) {
	four := []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Signature"}
	isFour := get("x-amz-algorithm")+get("x-amz-credential")+get("x-amz-date")+get("x-amz-signature") != ""
	isTwo := get("awsaccesskeyid")+get("signature") != ""
	switch {
	case isFour && isTwo:
		return nil, errTwoSchemes
	case isFour:
		if err := needFields(get, append(four, "Policy")); err != nil {
			return nil, err
		}
		return v.verifyPostV4(get)
	case isTwo:
		if err := needFields(get, []string{"AWSAccessKeyId", "Signature", "Policy"}); err != nil {
			return nil, err
		}
		return v.verifyPostV2(get)
	}
	return &Proof{Caller: nobody, Service: service, Payload: Payload{Form: Unsigned}}, nil
}

// needFields refuses a form that lacks a field.
func needFields(get func(string) string, names []string) error {
	for _, name := range names {
		if get(lowerASCII(name)) == "" {
			return MissingField(name)
		}
	}
	return nil
}

// MissingField is the error of a form that lacks a field.
func MissingField(name string) *Error {
	return &Error{
		Code: "InvalidArgument", Message: "Bucket POST must contain a field named '" + name + "'.  If it is specified, please check the order of the fields.",
		Fields: []Field{{"ArgumentName", name}, {"ArgumentValue", ""}},
	}
}

func lowerASCII(s string) string {
	p := []byte(s)
	for i, c := range p {
		if 'A' <= c && c <= 'Z' {
			p[i] = c + 'a' - 'A'
		}
	}
	return string(p)
}

func (v *Verifier) verifyPostV4(get func(string) string) (*Proof, error) {
	invalid := func(name, message string) error {
		return &Error{Code: "InvalidArgument", Message: message, Fields: []Field{{"ArgumentName", name}, {"ArgumentValue", clip(get(lowerASCII(name)))}}}
	}
	if get("x-amz-algorithm") != algorithm {
		return nil, invalid("X-Amz-Algorithm", `X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"`)
	}
	id, scope, why := parseCredential(get("x-amz-credential"))
	if why == "" && scope.service != service {
		why = `incorrect service "` + scope.service + `". This endpoint belongs to "s3".`
	}
	if why != "" {
		return nil, invalid("X-Amz-Credential", why)
	}
	at, ok := parseDateTime(get("x-amz-date"))
	if !ok {
		return nil, invalid("X-Amz-Date", "X-Amz-Date must be formatted via ISO8601 Long format")
	}
	if scope.date != get("x-amz-date")[:8] {
		return nil, invalid("X-Amz-Credential", `Invalid credential date "`+scope.date+`". This date is not the same as X-Amz-Date.`)
	}
	now := v.now()
	if at.Sub(now) > maxSkew {
		return nil, errNotYetValid
	}
	if now.Sub(at) > maxPostAge {
		return nil, &Error{Code: "AccessDenied", Message: "Invalid according to Policy: Policy expired."}
	}
	key, err := v.keyOf(id, get("x-amz-security-token"))
	if err != nil {
		return nil, err
	}
	signingKey := v.cache.get(&key, scope)
	sum := mac(signingKey[:], []byte(get("policy")))
	var claimed [sha256.Size]byte
	if !validHex(get("x-amz-signature")) {
		return nil, postMismatch(id, get("policy"), get("x-amz-signature"))
	}
	if _, err := hex.Decode(claimed[:], []byte(get("x-amz-signature"))); err != nil {
		panic("BUG: " + err.Error()) // validHex
	}
	if subtle.ConstantTimeCompare(sum[:], claimed[:]) != 1 {
		return nil, postMismatch(id, get("policy"), get("x-amz-signature"))
	}
	v.cache.put(&key, scope, signingKey)
	p := &Proof{Payload: Payload{Form: Unsigned}, At: at}
	p.proved(&key, algorithm, service)
	return p, nil
}

func (v *Verifier) verifyPostV2(get func(string) string) (*Proof, error) {
	id := get("awsaccesskeyid")
	key, err := v.keyOf(id, get("x-amz-security-token"))
	if err != nil {
		return nil, err
	}
	if !signsV2(key.Secret, []byte(get("policy")), get("signature")) {
		return nil, postMismatch(id, get("policy"), get("signature"))
	}
	p := &Proof{Payload: Payload{Form: Unsigned}, At: v.now()}
	p.proved(&key, algorithmV2, service)
	return p, nil
}

func postMismatch(id, policy, claimed string) *Error {
	return &Error{
		Code: ErrChunkSignature.Code, Message: ErrChunkSignature.Message,
		Fields: []Field{{"AWSAccessKeyId", id}, {"StringToSign", policy}, {"SignatureProvided", clip(claimed)}},
	}
}
