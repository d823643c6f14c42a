package tools

import (
	"errors"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// errReadOnly is the answer to whatever would change a file.
var errReadOnly = errors.New("tools: read-only")

// readOnlyFS refuses what would change the file system, so that a mistake in a
// decoder's opener cannot harm a store. Lock passes: it leaves contents alone.
type readOnlyFS struct{ vfs.FS }

// Unwrap hides what lies below: no extension reaches past the refusals.
func (readOnlyFS) Unwrap() vfs.FS { return nil }

func (readOnlyFS) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, errReadOnly }
func (readOnlyFS) Link(string, string) error                              { return errReadOnly }
func (readOnlyFS) Remove(string) error                                    { return errReadOnly }
func (readOnlyFS) RemoveAll(string) error                                 { return errReadOnly }
func (readOnlyFS) Rename(string, string) error                            { return errReadOnly }
func (readOnlyFS) MkdirAll(string, os.FileMode) error                     { return errReadOnly }

func (readOnlyFS) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errReadOnly
}

func (readOnlyFS) ReuseForWrite(string, string, vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errReadOnly
}
