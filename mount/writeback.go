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
		if err := most.flushTreeLocked(); err != nil && m.waits(most) {
			return err
		}
	}
}

// waits reports whether something waits of a node.
func (m *FS) waits(n *node) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, waits := m.mu.dirty[n]
	return waits
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

// flushLocked is flush with n.mu and FS.tree held. After an error all waits on, unless it would never be taken.
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
	if n.unmadeLocked() {
		if err = n.makeLocked(key); err == nil && !n.changed.dirty() {
			return nil
		}
	}
	put := err == nil && (n.dir && n.info.lsn == 0 || n.wholeLocked())
	if put {
		err = n.putLocked(key)
		if client.IsCode(err, "PreconditionFailed") { // another client was there: both changes count
			if err = n.overtakenLocked(key); err == nil {
				put = false
			}
		}
	}
	if !put && err == nil {
		err = n.patchLocked(key)
		const tries = 2 // another client may have replaced it between
		for i := 0; i < tries && client.IsCode(err, "InvalidRequest") && !n.dir && n.changed.dirty(); i++ {
			if err = n.encryptLocked(key); err == nil {
				err = n.patchLocked(key)
			}
		}
	}
	switch errnoOf(err) {
	case syscall.ENOENT, syscall.ESTALE: // another client has removed it
		n.dropLocked()
		return syscall.ESTALE
	case syscall.EOPNOTSUPP, syscall.EFBIG, syscall.EROFS, syscall.EACCES: // it would be refused again
		n.m.o.Log.Error("changes are refused, and lost", "key", key, "err", err)
		n.undoLocked()
	}
	return err
}

// undoLocked forgets what waits of a file that stays, if there is one.
func (n *node) undoLocked() {
	if n.unmadeLocked() {
		n.parent.makes.Store(false)
		n.dropLocked()
		return
	}
	n.changed, n.newMeta, n.cached, n.checked = clean(n.info.size), nil, 0, time.Time{}
}

// wholeLocked reports whether a file is to be put as a whole.
func (n *node) wholeLocked() bool {
	o := &n.changed
	if n.dir || !o.dirty() || n.info.inPlace || o.size > wholeBytes || o.below > 0 && o.object > wholeBytes {
		return false
	}
	if o.below > 0 {
		n.partial++
	}
	return n.partial <= maxPartial
}

// putLocked puts the file as a whole, or the object of a directory, in the place of the version that is known.
func (n *node) putLocked(key string) error {
	meta := with(n.info.meta, n.newMeta)
	var p []byte
	if n.dir && meta[metaMode] == "" {
		meta[metaMode] = modeText(syscall.S_IFDIR | 0o755)
	}
	if !n.dir {
		p = make([]byte, n.changed.size)
		if _, gaps := n.changed.read(p, 0); len(gaps) > 0 {
			if errno := n.fillLocked(key, n.versionLocked(), gaps); errno != 0 {
				return errno
			}
		}
	}
	done, err := n.putAs(key, client.CommitCondition{Key: key, LSN: n.info.lsn, Absent: n.info.lsn == 0}, p, meta)
	if err != nil {
		return err
	}
	n.writtenLocked(done.LSN, uint64(len(p)), meta)
	n.info.etag, n.info.inPlace, n.info.file = done.Results[0].ETag, false, ""
	return nil
}

// putAs puts an object for the node, on a condition.
func (n *node) putAs(key string, condition client.CommitCondition, p []byte, meta map[string]string) (*client.Committed, error) {
	done, err := n.m.commit(true, client.CommitRequest{
		If:         []client.CommitCondition{condition},
		Operations: []client.CommitOperation{{Op: "put", Key: key, Data: p, ContentType: n.info.contentType, Metadata: meta}},
	})
	if err == nil {
		n.m.written.Add(int64(len(p)))
	}
	return done, err
}

// encryptLocked writes a file that is in the clear anew where the bucket encrypts by now: it cannot be written in place before. What
// another client has put there meanwhile stays.
func (n *node) encryptLocked(key string) error {
	var made *client.PagesWritten
	err := n.m.retry(true, func(ctx context.Context) (err error) {
		made, err = n.m.c.Clone(ctx, n.m.o.Bucket, key, client.CloneSource{Key: key, IfMatch: n.info.etag})
		return err
	})
	if client.IsCode(err, "PreconditionFailed") {
		return n.overtakenLocked(key)
	}
	if err != nil {
		return err
	}
	n.m.commits.Add(1)
	n.becameLocked(made.LSN, made.File)
	n.info.inPlace, n.info.etag = true, made.ETag
	return nil
}

// overtakenLocked learns that there is another version, which another client has made; or the first try of a commit that
// was repeated.
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
	n.info.lsn, n.info.etag, n.info.meta, n.info.inPlace, n.info.file = o.LSN, o.ETag, o.Metadata, o.File != "", o.File
	return nil
}

// writtenLocked says that all that waited is in a version.
func (n *node) writtenLocked(lsn client.LSN, size uint64, meta map[string]string) {
	n.becameLocked(lsn, n.info.file)
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
		n.becameLocked(done.LSN, done.File)
		n.info.inPlace, n.info.etag = done.PageBytes > 0, done.ETag
		o.IfLSN, o.PageBytes = done.LSN, 0
	}
	n.m.written.Add(int64(n.changed.bytes))
	n.writtenLocked(done.LSN, done.Size, with(n.info.meta, n.newMeta))
	return nil
}
