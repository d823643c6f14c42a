package mount

import (
	"context"
	"maps"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"
)

// Extended attributes are user metadata, under the names user.NAME. Beside them there are those of the version, which are read-only.
const (
	xattrPrefix = "user."
	xattrETag   = "user.stemma.etag"
	xattrLSN    = "user.stemma.lsn"
)

// xattrsLocked returns all extended attributes.
func (n *node) xattrsLocked() map[string]string {
	all := map[string]string{}
	for k, v := range with(n.info.meta, n.newMeta) {
		if !ownMeta(k) {
			all[xattrPrefix+k] = v
		}
	}
	if n.info.lsn != 0 && !n.changed.dirty() && n.newMeta == nil {
		all[xattrETag], all[xattrLSN] = n.info.etag, n.info.lsn.String()
	}
	return all
}

func copyOut(dest []byte, s string) (uint32, syscall.Errno) {
	if len(dest) < len(s) {
		return uint32(len(s)), syscall.ERANGE
	}
	return uint32(copy(dest, s)), 0
}

// Getxattr implements fs.NodeGetxattrer.
func (n *node) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if v, ok := n.xattrsLocked()[name]; ok {
		return copyOut(dest, v)
	}
	return 0, syscall.ENODATA
}

// Listxattr implements fs.NodeListxattrer.
func (n *node) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(n.xattrsLocked())) {
		b.WriteString(k)
		b.WriteByte(0)
	}
	return copyOut(dest, b.String())
}

// Setxattr implements fs.NodeSetxattrer. Metadata has names and values that can be sent as headers.
func (n *node) Setxattr(_ context.Context, name string, value []byte, flags uint32) syscall.Errno {
	const create, replace = 1, 2
	meta, ok := strings.CutPrefix(name, xattrPrefix)
	switch {
	case n.readOnly():
		return syscall.EROFS
	case !ok, name == xattrETag, name == xattrLSN, ownMeta(meta), !metaName(meta):
		return syscall.EOPNOTSUPP
	case len(value) == 0 || !metaText(string(value)):
		return syscall.EINVAL
	case len(meta)+len(value) > maxMetaBytes:
		return syscall.ENOSPC
	}
	return n.setMeta(meta, string(value), func(there bool) syscall.Errno {
		if there && flags&create != 0 {
			return syscall.EEXIST
		} else if !there && flags&replace != 0 {
			return syscall.ENODATA
		}
		return 0
	})
}

// Removexattr implements fs.NodeRemovexattrer.
func (n *node) Removexattr(_ context.Context, name string) syscall.Errno {
	meta, ok := strings.CutPrefix(name, xattrPrefix)
	switch {
	case n.readOnly():
		return syscall.EROFS
	case !ok, ownMeta(meta):
		return syscall.ENODATA
	}
	return n.setMeta(meta, "", func(there bool) syscall.Errno {
		if !there {
			return syscall.ENODATA
		}
		return 0
	})
}

// maxMetaBytes bounds all user metadata of an object.
const maxMetaBytes = 2048

// setMeta changes user metadata, at once unless the file is open.
func (n *node) setMeta(name, value string, check func(there bool) syscall.Errno) syscall.Errno {
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dir && n.parent == nil {
		return syscall.EOPNOTSUPP // it has no object
	}
	if errno := n.refreshLocked(); errno != 0 {
		return errno
	}
	meta := with(n.info.meta, n.newMeta)
	_, there := meta[name]
	if errno := check(there); errno != 0 {
		return errno
	}
	total := len(name) + len(value) - len(meta[name])
	for k, v := range meta {
		total += len(k) + len(v)
	}
	if total > maxMetaBytes-128 { // times and modes may become longer
		return syscall.ENOSPC
	}
	waited := n.changed.dirty() || n.newMeta != nil
	n.describeLocked(map[string]string{name: value})
	defer n.m.account(n)
	if n.handles > 0 {
		return 0
	}
	err := n.flushLocked()
	if err != nil && !waited && !n.gone {
		n.undoLocked()
	}
	return errnoOf(err)
}

// metaName and metaText say what user metadata can be.
func metaName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}

func metaText(s string) bool {
	return utf8.ValidString(s) && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
