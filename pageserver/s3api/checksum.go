package s3api

import (
	"crypto/md5"
	"encoding/base64"
	"strings"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

const checksumPrefix = "x-amz-checksum-"

// contentMD5 returns the Content-MD5 header, nil when it is absent. Error:
// object.ErrInvalidDigest.
func (r *request) contentMD5() ([]byte, error) {
	values := r.header().PeekAll("Content-Md5")
	if len(values) == 0 {
		return nil, nil
	}
	return decodeMD5(string(values[0]))
}

// parseMD5 is contentMD5 of a field of a form, which may be empty.
func parseMD5(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	return decodeMD5(text)
}

// decodeMD5 decodes an MD5 in base64. Error: object.ErrInvalidDigest.
func decodeMD5(text string) ([]byte, error) {
	sum, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(sum) != md5.Size {
		return nil, object.ErrInvalidDigest
	}
	return sum, nil
}

// checksumHeader returns the one checksum that the headers give; zero if none.
func (r *request) checksumHeader() (object.Checksum, error) {
	var found object.Checksum
	for _, f := range r.amzFields {
		name, ok := strings.CutPrefix(f.Name, checksumPrefix)
		if !ok || name == "type" || name == "mode" || name == "algorithm" {
			continue
		}
		a, err := object.ParseAlgorithm(name)
		if err != nil {
			return found, &apiError{code: "InvalidRequest", message: "The algorithm type you specified in " + clip(f.Name) + " header is invalid."}
		}
		if found.Algorithm != object.NoChecksum {
			return found, &apiError{code: "InvalidRequest", message: "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."}
		}
		if found, err = object.ParseChecksum(a, f.Value); err != nil {
			return found, &apiError{code: "BadDigest", message: "Value for " + f.Name + " header is invalid."}
		}
		if r.presigned && r.header().Peek(f.Name) == nil && found.String() == sumOfNothing(a) {
			return object.Checksum{}, nil
		}
	}
	return found, nil
}

// expectChecksum returns what the headers promise of a body's checksum, by
// value or in a trailer.
func (r *request) expectChecksum(body *auth.Body) (object.Expect, error) {
	var e object.Expect
	value, err := r.checksumHeader()
	if err != nil {
		return e, err
	}
	if value.Composite {
		return e, &apiError{code: "InvalidRequest", message: "Value for " + checksumPrefix + strings.ToLower(value.Algorithm.String()) + " header is invalid."}
	}
	e.Algorithm, e.Value = value.Algorithm, value
	for _, name := range r.trailers() {
		a, err := object.ParseAlgorithm(strings.TrimPrefix(name, checksumPrefix))
		if err != nil || a == object.NoChecksum || !strings.HasPrefix(name, checksumPrefix) {
			return e, &apiError{code: "InvalidRequest", message: "The value specified in the x-amz-trailer header is not supported"}
		}
		if e.Algorithm != object.NoChecksum {
			return e, &apiError{code: "InvalidRequest", message: "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."}
		}
		if !r.proof.Payload.Chunked() {
			return e, auth.ErrTrailer
		}
		e.Algorithm = a
		e.Trailer = func() (object.Checksum, error) {
			c, err := object.ParseChecksum(a, body.Trailer(name))
			if err != nil || c.Composite {
				return c, &apiError{code: "InvalidRequest", message: "Value for " + name + " trailing header is invalid."}
			}
			return c, nil
		}
	}
	return e, r.checkSDKAlgorithm(e.Algorithm)
}

// sumOfNothing returns the checksum of an empty body in base64. In the query of a presigned request that says nothing
// of the body that will be sent: clients put it there when they sign without having one.
func sumOfNothing(a object.Algorithm) string {
	return object.ChecksumOf(a, nil).String()
}

// checkSDKAlgorithm refuses a body whose checksum was promised and not given.
func (r *request) checkSDKAlgorithm(given object.Algorithm) error {
	name := r.amz("x-amz-sdk-checksum-algorithm")
	if name == "" {
		return nil
	}
	a, err := object.ParseAlgorithm(name)
	switch {
	case err != nil:
		return err
	case given == object.NoChecksum && r.presigned: // see sumOfNothing
		return nil
	case given == object.NoChecksum:
		return &apiError{code: "InvalidRequest", message: "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found."}
	case given != a:
		return &apiError{code: "InvalidRequest", message: "Value for x-amz-sdk-checksum-algorithm header is invalid."}
	}
	return nil
}

// setChecksum puts a checksum into the headers of the answer.
func (r *request) setChecksum(c object.Checksum) {
	if c.Algorithm == object.NoChecksum {
		return
	}
	r.set(checksumPrefix+strings.ToLower(c.Algorithm.String()), c.String())
	r.set("x-amz-checksum-type", c.Type())
}

// document reads the XML document that is the body, at most limit bytes. It
// verifies what the headers promise of it; digest says that they must promise
// something. An empty body is nil.
func (r *request) document(limit int64, digest bool) ([]byte, error) {
	wantMD5, err := r.contentMD5()
	if err != nil {
		return nil, err
	}
	body, err := r.openBody()
	if err != nil {
		return nil, err
	}
	want, err := r.expectChecksum(body)
	if err != nil {
		return nil, err
	}
	if digest && wantMD5 == nil && want.Algorithm == object.NoChecksum {
		return nil, &apiError{code: "InvalidRequest", message: "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"}
	}
	p, err := readDocument(body, limit)
	if err != nil {
		return nil, err
	}
	return p, checkDigests(p, wantMD5, &want)
}

// plainDocument is document where the checksum headers speak of something else.
func (r *request) plainDocument(limit int64) ([]byte, error) {
	wantMD5, err := r.contentMD5()
	if err != nil {
		return nil, err
	}
	body, err := r.openBody()
	if err != nil {
		return nil, err
	}
	p, err := readDocument(body, limit)
	if err != nil {
		return nil, err
	}
	return p, checkDigests(p, wantMD5, &object.Expect{})
}

func readDocument(body *auth.Body, limit int64) ([]byte, error) {
	if body.Size() > limit {
		return nil, &apiError{code: "MaxMessageLengthExceeded"}
	}
	p, err := readAll(body, limit)
	if err == errTooLong {
		return nil, &apiError{code: "MaxMessageLengthExceeded"}
	}
	return p, err
}

// checkDigests verifies a body in memory. Error: object.ErrBadDigest.
func checkDigests(p, wantMD5 []byte, want *object.Expect) error {
	if wantMD5 != nil && md5.Sum(p) != [md5.Size]byte(wantMD5) {
		return object.ErrBadDigest
	}
	if want.Algorithm == object.NoChecksum {
		return nil
	}
	if want.Trailer != nil {
		var err error
		if want.Value, err = want.Trailer(); err != nil {
			return err
		}
	}
	if object.ChecksumOf(want.Algorithm, p) != want.Value {
		return object.ErrBadDigest
	}
	return nil
}
