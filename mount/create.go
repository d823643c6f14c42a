package mount

import (
	"context"
	"maps"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"stemma/client"
)

const newContentType = "application/octet-stream"

// newMeta is the metadata of what a caller makes.
func (m *FS) newMeta(ctx context.Context, mode uint32) map[string]string {
	uid, gid := m.uid, m.gid
	if caller, ok := fuse.FromContext(ctx); ok {
		uid, gid = caller.Uid, caller.Gid
	}
	return map[string]string{metaMode: modeText(mode), metaUID: modeText(uid), metaGID: modeText(gid), metaMtime: mtimeText(time.Now())}
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	mode = syscall.S_IFREG | mode&0o7777
	if n.canWait(flags) {
		in, errno := n.makeLater(ctx, name, mode, out)
		if errno != 0 {
			return nil, nil, 0, errno
		}
		return in, &handle{in.Operations().(*node), true}, 0, 0
	}
	in, errno := n.make(ctx, name, mode, nil, out)
	if errno == syscall.EEXIST && flags&syscall.O_EXCL == 0 { // another client was faster
		if in, errno = n.existing(ctx, name, out); errno != 0 {
			return nil, nil, 0, errno
		}
	} else if errno != 0 {
		return nil, nil, 0, errno
	}
	c := in.Operations().(*node)
	c.mu.Lock()
	defer c.mu.Unlock()
	if flags&syscall.O_TRUNC != 0 && c.changed.size > 0 {
		c.resizeLocked(0)
		n.m.account(c)
		c.attrLocked(&out.Attr)
	}
	c.cached = c.info.lsn
	c.handles++
	return in, &handle{c, flags&syscall.O_ACCMODE != syscall.O_RDONLY}, 0, 0
}

// existing finds a file that turned out to be there.
func (n *node) existing(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	l, err := n.m.look(n, n.keyLocked()+name)
	switch {
	case err != nil:
		return nil, errnoOf(err)
	case l.Keys[0].Object == nil:
		return nil, syscall.ESTALE
	}
	in := n.newChild(ctx, name, false, attributesOf(l.Keys[0].Object), l.LSN, out)
	if in.Operations().(*node).kind != syscall.S_IFREG {
		return nil, syscall.ESTALE
	}
	return in, 0
}

// A new file that is opened to be written from its beginning on, and not exclusively, is known to this mount alone until it is
// written back, at its close at the latest: so it is one commit. Whatever looks at keys has it made before: listings, renames, removals; and fsync of its directory.

// canWait reports whether a new file may be made later. Who may not make files in the directory is told at once: the first one is
// made at once.
func (n *node) canWait(flags uint32) bool {
	return flags&(syscall.O_EXCL|syscall.O_TRUNC) == syscall.O_TRUNC && flags&syscall.O_ACCMODE != syscall.O_RDONLY && n.makes.Load()
}

// makeLater returns the node of a new file, which is open, and has no object yet. FS.tree is held.
func (n *node) makeLater(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if n.readOnly() {
		return nil, syscall.EROFS
	}
	if _, errno := n.childKeyLocked(name); errno != 0 {
		return nil, errno
	}
	meta := n.m.newMeta(ctx, mode)
	n.altered(name)
	c := &node{m: n.m, kind: syscall.S_IFREG, parent: n, name: name, handles: 1, newMeta: meta, info: attributes{contentType: newContentType, meta: maps.Clone(meta)}}
	c.attrLocked(&out.Attr)
	n.m.account(c)
	return n.NewInode(ctx, c, fs.StableAttr{Mode: c.kind, Ino: n.m.inodes.Add(1) + 1}), 0
}

// unmadeLocked reports whether a file has no object yet.
func (n *node) unmadeLocked() bool {
	return !n.dir && n.at == 0 && n.info.lsn == 0 && n.newMeta != nil && n.orphan == "" && !n.gone
}

func (n *node) unmade() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.unmadeLocked()
}

// neverMade forgets a file that was closed and could not be made. It reports whether the node is one.
func (n *node) neverMade() bool {
	if n == nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.handles > 0 || !n.unmadeLocked() {
		return false
	}
	n.dropLocked()
	return true
}

// ensureMade has an object made for a file, or for all files below a directory, if there is none yet. FS.tree is held.
func (n *node) ensureMade() syscall.Errno {
	if n == nil {
		return 0
	}
	for _, c := range n.m.dirtySince(time.Now()) {
		if c.within(n) && c.unmade() {
			if err := c.flushTreeLocked(); err != nil {
				return errnoOf(err)
			}
		}
	}
	return 0
}

// within reports whether a node is another one, or below it. FS.tree is held.
func (n *node) within(dir *node) bool {
	for ; n != nil; n = n.parent {
		if n == dir {
			return true
		}
	}
	return false
}

// makeLocked puts a file that has no object yet. What another client has made at its key meanwhile it replaces, as if that had been
// opened and cut. FS.tree is held.
func (n *node) makeLocked(key string) error {
	large := n.changed.size > wholeBytes // it is put empty, and written in place then
	var p []byte
	if !large {
		p = make([]byte, n.changed.size)
		n.changed.read(p, 0)
	}
	meta := with(n.info.meta, n.newMeta)
	condition := client.CommitCondition{Key: key, Absent: true}
	for try := 0; ; try++ {
		done, err := n.putAs(key, condition, p, meta)
		if err == nil {
			waits := n.changed
			n.changed.size = uint64(len(p))
			n.writtenLocked(done.LSN, n.changed.size, meta)
			if n.info.etag = done.Results[0].ETag; large {
				n.changed = waits
			}
			return nil
		}
		if !client.IsCode(err, "PreconditionFailed") || try == maxRenames {
			return err
		}
		l, err := n.m.look(n, key)
		if err != nil {
			return err
		}
		condition = client.CommitCondition{Key: key, Absent: true}
		if o := l.Keys[0].Object; o != nil {
			condition = client.CommitCondition{Key: key, LSN: o.LSN}
		}
	}
}
