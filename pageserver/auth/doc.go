// Package auth proves who sent an S3 request and that its body is what was
// signed: AWS Signature Version 4 in a header or a presigned URL, and every
// form of payload hash that S3 knows.
//
// # A request
//
// ParseTarget splits the request target as it came, with nothing normalised.
// Verifier.Verify checks the signature over it and the headers and returns a
// Proof. Proof.NewBody wraps the raw body in a reader that ends with io.EOF
// only if the body was whole and what the signature promised; whoever commits
// only after io.EOF commits only what was proved.
//
// # The canonical path
//
// Each byte of the decoded path is encoded again as AWS does, so that it does
// not matter which bytes a client chose to escape. A signature over the path
// exactly as sent is also accepted. Neither lets a signature for one key pass
// for another: both forms decode to the same key.
//
// # aws-chunked bodies
//
//	signed     size(hex) ";chunk-signature=" 64 hex digits CRLF, bytes, CRLF
//	unsigned   size(hex) CRLF, bytes, CRLF
//	end        a chunk of size zero, without bytes
//	trailer    name ":" value LF or CRLF, any number; if signed then
//	           "x-amz-trailer-signature:" 64 hex digits; blank lines between are skipped
//
// The bytes of a signed chunk are handed on only after its signature held, so
// a whole chunk is buffered; chunks end at 16 MiB.
package auth
