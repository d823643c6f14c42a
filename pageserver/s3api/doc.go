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
// x-stemma-undo on DeleteBucket says for how long it can be undone: a duration
// such as 24h, 0s for not at all.
//
// # Codes that S3 does not have
//
//	StorageFull          503  the disk is full; nothing was written, reads go on
//	HistoryNotRetained   410  the point in time lies below what the store keeps
//
// A store that is read-only answers writes with 503 ServiceUnavailable and the reason.
//
// # What is of fasthttp
//
// The answer that expect leaves is sent as it is because fasthttp 1.74 changes
// only its status; TestExpectContinue holds that. Beyond MaxConnections
// fasthttp itself answers 503, in plain text.
package s3api
