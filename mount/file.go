package mount

import (
	"context"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"stemma/client"
)

// handle is an open file.
type handle struct {
	n     *node
	write bool
}

// maxFileBytes is how long an object can be.
const maxFileBytes = 5 << 40

// Open implements fs.NodeOpener. It asks which version there is.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	write := flags&syscall.O_ACCMODE != syscall.O_RDONLY
	if write && n.readOnly() {
		return nil, 0, syscall.EROFS
	}
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if errno := n.refreshLocked(); errno == syscall.ENOENT {
		return nil, 0, syscall.ESTALE // the kernel looks the name up again
	} else if errno != 0 {
		return nil, 0, errno
	}
	keep := uint32(fuse.FOPEN_KEEP_CACHE)
	if n.cached != n.info.lsn { // the kernel drops bytes, and asks for the size
		keep = 0
		_ = n.NotifyContent(-1, 0)
	}
	n.cached = n.info.lsn
	n.handles++
	return &handle{n, write}, keep, 0
}

// Read implements fs.FileReader.
func (h *handle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, errno := h.n.read(dest, uint64(off))
	if errno != 0 {
		return nil, errno
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// read reads what waits here, and below it the object, of which it holds no lock meanwhile: the kernel does not read and
// write one page at once.
func (n *node) read(p []byte, off uint64) (int, syscall.Errno) {
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	n.mu.Lock()
	got, gaps := n.changed.read(p, off)
	v := n.versionLocked()
	n.mu.Unlock()
	if len(gaps) == 0 {
		return got, 0
	}
	return got, n.fillLocked(n.keyLocked(), v, gaps)
}

// fillLocked reads bytes of a version of the object: of the tip if that is it still, else of the past. What the object does not have
// stays as it is. FS.tree is held. ESTALE: another client has removed or replaced it, and the past is gone.
func (n *node) fillLocked(key string, v version, gaps []gap) syscall.Errno {
	reads := make([]client.PageRead, len(gaps))
	for i, g := range gaps {
		reads[i] = client.PageRead{Key: key, At: n.at, Off: g.off, Len: uint64(len(g.p))}
	}
	results, err := n.m.readPages(reads)
	if err == nil && n.at == 0 && (results[0].LSN != v.lsn || client.IsCode(results[0].Err, "NoSuchKey")) {
		for i := range reads {
			reads[i].At = v.at
		}
		results, err = n.m.readPages(reads)
	}
	if err != nil {
		return errnoOf(err)
	}
	for i, r := range results {
		switch {
		case client.IsCode(r.Err, "NoSuchKey", "HistoryNotRetained") && n.at == 0, r.Err == nil && r.LSN != v.lsn:
			return syscall.ESTALE
		case r.Err != nil:
			n.m.o.Log.Warn("object cannot be read", "key", key, "err", r.Err)
			return errnoOf(r.Err)
		}
		copy(gaps[i].p, r.Data)
	}
	return 0
}

func (m *FS) readPages(reads []client.PageRead) (results []client.PageReadResult, err error) {
	err = m.retry(true, func(ctx context.Context) (err error) {
		results, err = m.c.ReadPages(ctx, m.o.Bucket, reads)
		return err
	})
	return results, err
}

// version is a version of an object, and an LSN that it is read at.
type version struct{ lsn, at client.LSN }

// versionLocked returns the version that a node stands for. FS.tree is held.
func (n *node) versionLocked() version {
	v := version{n.info.lsn, n.asOf}
	for d := n.parent; d != nil; d = d.parent {
		if d.moved > v.at { // then it was renamed with all it has
			v = version{d.moved, d.moved}
		}
	}
	return v
}

// Write implements fs.FileWriter.
func (h *handle) Write(_ context.Context, p []byte, off int64) (uint32, syscall.Errno) {
	n := h.n
	if uint64(off)+uint64(len(p)) > maxFileBytes {
		return 0, syscall.EFBIG
	}
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	if err := n.m.makeRoomLocked(len(p)); err != nil {
		return 0, errnoOf(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changed.write(uint64(off), p)
	n.describeLocked(map[string]string{metaMtime: mtimeText(time.Now())})
	n.m.account(n)
	return uint32(len(p)), 0
}

// Flush implements fs.FileFlusher: it is a close.
func (h *handle) Flush(context.Context) syscall.Errno {
	if !h.write {
		return 0
	}
	return errnoOf(h.n.flush())
}

// Fsync implements fs.NodeFsyncer, of directories too. On return what was written is durable, and so are the new files of a directory.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	if n.dir {
		n.m.tree.RLock()
		errno := n.ensureMade()
		n.m.tree.RUnlock()
		if errno != 0 {
			return errno
		}
	}
	return errnoOf(n.flush())
}

// Release implements fs.FileReleaser.
func (h *handle) Release(context.Context) syscall.Errno {
	n := h.n
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.handles--; n.handles > 0 {
		return 0
	}
	if n.orphan != "" {
		n.dropLocked()
		_, err := n.m.commit(true, client.CommitRequest{Operations: []client.CommitOperation{{Op: "delete", Key: n.orphan}}})
		if err != nil {
			n.m.o.Log.Warn("what was unlinked while it was open stays", "key", n.orphan, "err", err)
		}
		return 0
	}
	if err := n.flushLocked(); err != nil && n.changed.dirty() {
		n.m.o.Log.Warn("changes could not be written back, and wait on", "err", err)
	}
	n.m.account(n)
	return 0
}

// Allocate implements fs.FileAllocater: space is not reserved; holes and zeros take none.
func (h *handle) Allocate(_ context.Context, off, size uint64, mode uint32) syscall.Errno {
	const keepSize, punchHole, zeroRange = 1, 2, 16
	n := h.n
	if off > maxFileBytes || size > maxFileBytes-off {
		return syscall.EFBIG
	}
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	switch mode {
	case keepSize:
		return 0
	case 0, zeroRange, zeroRange | keepSize, punchHole | keepSize:
	default:
		return syscall.EOPNOTSUPP
	}
	if mode&keepSize == 0 && off+size > n.changed.size {
		n.changed.resize(off + size)
	}
	if mode != 0 {
		n.changed.zero(off, size)
	}
	n.describeLocked(map[string]string{metaMtime: mtimeText(time.Now())})
	n.m.account(n)
	return 0
}

// resizeLocked cuts or grows the file.
func (n *node) resizeLocked(size uint64) syscall.Errno {
	if size > maxFileBytes {
		return syscall.EFBIG
	}
	if size != n.changed.size {
		n.changed.resize(size)
	}
	n.describeLocked(map[string]string{metaMtime: mtimeText(time.Now())})
	return 0
}

// Readlink implements fs.NodeReadlinker.
func (n *node) Readlink(context.Context) ([]byte, syscall.Errno) {
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	n.mu.Lock()
	size, v := n.changed.size, n.versionLocked()
	n.mu.Unlock()
	p := make([]byte, min(size, 4096))
	if len(p) == 0 {
		return p, 0
	}
	return p, n.fillLocked(n.keyLocked(), v, []gap{{0, p}})
}
