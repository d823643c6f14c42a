package mount

import (
	"context"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"stemma/client"
)

// Readdir implements fs.NodeReaddirer. All of a listing is of one LSN.
func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	_ = n.ensureMade() // what cannot be made is not listed
	s := &dirStream{n: n}
	return s, s.fetchLocked()
}

// dirStream goes through a directory, page by page.
type dirStream struct {
	n       *node
	entries []fuse.DirEntry
	token   string
	errno   syscall.Errno
}

// fetchLocked gets pages until there is something on one. FS.tree is held.
func (s *dirStream) fetchLocked() syscall.Errno {
	prefix := s.n.keyLocked()
	for {
		var page *client.ObjectPage
		err := s.n.m.retry(true, func(ctx context.Context) (err error) {
			o := client.ObjectListOptions{Prefix: prefix, Delimiter: "/", Token: s.token}
			if s.token == "" {
				o.At = s.n.point() // the token brings it
			}
			page, err = s.n.m.c.Objects(ctx, s.n.m.o.Bucket, o)
			return err
		})
		if err != nil {
			return errnoOf(err)
		}
		s.take(prefix, page)
		if s.token = page.Next; len(s.entries) > 0 || s.token == "" {
			return 0
		}
	}
}

func (s *dirStream) take(prefix string, page *client.ObjectPage) {
	n := s.n
	dirs := make(map[string]bool, len(page.Prefixes))
	for _, p := range page.Prefixes {
		name := strings.TrimSuffix(p[len(prefix):], "/")
		if dirs[name] = true; validName(name) && (n.parent != nil || name != hiddenDir) {
			s.entries = append(s.entries, fuse.DirEntry{Name: name, Mode: syscall.S_IFDIR})
		}
	}
	recent := listed{objects: make(map[string]*client.ObjectInfo, len(page.Objects)), lsn: page.LSN, until: time.Now().Add(n.m.o.TTL)}
	for i := range page.Objects {
		o := &page.Objects[i]
		name := o.Key[len(prefix):]
		if !validName(name) || dirs[name] { // a directory goes before a file of its name
			continue
		}
		recent.objects[name] = o
		s.entries = append(s.entries, fuse.DirEntry{Name: name, Mode: modeOf(o.Metadata, false) & syscall.S_IFMT})
	}
	n.mu.Lock()
	n.recent = recent
	n.mu.Unlock()
}

func validName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.Contains(name, "\x00")
}

// HasNext implements fs.DirStream.
func (s *dirStream) HasNext() bool {
	if len(s.entries) == 0 && s.token != "" && s.errno == 0 {
		s.n.m.tree.RLock()
		s.errno = s.fetchLocked()
		s.n.m.tree.RUnlock()
	}
	return len(s.entries) > 0 || s.errno != 0
}

// Seekdir implements fs.FileSeekdirer: places are numbers of entries, of which it goes through all before.
func (s *dirStream) Seekdir(_ context.Context, off uint64) syscall.Errno {
	s.n.m.tree.RLock()
	s.entries, s.token, s.errno = nil, "", 0
	errno := s.fetchLocked()
	s.n.m.tree.RUnlock()
	for ; errno == 0 && off > 0 && s.HasNext(); off-- {
		_, errno = s.Next()
	}
	return errno
}

// Next implements fs.DirStream.
func (s *dirStream) Next() (fuse.DirEntry, syscall.Errno) {
	if s.errno != 0 {
		errno := s.errno
		s.errno, s.token = 0, ""
		return fuse.DirEntry{}, errno
	}
	e := s.entries[0]
	s.entries = s.entries[1:]
	return e, 0
}

// Close implements fs.DirStream.
func (s *dirStream) Close() {}

// make puts an object where none is, and returns the node for it. FS.tree is held.
func (n *node) make(ctx context.Context, name string, mode uint32, data []byte, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if n.readOnly() {
		return nil, syscall.EROFS
	}
	key, errno := n.childKeyLocked(name)
	if errno != 0 {
		return nil, errno
	}
	dir := mode&syscall.S_IFMT == syscall.S_IFDIR
	kind := newContentType
	if dir {
		kind, key = "application/x-directory", key+"/"
	}
	meta := n.m.newMeta(ctx, mode)
	done, err := n.m.commit(false, client.CommitRequest{
		If:         []client.CommitCondition{{Key: key, Absent: true}},
		Operations: []client.CommitOperation{{Op: "put", Key: key, Data: data, ContentType: kind, Metadata: meta}},
	})
	n.makes.Store(err == nil)
	if err != nil {
		return nil, errnoOf(err)
	}
	n.altered(name)
	info := attributes{lsn: done.LSN, size: uint64(len(data)), etag: done.Results[0].ETag, contentType: kind, meta: meta}
	return n.newChild(ctx, name, dir, info, done.LSN, out), 0
}

// altered says that a directory has something else at a name.
func (n *node) altered(name string) {
	n.forgetListed(name)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.touched = time.Now()
}

// Mknod implements fs.NodeMknoder, of files, pipes and sockets.
func (n *node) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG, syscall.S_IFIFO, syscall.S_IFSOCK:
	default:
		return nil, syscall.EPERM
	}
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	return n.make(ctx, name, mode, nil, out)
}

// Mkdir implements fs.NodeMkdirer.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	return n.make(ctx, name, syscall.S_IFDIR|mode&0o7777, nil, out)
}

// Symlink implements fs.NodeSymlinker.
func (n *node) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if len(target) > 4095 {
		return nil, syscall.ENAMETOOLONG
	}
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	return n.make(ctx, name, syscall.S_IFLNK|0o777, []byte(target), out)
}

// Link implements fs.NodeLinker: an object has one key.
func (n *node) Link(context.Context, fs.InodeEmbedder, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// keepLocked makes the object of a directory that has none, so that it stays when what it has goes. FS.tree is held.
func (n *node) keepLocked() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.parent == nil || n.info.lsn != 0 {
		return nil
	}
	key, meta := n.keyLocked(), map[string]string{metaMode: modeText(syscall.S_IFDIR | 0o755)}
	done, err := n.m.commit(true, client.CommitRequest{
		If:         []client.CommitCondition{{Key: key, Absent: true}},
		Operations: []client.CommitOperation{{Op: "put", Key: key, ContentType: "application/x-directory", Metadata: meta}},
	})
	switch {
	case err == nil:
		n.info.lsn, n.info.meta, n.asOf = done.LSN, meta, done.LSN
	case client.IsCode(err, "PreconditionFailed"): // it has one by now
		if errno := n.refreshLocked(); errno != 0 {
			return errno
		}
		return nil
	}
	return err
}

// remove removes what is at a name, which how does with the tree locked; c is the node of it, if the kernel knows one.
func (n *node) remove(name string, how func(key, name string, c *node) syscall.Errno) syscall.Errno {
	if n.readOnly() {
		return syscall.EROFS
	}
	n.m.tree.Lock()
	defer n.m.tree.Unlock()
	key, errno := n.childKeyLocked(name)
	if errno != 0 {
		return errno
	}
	c := n.known(name)
	if c.neverMade() {
		n.altered(name)
		return 0
	}
	if errno := c.ensureMade(); errno != 0 {
		return errno
	}
	return how(key, name, c)
}

// Unlink implements fs.NodeUnlinker. What is open gets a hidden key until it is closed.
func (n *node) Unlink(_ context.Context, name string) syscall.Errno { return n.remove(name, n.unlink) }

func (n *node) unlink(key, name string, c *node) syscall.Errno {
	if err := n.keepLocked(); err != nil {
		return errnoOf(err)
	}
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.handles > 0 && !c.gone {
			done, err := c.hideLocked(key)
			if done {
				n.altered(name)
				return 0
			} else if err != nil {
				return errnoOf(err)
			}
		}
	}
	_, err := n.m.commit(false, client.CommitRequest{
		If:         []client.CommitCondition{{Key: key, ETag: "*"}},
		Operations: []client.CommitOperation{{Op: "delete", Key: key}},
	})
	if client.IsCode(err, "PreconditionFailed") {
		err = syscall.ENOENT
	}
	if err != nil {
		return errnoOf(err)
	}
	n.altered(name)
	if c != nil {
		c.endLocked()
	}
	return 0
}

// hideLocked gives what is open a hidden key. It is not done if another client has replaced it: then the node stands for the past.
func (n *node) hideLocked(key string) (done bool, err error) {
	hidden := n.m.hiddenKey()
	same := []client.CommitCondition{{Key: key, LSN: n.info.lsn}}
	moved, err := n.m.commit(false, client.CommitRequest{If: same, Operations: []client.CommitOperation{{Op: "rename", Source: key, Key: hidden}}})
	if client.IsCode(err, "PreconditionFailed") {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n.hiddenLocked(hidden, moved.LSN, moved.Results[0].File)
	return true, nil
}

func (m *FS) hiddenKey() string { return m.hidden + strconv.FormatUint(m.hiddenCount.Add(1), 10) }

// hiddenLocked says that a node lives on under a hidden key.
func (n *node) hiddenLocked(key string, lsn client.LSN, file string) {
	n.orphan = key
	n.becameLocked(lsn, file)
}

// endLocked says that there is no object for a node any more. What is open of it is read in the past.
func (n *node) endLocked() {
	if n.gone = true; n.handles == 0 {
		n.dropLocked()
	}
}

// becameLocked says that a commit of this mount has given the object, as it was, another version; file is that of what is
// written in place, which is another one where the bucket keeps what it was before a rename.
func (n *node) becameLocked(lsn client.LSN, file string) {
	if n.cached == n.info.lsn {
		n.cached = lsn
	}
	n.info.lsn, n.info.file, n.asOf = lsn, file, lsn
}

// known returns the node at a name, if the kernel knows one.
func (n *node) known(name string) *node {
	if in := n.GetChild(name); in != nil {
		if c, ok := in.Operations().(*node); ok && c.parent == n && c.name == name && c.orphan == "" {
			return c
		}
	}
	return nil
}

// Rmdir implements fs.NodeRmdirer.
func (n *node) Rmdir(_ context.Context, name string) syscall.Errno { return n.remove(name, n.rmdir) }

func (n *node) rmdir(key, name string, c *node) syscall.Errno {
	l, err := n.m.look(n, key+"/")
	switch {
	case err != nil:
		return errnoOf(err)
	case l.Keys[0].Below:
		return syscall.ENOTEMPTY
	case l.Keys[0].Object == nil:
		return syscall.ENOENT
	}
	if err := n.keepLocked(); err != nil {
		return errnoOf(err)
	}
	if _, err := n.m.commit(true, client.CommitRequest{Operations: []client.CommitOperation{{Op: "delete", Key: key + "/"}}}); err != nil {
		return errnoOf(err)
	}
	if c != nil {
		c.mu.Lock()
		c.orphan = key + "/" // nothing can be made in it
		c.dropLocked()
		c.mu.Unlock()
	}
	n.altered(name)
	return 0
}
