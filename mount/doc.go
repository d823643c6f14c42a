// Package mount serves a bucket as a POSIX directory, by FUSE. docs/mount.md says what users see.
//
// # From keys to files
//
// A key is a path; what has keys below it, or is an empty object whose key ends with a slash, is a directory. Mode, owner and
// modification time are user metadata under the names that s3fs uses (meta.go). A node (node.go) is a file or directory that the
// kernel knows; its key follows from its parents, so that a renamed directory takes all below it along.
//
// # What is written
//
// Changes of a file wait in its overlay (overlay.go), which reads lay over the object, until they are written back
// (writeback.go): at fsync, at close, after some seconds, or when all of the mount holds more than it may. All
// that waits of a file is one commit if it fits. Everything else - making, removing, renaming - is a commit at once, so that
// what fsync has to keep is the file's own bytes only.
//
// # Who else writes
//
// Each time a file is opened, the server is asked which version there is; the kernel keeps what it has cached of the file only if
// that is the version it read. What is open is read as of the version that was opened, from the past if need be; if another client
// replaces the object, its name gets another node, and if it writes in place, the node learns of it with its attributes. A write
// back is conditional on the version that is known: if there is another one, the changed bytes are written to that in place.
//
// # Locks
//
// Order: FS.tree, node.mu, FS.mu. FS.tree is held, shared, by whoever uses keys, and exclusively by who renames; node.mu by who
// looks at or changes a node, during its requests to the server too, but for reads. Rename holds tree alone, so it may lock any node.
package mount
