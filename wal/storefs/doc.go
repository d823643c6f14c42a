// Package storefs is the production file system of a store: Pebble's vfs.FS
// over the operating system, with direct I/O, a reserve for a full disk, and
// the few calls that vfs.FS lacks. It also has the test double, MemFS, that
// crashes.
//
// Files are told apart by the category they are created or opened with:
//
//	Direct      O_DIRECT; offsets and lengths are multiples of BlockSize
//	User        buffered; a full disk is the user's error
//	any other   buffered; a full disk is met from the ballast
//
// # The ballast
//
// The file BALLAST in Options.Dir holds allocated, unused space. When a write
// or a change of the namespace fails for lack of space, and it is not one of
// category User, the file is cut by a piece of 64 MiB and the call is made
// again, until no piece is left. While the ballast is not whole, or less than
// its size is free beside it, AdmitUserWrite refuses; so what is left is for
// the catalog, flush and GC, which are what frees space. A goroutine that
// Close stops looks twice a second and grows the ballast again when more than
// twice its size is free.
//
// BALLAST has no format: its bytes are never read or written.
package storefs
