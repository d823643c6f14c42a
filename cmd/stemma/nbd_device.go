package main

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/semaphore"

	"stemma/client"
)

// nbdDevice is an object as a block device. Changes wait in memory until a flush commits all of them at once, or until there are too
// many: so every commit leaves the object as the device was at one moment. Safe for concurrent use.
type nbdDevice struct {
	object nbdObject
	size   uint64
	room   *semaphore.Weighted // bytes of reads under way

	// committing is held by who commits. Order: committing, reads, mu.
	committing sync.Mutex
	lsn        client.LSN // of the newest version that is known; committing guards it

	// reads is held, shared, by who reads, and exclusively by who begins a commit. So no commit that a read finds at the server is newer
	// than the changes that it lays over it.
	reads sync.RWMutex

	mu struct {
		sync.Mutex
		sent           []client.PageOp // under way to the server, or to be sent again
		pending        []client.PageOp // behind those, in order
		bytes          int             // of pending, as they are sent
		added, durable uint64          // changes, since the start
	}
}

const (
	// nbdBufferBytes is how much may wait for a flush; as much again may be under way.
	nbdBufferBytes = client.MaxStreamedBytes
	// nbdOpBytes is what a change takes beside its data, at most.
	nbdOpBytes = 24
	nbdMaxOps  = 16 << 10
	// nbdMaxBytes bounds one request of a client.
	nbdMaxBytes = client.MaxStreamedBytes
	// nbdReadRoom bounds the bytes of all reads under way, of which one counts nbdReadLeast at least.
	nbdReadRoom  = 16 << 20
	nbdReadLeast = 256 << 10
	// nbdOvertaken is how often a commit begins anew because there is another version.
	nbdOvertaken = 10
)

// open finds the object, or makes it, and grows it to at least size.
func (d *nbdDevice) open(ctx context.Context, size uint64) error {
	d.room = semaphore.NewWeighted(nbdReadRoom)
	w, err := d.grow(ctx, size)
	for try := 1; client.IsCode(err, "PreconditionFailed") && try < nbdOvertaken; try++ {
		w, err = d.grow(ctx, size)
	}
	switch {
	case err != nil:
		return err
	case w.Size == 0:
		return errors.New("the object is empty; give it a --size")
	}
	d.size, d.lsn = w.Size, w.LSN
	return nil
}

// grow tells the size of the object, and makes it at least size; as with commits, on the condition that the version is the one that is known.
func (d *nbdDevice) grow(ctx context.Context, size uint64) (*client.PagesWritten, error) {
	// A write of nothing tells the size, and opens the object for writing in place.
	w, err := d.object.write(ctx, []client.PageOp{{Kind: client.PageZero}}, client.PagesOptions{Create: size > 0})
	if err != nil || w.Size >= size {
		return w, err
	}
	return d.object.write(ctx, []client.PageOp{{Kind: client.PageResize, Off: size}}, client.PagesOptions{IfLSN: w.LSN})
}

// read reads n bytes from off on: what the server has, and over it what waits.
func (d *nbdDevice) read(ctx context.Context, off uint64, n int) ([]byte, error) {
	d.reads.RLock()
	defer d.reads.RUnlock()
	d.mu.Lock()
	sent, pending := d.mu.sent, d.mu.pending
	d.mu.Unlock()
	p, err := d.object.read(ctx, off, n)
	if err != nil {
		return nil, err
	}
	lay(p, off, sent)
	lay(p, off, pending)
	return p, nil
}

// lay makes changes to p, the bytes from off on.
func lay(p []byte, off uint64, ops []client.PageOp) {
	for i := range ops {
		o := &ops[i]
		n := o.Len
		if o.Kind == client.PageWrite {
			n = uint64(len(o.Data))
		}
		from, to := max(o.Off, off), min(o.Off+n, off+uint64(len(p)))
		switch {
		case from >= to:
		case o.Kind == client.PageWrite:
			copy(p[from-off:to-off], o.Data[from-o.Off:])
		default:
			clear(p[from-off : to-off])
		}
	}
}

// add takes a change, whose data it keeps. It waits for a commit if there is no room.
func (d *nbdDevice) add(ctx context.Context, o client.PageOp) error {
	for !d.addIfRoom(o) {
		if err := d.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *nbdDevice) addIfRoom(o client.PageOp) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(o.Data) + nbdOpBytes
	if len(d.mu.pending) > 0 && (d.mu.bytes+n > nbdBufferBytes || len(d.mu.pending) == nbdMaxOps) {
		return false
	}
	d.mu.pending, d.mu.bytes = append(d.mu.pending, o), d.mu.bytes+n
	d.mu.added++
	return true
}

// flush commits what waits: on return all that was added before is durable. Those who flush at once share a commit. After an
// error it waits on.
func (d *nbdDevice) flush(ctx context.Context) error {
	d.mu.Lock()
	upTo := d.mu.added
	d.mu.Unlock()
	d.committing.Lock()
	defer d.committing.Unlock()
	for {
		ops := d.takeLocked(upTo)
		if ops == nil {
			return nil
		}
		if err := d.commitLocked(ctx, ops); err != nil {
			return err
		}
		d.mu.Lock()
		d.mu.sent = nil
		d.mu.durable += uint64(len(ops))
		d.mu.Unlock()
	}
}

// takeLocked returns the changes that are to be sent next so that the first upTo are durable; nil: they are.
func (d *nbdDevice) takeLocked(upTo uint64) []client.PageOp {
	d.reads.Lock()
	defer d.reads.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.durable >= upTo {
		return nil
	}
	if d.mu.sent == nil {
		d.mu.sent, d.mu.pending, d.mu.bytes = d.mu.pending, nil, 0
	}
	return d.mu.sent
}

// commitLocked makes changes at the server. They are on the condition that the version is the one that is known: what was sent and not
// answered may be carried out later, and must not be then if something else was in between.
func (d *nbdDevice) commitLocked(ctx context.Context, ops []client.PageOp) error {
	for try := 1; ; try++ {
		w, err := d.object.write(ctx, ops, client.PagesOptions{IfLSN: d.lsn})
		if err == nil {
			d.lsn = w.LSN
			return nil
		}
		// It was carried out without an answer, or another client has written: done once more it comes to the same.
		if !client.IsCode(err, "PreconditionFailed") || try == nbdOvertaken {
			return err
		}
		if d.lsn, err = d.object.version(ctx); err != nil {
			return err
		}
	}
}
