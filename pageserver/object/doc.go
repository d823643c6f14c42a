// Package object gives timelines the semantics of S3: buckets, objects,
// listings, copies and multipart uploads. It knows records and their rules and
// nothing of HTTP; pageserver/s3api speaks the protocol.
//
// # Records
//
// An object is one record of layers.NamespaceObjects, key = object key, Meta =
// entry, Body = the bytes: inline below Options.MaxInlineBytes, otherwise
// extents that were synced before the commit. Uploads are records of
// layers.NamespaceUploads, in two spaces, so that a listing of uploads never
// steps over parts:
//
//	0x01 ‖ object key, 0x00 written as 0x00 0xff ‖ 0x00 0x01 ‖ upload id (16)   upload record, no body
//	0x02 ‖ upload id (16) ‖ part number (2, big-endian)                        part record, body = extents
//
// An upload id is the store clock at creation (8 bytes, big-endian) and 8 random
// bytes; people see it in hexadecimal. Uploads of one key thus lie in the order
// of their creation.
//
// # Meta, version 1
//
// All three kinds begin alike; a listing decodes no further than the tag:
//
//	0  1  version, 1
//	1  1  flags
//	2  1  storage class (see StorageClass)
//	3  1  checksum algorithm (see Algorithm), 0 none
//	4  .. uvarint size in bytes; upload records: 0
//	   16 MD5 of the ETag; upload records: absent
//	   .. uvarint parts of the ETag, if flagETagParts
//
// Fields follow to the end, tags ascending, each at most once: tag (1 byte),
// uvarint length, bytes. docs/format/object.md has flags and tags. Unknown
// versions, flags and tags are refused.
//
// # Parts table
//
// What of an object's parts cannot be told from its size. A short table is a
// field of the entry. A long one, in practice one with checksums, is stored as
// a value whose extents are the last of the body, behind the object's bytes;
// the entry says how long it is. Listing thus never reads one.
//
// # Concurrency
//
// An unconditional put is a blind commit; what is conditional reads and writes
// under the exclusive stripe of its key. PutPart and CopyPart hold the stripe of
// their upload record shared, CompleteUpload and AbortUpload exclusively, so
// that no part arrives at an upload that has ended, and the parts that a
// complete reads are those that it deletes.
//
// # Crash consistency
//
// Bodies are synced before the commit that names them; what was streamed for a
// commit that never came is dead space. Whatever moves handles holds the
// segments from reading the source until its commit is acknowledged.
package object
