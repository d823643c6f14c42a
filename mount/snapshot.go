package mount

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"stemma/client"
)

// snapshotDir is the directory of the past, below the root of a mount. No listing shows it.
const snapshotDir = ".snapshot"

// snapshots returns the node of snapshotDir.
func (n *node) snapshots(ctx context.Context, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if in := n.GetChild(snapshotDir); in != nil {
		in.Operations().(*past).fill(&out.Attr)
		return in, 0
	}
	p := &past{m: n.m}
	p.fill(&out.Attr)
	return n.NewInode(ctx, p, fs.StableAttr{Mode: syscall.S_IFDIR, Ino: n.m.inodes.Add(1) + 1}), 0
}

// past is snapshotDir: it lists the bucket's snapshots, and has the bucket at any point in time.
type past struct {
	fs.Inode
	m *FS
}

func (p *past) fill(out *fuse.Attr) {
	out.Mode, out.Nlink = syscall.S_IFDIR|0o555, 1
	out.Owner = fuse.Owner{Uid: p.m.uid, Gid: p.m.gid}
	out.SetTimes(&p.m.started, &p.m.started, &p.m.started)
}

// Getattr implements fs.NodeGetattrer.
func (p *past) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	p.fill(&out.Attr)
	return 0
}

// Lookup implements fs.NodeLookuper.
func (p *past) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	var at client.LSN
	err := p.m.retry(true, func(ctx context.Context) (err error) {
		at, err = p.m.lsnOf(ctx, name)
		return err
	})
	if client.IsCode(err, "InvalidArgument", "HistoryNotRetained") {
		return nil, syscall.ENOENT
	} else if err != nil {
		return nil, errnoOf(err)
	}
	if in := p.GetChild(name); in != nil {
		if n := in.Operations().(*node); n.at == at {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.attrLocked(&out.Attr)
			return in, 0
		}
	}
	n := &node{m: p.m, dir: true, at: at}
	n.attrLocked(&out.Attr)
	return p.NewInode(ctx, n, fs.StableAttr{Mode: syscall.S_IFDIR, Ino: p.m.inodes.Add(1) + 1}), 0
}

// Readdir implements fs.NodeReaddirer.
func (p *past) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	var entries []fuse.DirEntry
	for after := ""; ; {
		var page *client.SnapshotPage
		err := p.m.retry(true, func(ctx context.Context) (err error) {
			page, err = p.m.c.Snapshots(ctx, p.m.o.Bucket, after, 0)
			return err
		})
		if err != nil {
			return nil, errnoOf(err)
		}
		for _, s := range page.Snapshots {
			name := s.Name
			if name == "" {
				name = s.LSN.String()
			}
			entries = append(entries, fuse.DirEntry{Name: name, Mode: syscall.S_IFDIR})
		}
		if after = page.Next; after == "" {
			return fs.NewListDirStream(entries), 0
		}
	}
}
