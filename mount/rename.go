package mount

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"

	"stemma/client"
)

// Flags of renameat2.
const (
	renameNoReplace = 1
	renameExchange  = 2
)

// Rename implements fs.NodeRenamer, in one commit.
func (n *node) Rename(_ context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, ok := newParent.(*node)
	if !ok || n.readOnly() || to.readOnly() {
		return syscall.EROFS
	}
	if flags&^(renameNoReplace|renameExchange) != 0 {
		return syscall.EINVAL
	}
	n.m.tree.Lock()
	defer n.m.tree.Unlock()
	r := renaming{from: n, to: to, name: name, newName: newName, flags: flags}
	if errno := r.plan(); errno != 0 {
		return errno
	}
	if r.nothing {
		return 0
	}
	if err := n.keepLocked(); err != nil {
		return errnoOf(err)
	}
	return r.run()
}

// renaming is one rename. FS.tree is held exclusively.
type renaming struct {
	from, to      *node
	name, newName string
	flags         uint32

	key, newKey     string
	source, target  *node // that the kernel knows; target is replaced or exchanged
	dir, exchanged  bool  // kinds of the source, and of what it is exchanged with
	nothing         bool
	hidden          string // key of the target, if it is open
	request         client.CommitRequest
	replaced, found bool
}

// plan finds out what is there, and what to do.
func (r *renaming) plan() (errno syscall.Errno) {
	if r.key, errno = r.from.childKeyLocked(r.name); errno != 0 {
		return errno
	}
	if r.newKey, errno = r.to.childKeyLocked(r.newName); errno != 0 {
		return errno
	}
	if r.nothing = r.key == r.newKey; r.nothing {
		return 0
	}
	r.source, r.target = r.from.known(r.name), r.to.known(r.newName)
	l, err := r.from.m.look(r.from, r.key, r.key+"/", r.newKey, r.newKey+"/")
	if err != nil {
		return errnoOf(err)
	}
	file, dir, newFile, newDir := l.Keys[0], l.Keys[1], l.Keys[2], l.Keys[3]
	isDir := func(s client.Seen) bool { return s.Object != nil || s.Below }
	r.dir, r.exchanged = isDir(dir), isDir(newDir)
	there := newFile.Object != nil || r.exchanged
	switch {
	case !r.dir && file.Object == nil:
		return syscall.ENOENT
	case r.flags&renameNoReplace != 0 && there:
		return syscall.EEXIST
	case r.flags&renameExchange != 0 && !there:
		return syscall.ENOENT
	case r.flags&renameExchange != 0:
		r.request.Operations = append(renameOps(r.key, r.newKey, r.dir), renameOps(r.newKey, r.key, r.exchanged)...)
		return 0
	case r.dir && !r.exchanged && there:
		return syscall.ENOTDIR
	case !r.dir && r.exchanged:
		return syscall.EISDIR
	case r.dir && newDir.Below:
		return syscall.ENOTEMPTY
	}
	r.request.Operations = renameOps(r.key, r.newKey, r.dir)
	if r.dir && dir.Object == nil && newDir.Object != nil {
		r.request.Operations = append(r.request.Operations, client.CommitOperation{Op: "delete", Key: r.newKey + "/"})
	}
	if r.replaced = there; !there && !r.dir {
		r.request.If = []client.CommitCondition{{Key: r.newKey, Absent: true}}
	}
	if r.target != nil && !r.dir && there && r.target.open() {
		r.hidden = r.to.m.hiddenKey()
		r.request.Operations = append(r.request.Operations, client.CommitOperation{Op: "rename", Source: r.newKey, Key: r.hidden})
	}
	return 0
}

func renameOps(from, to string, dir bool) []client.CommitOperation {
	if dir {
		return []client.CommitOperation{{Op: "rename-prefix", Source: from + "/", Key: to + "/"}}
	}
	return []client.CommitOperation{{Op: "rename", Source: from, Key: to}}
}

func (n *node) open() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.handles > 0 && !n.gone
}

// run commits, and has the nodes follow.
func (r *renaming) run() syscall.Errno {
	m := r.from.m
	done, err := m.commit(false, r.request)
	if client.IsCode(err, "InvalidRequest") && !r.dir && r.flags&renameExchange == 0 {
		done, err = r.byCopy()
	}
	switch {
	case client.IsCode(err, "RequestTooLarge", "InvalidRequest"):
		return syscall.EXDEV // has mv copy one by one
	case client.IsCode(err, "PreconditionFailed"):
		return syscall.ESTALE
	case err != nil:
		return errnoOf(err)
	}
	r.from.altered(r.name)
	r.to.altered(r.newName)
	exchange := r.flags&renameExchange != 0
	if r.target != nil {
		r.target.mu.Lock()
		switch {
		case exchange:
			r.target.movedLocked(r.from, r.name, done.LSN)
		case r.hidden != "":
			r.target.hideLocked(r.hidden, done.LSN)
		default:
			r.target.dropLocked()
		}
		r.target.mu.Unlock()
	}
	if r.source != nil {
		r.source.mu.Lock()
		r.source.movedLocked(r.to, r.newName, done.LSN)
		r.source.mu.Unlock()
	}
	return 0
}

// byCopy renames an object that is written in place where the bucket has versions: then the old key keeps what it was, and
// the new one gets a copy by handle. It takes several commits, of which the one that makes the new key is the first to show.
func (r *renaming) byCopy() (*client.Committed, error) {
	m := r.from.m
	if r.hidden != "" {
		if err := m.copyAway(r.newKey, r.hidden); err != nil {
			return nil, err
		}
	}
	if err := m.copyAway(r.key, r.newKey); err != nil {
		return nil, err
	}
	return m.commit(true, client.CommitRequest{Operations: []client.CommitOperation{{Op: "delete", Key: r.key}}})
}

// movedLocked gives a node another place.
func (n *node) movedLocked(parent *node, name string, lsn client.LSN) {
	n.parent, n.name = parent, name
	if !n.dir || n.info.lsn != 0 {
		n.becameLocked(lsn)
	}
}
