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
	if errno := n.ensureRenamable(to, name, newName); errno != 0 {
		return errno
	}
	for try := 0; ; try++ {
		r := renaming{from: n, to: to, name: name, newName: newName, flags: flags}
		errno := r.plan()
		if errno == 0 && !r.nothing {
			if err := n.keepLocked(); err != nil {
				return errnoOf(err)
			}
			errno = r.run()
		}
		if errno != syscall.EAGAIN || try == maxRenames {
			return errno
		}
	}
}

// ensureRenamable has objects made for what is renamed and replaced.
func (n *node) ensureRenamable(to *node, name, newName string) syscall.Errno {
	for _, c := range []*node{n.known(name), to.known(newName)} {
		if errno := c.ensureMade(); errno != 0 {
			return errno
		}
	}
	return 0
}

// maxRenames is how often a rename is planned anew because another client has changed what it is about.
const maxRenames = 20

// renaming is one rename. FS.tree is held exclusively.
type renaming struct {
	from, to      *node
	name, newName string
	flags         uint32

	key, newKey    string
	source, target *node // that the kernel knows; target is replaced or exchanged
	dir, exchanged bool  // kinds of the source, and of what it is exchanged with
	nothing        bool
	hidden         string // key of the target, if it is open
	request        client.CommitRequest
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
	l, err := r.from.m.look(r.from, r.key, r.key+"/", r.newKey, r.newKey+"/")
	if err != nil {
		return errnoOf(err)
	}
	file, dir, newFile, newDir := l.Keys[0], l.Keys[1], l.Keys[2], l.Keys[3]
	isDir := func(s client.Seen) bool { return s.Object != nil || s.Below }
	r.dir, r.exchanged = isDir(dir), isDir(newDir)
	r.source, r.target = r.from.known(r.name), r.to.known(r.newName)
	if !r.dir {
		r.source = r.source.standsFor(file.Object, l.LSN)
	}
	if !r.exchanged {
		r.target = r.target.standsFor(newFile.Object, l.LSN)
	}
	for i, s := range []client.Seen{file, newFile} {
		if key := []string{r.key, r.newKey}[i]; s.Object != nil {
			r.request.If = append(r.request.If, client.CommitCondition{Key: key, LSN: s.Object.LSN})
		} else {
			r.request.If = append(r.request.If, client.CommitCondition{Key: key, Absent: true})
		}
	}
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

// standsFor returns the node if it is one of an object as it is, else nil: then it stands for the past from now on.
func (n *node) standsFor(o *client.ObjectInfo, at client.LSN) *node {
	if n == nil || n.dir {
		return n
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if o == nil || n.gone || !n.foundLocked(attributesOf(o), at) {
		n.endLocked()
		return nil
	}
	return n
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
	switch {
	case client.IsCode(err, "RequestTooLarge", "InvalidRequest"):
		return syscall.EXDEV // has mv copy one by one
	case client.IsCode(err, "PreconditionFailed"):
		return syscall.EAGAIN
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
			r.target.movedLocked(r.from, r.name, done.LSN, done.Results[1].File)
		case r.hidden != "":
			r.target.hiddenLocked(r.hidden, done.LSN, done.Results[len(done.Results)-1].File)
		default:
			r.target.endLocked()
		}
		r.target.mu.Unlock()
	}
	if r.source != nil {
		r.source.mu.Lock()
		r.source.movedLocked(r.to, r.newName, done.LSN, done.Results[0].File)
		r.source.mu.Unlock()
	}
	return 0
}

// movedLocked gives a node another place, by a commit; file is that of what is written in place.
func (n *node) movedLocked(parent *node, name string, lsn client.LSN, file string) {
	n.parent, n.name = parent, name
	if n.dir {
		n.moved = lsn
	}
	if !n.dir || n.info.lsn != 0 {
		n.becameLocked(lsn, file)
	}
}
