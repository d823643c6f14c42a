package mount

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"stemma/client"
)

// node is a file or directory that the kernel knows.
type node struct {
	fs.Inode
	m    *FS
	dir  bool
	kind uint32     // S_IFREG and so on, of a file
	at   client.LSN // what it is of; zero: the tip

	// FS.tree guards these.
	parent *node // nil: the root of a mount or a snapshot
	name   string
	orphan string     // the key of what was unlinked while it was open
	moved  client.LSN // when this mount has renamed the directory last

	mu      sync.Mutex
	info    attributes // of the object
	asOf    client.LSN // when info was true; what the server said of earlier moments is old
	checked time.Time  // when info was asked for; zero: it must be asked for
	handles int
	changed overlay           // of a file
	newMeta map[string]string // user metadata that waits, too; empty: it is removed
	drop    bool              // the kernel must forget what it has cached
	cached  client.LSN        // what version the kernel has cached bytes of
	partial int               // whole puts of a file of which only a part was new
	gone    bool              // it was unlinked, or another client has removed it: what is written leads nowhere
	recent  listed            // of a directory
	touched time.Time         // when this mount has last changed what a directory has

	makes atomic.Bool // this mount has made something in the directory, and was not refused since

	counted int // of changed.bytes in FS.mu.bytes; FS.mu guards it
}

// listed is a page of a directory, for the lookups that the kernel makes of what it lists.
type listed struct {
	objects map[string]*client.ObjectInfo
	lsn     client.LSN // that it was read at
	until   time.Time
}

// keyLocked returns the key of a file, or the prefix of a directory. FS.tree is held.
func (n *node) keyLocked() string {
	if n.orphan != "" {
		return n.orphan
	}
	var names []string
	for d := n; d.parent != nil; d = d.parent {
		names = append(names, d.name)
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteString(names[i])
		if i > 0 || n.dir {
			b.WriteByte('/')
		}
	}
	return b.String()
}

// maxKeyBytes is how long a key can be.
const maxKeyBytes = 1024

// childKeyLocked returns the key that a file has, or is to have.
func (n *node) childKeyLocked(name string) (string, syscall.Errno) {
	key := n.keyLocked() + name
	switch {
	case len(key) >= maxKeyBytes || len(name) > 255:
		return "", syscall.ENAMETOOLONG
	case !utf8.ValidString(name):
		return "", syscall.EILSEQ
	case n.parent == nil && (name == snapshotDir || name == hiddenDir):
		return "", syscall.EPERM
	case n.orphan != "":
		return "", syscall.ENOENT
	}
	return key, 0
}

func (n *node) point() string {
	if n.at == 0 {
		return ""
	}
	return n.at.String()
}

// newChild makes a node for what was at a name at an LSN, or returns the one that the kernel knows. FS.tree is held.
func (n *node) newChild(ctx context.Context, name string, dir bool, info attributes, at client.LSN, out *fuse.EntryOut) *fs.Inode {
	kind := modeOf(info.meta, dir) & syscall.S_IFMT
	if c := n.known(name); c != nil && c.StableAttr().Mode == kind {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.gone && (kind != syscall.S_IFLNK || c.info.lsn == info.lsn) && c.foundLocked(info, at) { // the kernel keeps where links lead
			c.attrLocked(&out.Attr)
			return c.EmbeddedInode()
		}
	}
	c := &node{m: n.m, dir: dir, kind: kind, at: n.at, parent: n, name: name}
	c.foundLocked(info, at)
	c.attrLocked(&out.Attr)
	return n.NewInode(ctx, c, fs.StableAttr{Mode: kind, Ino: n.m.inodes.Add(1) + 1})
}

// foundLocked takes over what the server says that the object was at an LSN. It reports whether the node is still the one for it: what is
// open stays what it was when another client replaces it.
func (n *node) foundLocked(info attributes, at client.LSN) bool {
	switch {
	case at < n.asOf:
		return true // what is known here is newer
	case n.handles > 0 && n.versionLocked().lsn != info.lsn && !n.info.sameFile(&info):
		return false
	case n.changed.dirty() || n.newMeta != nil:
		return true
	}
	if n.handles > 0 && n.cached != info.lsn {
		n.cached, n.drop = 0, true
	}
	n.info, n.changed, n.asOf, n.checked = info, clean(info.size), at, time.Now()
	return true
}

// dropPages has the kernel forget the bytes of a file that another client has changed while it is open. No lock is held: the kernel
// waits for reads that are under way.
func (n *node) dropPages() {
	n.mu.Lock()
	drop := n.drop
	n.drop = false
	n.mu.Unlock()
	if drop {
		_ = n.NotifyContent(0, 0)
	}
}

// attrLocked fills in what stat shows.
func (n *node) attrLocked(out *fuse.Attr) {
	meta := n.info.meta
	if n.newMeta != nil {
		meta = with(meta, n.newMeta)
	}
	out.Mode = modeOf(meta, n.dir)
	if !n.dir {
		out.Mode = n.kind | out.Mode&0o7777
		out.Size = n.changed.size
	}
	out.Nlink = 1
	if n.orphan != "" {
		out.Nlink = 0
	}
	out.Blksize = 64 << 10
	out.Blocks = (out.Size + 511) / 512
	out.Owner = fuse.Owner{Uid: idOf(meta, metaUID, n.m.uid), Gid: idOf(meta, metaGID, n.m.gid)}
	mtime, ctime := mtimeOf(meta, n.info.lsn), time.Unix(0, int64(n.info.lsn))
	if n.info.lsn == 0 {
		ctime = n.m.started
		if meta[metaMtime] == "" {
			mtime = ctime
		}
	}
	if n.touched.After(mtime) {
		mtime, ctime = n.touched, n.touched
	}
	if n.newMeta != nil {
		if ctime = time.Now(); n.newMeta[metaMtime] != "" && mtime.After(ctime) {
			ctime = mtime
		}
	}
	out.SetTimes(&mtime, &mtime, &ctime)
}

// refreshLocked asks the server what version there is, if nothing waits here that is newer. FS.tree is held. A file that
// is not there, or another one, is ENOENT; a directory always is.
func (n *node) refreshLocked() syscall.Errno {
	if n.orphan != "" || n.at != 0 && !n.checked.IsZero() || n.changed.dirty() || n.newMeta != nil {
		return 0
	}
	if n.gone {
		return syscall.ENOENT
	}
	key := n.keyLocked()
	if n.dir && key == "" {
		n.checked = time.Now()
		return 0
	}
	l, err := n.m.look(n, key)
	if err != nil {
		return errnoOf(err)
	}
	if l.Keys[0].Object == nil && !n.dir || !n.foundLocked(attributesOf(l.Keys[0].Object), l.LSN) {
		return syscall.ENOENT
	}
	return 0
}

// look asks what is at some keys.
func (m *FS) look(n *node, keys ...string) (l *client.Looks, err error) {
	err = m.retry(true, func(ctx context.Context) (err error) {
		l, err = m.c.Look(ctx, m.o.Bucket, n.point(), keys...)
		return err
	})
	return l, err
}

// commit makes changes at once, unless a condition fails.
func (m *FS) commit(repeatable bool, r client.CommitRequest) (*client.Committed, error) {
	var done *client.Committed
	err := m.retry(repeatable, func(ctx context.Context) (err error) {
		done, err = m.c.Commit(ctx, m.o.Bucket, r)
		return err
	})
	if err == nil {
		m.commits.Add(1)
	}
	return done, err
}

// Lookup implements fs.NodeLookuper.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (in *fs.Inode, errno syscall.Errno) {
	if n == n.m.root && n.at == 0 && name == snapshotDir {
		return n.snapshots(ctx, out)
	}
	defer func() {
		if errno == 0 {
			in.Operations().(*node).dropPages()
		}
	}()
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	key, errno := n.childKeyLocked(name)
	switch errno {
	case 0:
	case syscall.EPERM:
		return nil, syscall.ENOENT
	default:
		return nil, errno
	}
	if c := n.known(name); c != nil && c.unmade() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.attrLocked(&out.Attr)
		return c.EmbeddedInode(), 0
	}
	if o, at := n.listedAt(name); o != nil {
		return n.newChild(ctx, name, false, attributesOf(o), at, out), 0
	}
	l, err := n.m.look(n, key, key+"/")
	if err != nil {
		return nil, errnoOf(err)
	}
	switch file, dir := l.Keys[0], l.Keys[1]; {
	case dir.Object != nil || dir.Below:
		return n.newChild(ctx, name, true, attributesOf(dir.Object), l.LSN, out), 0
	case file.Object != nil:
		return n.newChild(ctx, name, false, attributesOf(file.Object), l.LSN, out), 0
	}
	if c := n.known(name); c != nil && !c.dir {
		c.vanished()
	}
	return nil, syscall.ENOENT
}

// vanished remembers that another client has removed the file. FS.tree is held.
func (n *node) vanished() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.orphan == "" {
		n.gone = true
	}
}

// listedAt returns what file the directory's last page had at a name, if that is fresh, and the LSN of the page.
func (n *node) listedAt(name string) (*client.ObjectInfo, client.LSN) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Now().After(n.recent.until) {
		n.recent = listed{}
	}
	return n.recent.objects[name], n.recent.lsn
}

// forgetListed has the next lookup of a name ask the server.
func (n *node) forgetListed(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.recent.objects, name)
}

// Getattr implements fs.NodeGetattrer.
func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	defer n.dropPages()
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.checked) > n.m.o.TTL {
		switch errno := n.refreshLocked(); {
		case errno == syscall.ENOENT && n.handles > 0: // what is open can be read as it was
		case errno == syscall.ENOENT:
			return syscall.ESTALE
		case errno != 0:
			return errno
		}
	}
	n.attrLocked(&out.Attr)
	return 0
}

// Setattr implements fs.NodeSetattrer.
func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if n.readOnly() {
		return syscall.EROFS
	}
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.handles == 0 {
		if errno := n.refreshLocked(); errno == syscall.ENOENT {
			return syscall.ESTALE
		} else if errno != 0 {
			return errno
		}
	}
	waited := n.changed.dirty() || n.newMeta != nil
	set := map[string]string{}
	if mode, ok := in.GetMode(); ok {
		kind := n.kind
		if n.dir {
			kind = syscall.S_IFDIR
		}
		set[metaMode] = modeText(kind | mode&0o7777)
	}
	if uid, ok := in.GetUID(); ok {
		set[metaUID] = modeText(uid)
	}
	if gid, ok := in.GetGID(); ok {
		set[metaGID] = modeText(gid)
	}
	if size, ok := in.GetSize(); ok && !n.dir {
		if errno := n.resizeLocked(size); errno != 0 {
			return errno
		}
	}
	if mtime, ok := in.GetMTime(); ok {
		set[metaMtime], n.touched = mtimeText(mtime), time.Time{}
	}
	if n.dir && n.parent == nil { // it has no key to keep that at
		n.info.meta = with(n.info.meta, set)
		n.attrLocked(&out.Attr)
		return 0
	}
	n.describeLocked(set)
	if n.handles == 0 {
		err := n.flushLocked()
		if err != nil && !waited && !n.gone {
			n.undoLocked() // who asked is told
		}
		if n.m.account(n); err != nil {
			return errnoOf(err)
		}
	}
	n.m.account(n)
	n.attrLocked(&out.Attr)
	return 0
}

// describeLocked has metadata wait to be written back.
func (n *node) describeLocked(set map[string]string) {
	if len(set) == 0 {
		return
	}
	if n.newMeta == nil {
		n.newMeta = map[string]string{}
	}
	for k, v := range set {
		n.newMeta[k] = v
	}
}

func (n *node) readOnly() bool { return n.at != 0 || n.m.frozen() }
