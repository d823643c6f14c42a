// Package s3api serves the S3 protocol over fasthttp: routing, XML, error
// documents and one handler per operation. What objects and buckets are is
// decided in package object, who may ask in package auth.
//
// # Life of a request
//
// fasthttp reads the header section. Server.begin splits the target as it was
// sent, finds bucket, key and operation, and has the signature verified. A
// client that waits for 100-continue gets its refusal now, before it sends the
// body. Otherwise the operation's handler runs; it reads the body, if it wants
// it, through auth.Body, so that a body which is not what was signed ends in an
// error and nothing is committed. At the end the rest of an unread body is
// drained if it is small; else the connection is closed after the answer.
//
// # What is refused
//
// Subresources, headers and parameters of S3 that would change the meaning of
// an operation, and that are not served here, are answered with 501
// NotImplemented, never passed over: a lifecycle rule must not become an
// object, and the deletion of a snapshot must not delete its bucket. Unknown
// X-Tigris-* headers are refused likewise, on DELETE with 400.
//
// # Points in time
//
// x-stemma-at on reads, x-stemma-copy-source-at on copies, and
// X-Tigris-Snapshot-Version on both name the LSN, or the time in RFC 3339, that
// is read at. Answers carry x-stemma-lsn: what was read at, or the commit.
package s3api
