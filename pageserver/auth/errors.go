package auth

// Error says why a request or its body was refused, in the words of S3.
type Error struct {
	// Code is the S3 error code.
	Code string
	// Message is for people.
	Message string
	// Fields are further elements of the error document, in order.
	Fields []Field
}

// Field is an element of an error document.
type Field struct{ Name, Value string }

func (e *Error) Error() string { return "auth: " + e.Code + ": " + e.Message }

// Is makes errors with the same code and message the same.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == e.Message
}

// Errors without data of their own.
var (
	errTwoSchemes   = &Error{Code: "InvalidArgument", Message: "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified"}
	errOldScheme    = &Error{Code: "InvalidRequest", Message: "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."}
	errNoDate       = &Error{Code: "AccessDenied", Message: "AWS authentication requires a valid Date or x-amz-date header"}
	errNoHash       = &Error{Code: "InvalidRequest", Message: "Missing required header for this request: x-amz-content-sha256"}
	errURI          = &Error{Code: "InvalidURI", Message: "Couldn't parse the specified URI."}
	errQueryMissing = &Error{Code: "AuthorizationQueryParametersError", Message: "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."}
	errNoExpires    = &Error{Code: "AuthorizationQueryParametersError", Message: "X-Amz-Expires should be a number"}
	errExpires      = &Error{Code: "AccessDenied", Message: "X-Amz-Expires must be a number of seconds from 1 to 604800 (a week)"}
	errNotYetValid  = &Error{Code: "AccessDenied", Message: "Request is not yet valid"}

	// ErrAnonymous says that a request is not signed.
	ErrAnonymous = &Error{Code: "AccessDenied", Message: "Access Denied"}
	// ErrToken says that a session token is none of ours, or belongs to another key.
	ErrToken = &Error{Code: "InvalidToken", Message: "The provided token is malformed or otherwise invalid."}
	// ErrExpiredToken says that the session of a token is over.
	ErrExpiredToken = &Error{Code: "ExpiredToken", Message: "The provided token has expired."}
	// ErrIncompleteBody says that a body ended early or went on too long.
	ErrIncompleteBody = &Error{Code: "IncompleteBody", Message: "You did not provide the number of bytes specified by the Content-Length HTTP header"}
	// ErrContentHash says that a body does not have the SHA-256 that was signed.
	ErrContentHash = &Error{Code: "XAmzContentSHA256Mismatch", Message: "The provided 'x-amz-content-sha256' header does not match what was computed."}
	// ErrMissingLength says that a chunked body came without its decoded length.
	ErrMissingLength = &Error{Code: "MissingContentLength", Message: "You must provide the Content-Length HTTP header."}
	// ErrChunkSignature says that a chunk or trailer of a body is not what was signed.
	ErrChunkSignature = &Error{Code: "SignatureDoesNotMatch", Message: "The request signature we calculated does not match the signature you provided. Check your key and signing method."}
	// ErrChunkFraming says that a body is not aws-chunked as promised.
	ErrChunkFraming = &Error{Code: "InvalidRequest", Message: "The body is not aws-chunked as its headers say"}
	// ErrChunkTooLarge says that a signed chunk is larger than MaxSignedChunk.
	ErrChunkTooLarge = &Error{Code: "InvalidChunkSizeError", Message: "A signed chunk must not be larger than 16 MiB"}
	// ErrTrailer says that the trailer of a body is malformed, or not what was announced.
	ErrTrailer = &Error{Code: "MalformedTrailerError", Message: "The request contained trailing data that was not well-formed or did not conform to our published schema."}
)

func malformedHeader(why string) *Error {
	return &Error{Code: "AuthorizationHeaderMalformed", Message: "The authorization header is malformed; " + why}
}

func malformedQuery(why string) *Error {
	return &Error{Code: "AuthorizationQueryParametersError", Message: "Error parsing the X-Amz-Credential parameter; " + why}
}
