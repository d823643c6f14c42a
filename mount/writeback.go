package mount

import (
	"context"
	"maps"
	"slices"
	"syscall"
	"time"

	"stemma/client"
)

const (
	// wholeBytes is up to where a file that was never written in place is put as a whole: then it is an object like
	// others, which has a checksum and can be merged.
	wholeBytes = 128 << 10
	// maxPartial is how often that is done to a file of which only a part is new.
	maxPartial = 8
	// batchBytes bounds the changes of one commit.
	batchBytes = client.MaxPagesBody - 64<<10
	// longRunBytes is from where on a new file that is written in one go gets large pages.
	longRunBytes   = 1 << 20
	largePageBytes = 64 << 10
)

// account counts what waits of a node. n.mu is held.
func (m *FS) account(n *node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	waits := n.changed.dirty() || n.newMeta != nil
	m.mu.bytes += int64(n.changed.bytes - n.counted)
	n.counted = n.changed.bytes
	if _, known := m.mu.dirty[n]; !waits {
		delete(m.mu.dirty, n)
	} else if !known {
		m.mu.dirty[n] = time.Now()
	}
}

// makeRoomLocked writes back the files of which most waits, until more bytes may. FS.tree is held.
func (m *FS) makeRoomLocked(more int) error {
	for {
		m.mu.Lock()
		var most *node
		if m.mu.bytes > 0 && m.mu.bytes+int64(more) > m.o.MaxDirtyBytes {
			for n := range m.mu.dirty {
				if most == nil || n.counted > most.counted {
					most = n
				}
			}
		}
		m.mu.Unlock()
		if most == nil {
			return nil
		}
		if err := most.flushTreeLocked(); err != nil && err != syscall.ESTALE { // then nothing waits any more
			return err
		}
	}
}

// flush writes back what waits of a node, unless it was unlinked: then nobody will ever see it. On return it is durable.
func (n *node) flush() error {
	n.m.tree.RLock()
	defer n.m.tree.RUnlock()
	if n.orphan != "" {
		return nil
	}
	return n.flushTreeLocked()
}

func (n *node) flushTreeLocked() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	defer n.m.account(n)
	return n.flushLocked()
}

// dropLocked forgets what waits.
func (n *node) dropLocked() {
	n.changed, n.newMeta, n.gone = clean(0), nil, true
	n.m.account(n)
}

// flushLocked is flush with n.mu and FS.tree held. After an error all waits on, unless it is ESTALE: then the file is gone.
func (n *node) flushLocked() error {
	if !n.changed.dirty() && n.newMeta == nil {
		return nil
	}
	if n.gone && n.orphan == "" {
		n.dropLocked()
		return syscall.ESTALE
	}
	key := n.keyLocked()
	var err error
	switch o := &n.changed; {
	case n.dir && n.info.lsn == 0:
		err = n.putLocked(key, nil)
	case !n.dir && o.dirty() && !n.info.inPlace && o.size <= wholeBytes && (o.below == 0 || n.partial < maxPartial && o.object <= wholeBytes):
		p := make([]byte, o.size)
		_, gaps := o.read(p, 0)
		if len(gaps) > 0 {
			n.partial++
			if errno := n.fillLocked(gaps); errno != 0 {
				return n.lostLocked(errno)
			}
		}
		err = n.putLocked(key, p)
	default:
		err = n.patchLocked(key)
	}
	if err != nil {
		return n.lostLocked(err)
	}
	return nil
}

// lostLocked drops what waits of a file that another client has removed.
func (n *node) lostLocked(err error) error {
	if no := errnoOf(err); no == syscall.ENOENT || no == syscall.ESTALE {
		n.dropLocked()
		return syscall.ESTALE
	}
	return err
}

// putLocked puts the file as a whole, or the object of a directory.
func (n *node) putLocked(key string, p []byte) error {
	meta := with(n.info.meta, n.newMeta)
	if n.dir && meta[metaMode] == "" {
		meta[metaMode] = modeText(syscall.S_IFDIR | 0o755)
	}
	r := client.CommitRequest{Operations: []client.CommitOperation{{Op: "put", Key: key, Data: p, ContentType: n.info.contentType, Metadata: meta}}}
	if n.info.lsn != 0 {
		r.If = []client.CommitCondition{{Key: key, LSN: n.info.lsn}}
	}
	done, err := n.m.commit(true, r)
	if client.IsCode(err, "PreconditionFailed") {
		if err = n.overtakenLocked(key); err == nil {
			r.If = nil
			done, err = n.m.commit(true, r)
		}
	}
	if err != nil {
		return err
	}
	n.m.written.Add(int64(len(p)))
	n.writtenLocked(done.LSN, uint64(len(p)), meta)
	n.info.etag, n.info.inPlace = done.Results[0].ETag, false
	return nil
}

// overtakenLocked learns what another client has made of the file, whose changes then are lost where both have written.
func (n *node) overtakenLocked(key string) error {
	l, err := n.m.look(n, key)
	if err != nil {
		return err
	}
	o := l.Keys[0].Object
	if o == nil {
		return syscall.ESTALE
	}
	n.cached = 0
	n.info.lsn, n.info.meta, n.info.inPlace = o.LSN, o.Metadata, o.InPlace
	return nil
}

// writtenLocked says that all that waited is in a version.
func (n *node) writtenLocked(lsn client.LSN, size uint64, meta map[string]string) {
	n.becameLocked(lsn)
	n.info.size, n.info.meta = size, meta
	if size != n.changed.size { // another client wrote behind its end
		n.cached = 0
	}
	n.changed, n.newMeta = clean(size), nil
	n.checked = time.Now()
}

// patchLocked writes back in place.
func (n *node) patchLocked(key string) error {
	batches := n.changed.changes(batchBytes)
	var meta []client.PageOp
	for _, k := range slices.Sorted(maps.Keys(n.newMeta)) {
		meta = append(meta, client.PageOp{Kind: client.PageMeta, Name: k, Data: []byte(n.newMeta[k])})
	}
	if len(batches) == 0 {
		batches = [][]client.PageOp{nil}
	}
	last := len(batches) - 1
	batches[last] = append(batches[last], meta...)
	o := client.PagesOptions{IfLSN: n.info.lsn}
	if n.changed.below == 0 && n.changed.bytes >= longRunBytes && !n.info.inPlace {
		o.PageBytes = largePageBytes
	}
	var done *client.PagesWritten
	for _, ops := range batches {
		write := func(ctx context.Context) (err error) {
			done, err = n.m.c.WritePages(ctx, n.m.o.Bucket, key, ops, o)
			return err
		}
		err := n.m.retry(true, write)
		if client.IsCode(err, "PreconditionFailed") {
			if err = n.overtakenLocked(key); err == nil {
				o.IfLSN = 0
				err = n.m.retry(true, write)
			}
		}
		if err != nil {
			return err
		}
		n.m.commits.Add(1)
		n.becameLocked(done.LSN)
		n.info.inPlace, n.info.etag = done.PageBytes > 0, done.ETag
		o.IfLSN, o.PageBytes = done.LSN, 0
	}
	n.m.written.Add(int64(n.changed.bytes))
	n.writtenLocked(done.LSN, done.Size, with(n.info.meta, n.newMeta))
	return nil
}
