package mount

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"stemma/client"
)

// room is what Statfs has learned last.
type room struct {
	mu    sync.Mutex
	out   fuse.StatfsOut
	until time.Time
}

var _ fs.NodeStatfser = (*node)(nil)

// Statfs implements fs.NodeStatfser: the bucket's quota and what is used of it, else the server's disk.
func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	m := n.m
	m.room.mu.Lock()
	defer m.room.mu.Unlock()
	if time.Now().After(m.room.until) {
		var b *client.Bucket
		err := m.retry(true, func(ctx context.Context) (err error) {
			b, err = m.c.Bucket(ctx, m.o.Bucket)
			return err
		})
		if err != nil {
			return errnoOf(err)
		}
		m.room.out, m.room.until = statfsOf(b), time.Now().Add(m.o.TTL)
	}
	*out = m.room.out
	return 0
}

// statfsOf returns what statfs shows of a bucket. What nothing bounds is a pebibyte, and a billion files.
func statfsOf(b *client.Bucket) fuse.StatfsOut {
	const blockBytes = 4096
	bytes, free, files, freeFiles := int64(1)<<50, int64(1)<<50, int64(1)<<30, int64(1)<<30
	if b.Disk != nil {
		bytes, free = b.Disk.Bytes, b.Disk.Free
	}
	if q := b.Quota; q != nil {
		var used client.QuotaUsage // else it is being counted
		if q.Used != nil {
			used = *q.Used
		}
		if q.MaxBytes > 0 {
			bytes, free = q.MaxBytes, max(0, q.MaxBytes-used.Bytes)
		}
		if q.MaxObjects > 0 {
			files, freeFiles = q.MaxObjects, max(0, q.MaxObjects-used.Objects)
		}
	}
	blocks := uint64(free / blockBytes)
	return fuse.StatfsOut{
		Blocks: uint64(bytes / blockBytes), Bfree: blocks, Bavail: blocks, Files: uint64(files), Ffree: uint64(freeFiles),
		Bsize: blockBytes, Frsize: blockBytes, NameLen: 255,
	}
}
