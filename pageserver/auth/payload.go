package auth

import (
	"encoding/hex"
)

// PayloadForm says how the body of a request is proved.
type PayloadForm byte

// The forms of x-amz-content-sha256.
const (
	Unsigned         PayloadForm = iota + 1 // UNSIGNED-PAYLOAD: not at all
	Literal                                 // its SHA-256
	SignedChunks                            // STREAMING-AWS4-HMAC-SHA256-PAYLOAD
	SignedTrailer                           // STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER
	UnsignedTrailer                         // STREAMING-UNSIGNED-PAYLOAD-TRAILER
	unsignedPayload  = "UNSIGNED-PAYLOAD"
	signedChunks     = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedTrailer    = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	unsignedTrailer  = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	emptySHA256      = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	trailerSignature = "x-amz-trailer-signature"
)

// Payload is the form, and the hash if it is Literal.
type Payload struct {
	Form   PayloadForm
	SHA256 [32]byte
}

// Chunked reports whether the body is aws-chunked.
func (p *Payload) Chunked() bool { return p.Form >= SignedChunks }

// parsePayload parses x-amz-content-sha256. Error: *Error.
func parsePayload(s string) (Payload, error) {
	switch s {
	case unsignedPayload:
		return Payload{Form: Unsigned}, nil
	case signedChunks:
		return Payload{Form: SignedChunks}, nil
	case signedTrailer:
		return Payload{Form: SignedTrailer}, nil
	case unsignedTrailer:
		return Payload{Form: UnsignedTrailer}, nil
	}
	p := Payload{Form: Literal}
	if len(s) == 64 {
		if _, err := hex.Decode(p.SHA256[:], []byte(s)); err == nil {
			return p, nil
		}
	}
	return Payload{}, &Error{
		Code: "InvalidArgument",
		Message: "x-amz-content-sha256 must be " + unsignedPayload + ", " + unsignedTrailer + ", " + signedChunks + ", " +
			signedTrailer + " or a valid sha256 value.",
		Fields: []Field{{"ArgumentName", "x-amz-content-sha256"}, {"ArgumentValue", clip(s)}},
	}
}
