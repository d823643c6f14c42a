package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"stemma/pageserver"
	"stemma/pageserver/object"
)

// nbdDevice is an object as a block device. Writes wait in memory, up to
// nbdBufferBytes, until a flush commits all of them at once: after a crash the
// object is as some flush left it. Safe for concurrent use.
type nbdDevice struct {
	flags       *adminFlags
	bucket, key string
	size        uint64

	mu      sync.Mutex
	pending []object.PageOp // in order, not yet at the server
	bytes   int             // of pending
}

const (
	// nbdBufferBytes is how much may wait for a flush; a request to the server takes twice as much.
	nbdBufferBytes = 4 << 20
	// nbdMaxBytes bounds one request of a client.
	nbdMaxBytes = 4 << 20
	nbdMaxOps   = 16 << 10
)

// request sends a request about the object. Errors: *pageserver.AdminError.
func (d *nbdDevice) request(ctx context.Context, method string, query url.Values, h http.Header, body []byte, most int64) ([]byte, error) {
	u, err := parseEndpoint("admin-endpoint", d.flags.endpoint)
	if err != nil {
		return nil, err
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + "/v1/buckets/" + d.bucket + "/objects/" + d.key
	u.RawQuery = query.Encode()
	status, answer, err := d.flags.who.send(ctx, method, u, h, body, most)
	if err != nil || status == http.StatusOK || status == http.StatusPartialContent {
		return answer, err
	}
	var e pageserver.AdminError
	if json.Unmarshal(answer, &e) != nil || e.Code == "" {
		return nil, errors.New(http.StatusText(status))
	}
	return nil, &e
}

// open finds the object, or makes it, and grows it to at least size.
func (d *nbdDevice) open(ctx context.Context, size uint64) error {
	change := func(query url.Values, ops []object.PageOp) (a pageserver.PageAnswer, err error) {
		answer, err := d.request(ctx, http.MethodPatch, query, http.Header{"Content-Type": {pageserver.PagesType}}, object.AppendPageOps(nil, ops), 1<<20)
		if err == nil {
			err = json.Unmarshal(answer, &a)
		}
		return a, err
	}
	query := url.Values{}
	if size > 0 {
		query.Set("create", "yes")
	}
	// A write of nothing tells the size, and opens the object for writing in place.
	a, err := change(query, []object.PageOp{{Kind: object.PageZero}})
	if err == nil && a.Size < size {
		a, err = change(nil, []object.PageOp{{Kind: object.PageResize, Off: size}})
	}
	if err == nil && a.Size == 0 {
		err = errors.New("the object is empty; give it a --size")
	}
	d.size = a.Size
	return err
}

// read fills p from off: what the server has, and over it what waits.
func (d *nbdDevice) read(ctx context.Context, p []byte, off uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", off, off+uint64(len(p))-1)}}
	got, err := d.request(ctx, http.MethodGet, nil, h, nil, nbdMaxBytes)
	if err != nil {
		return err
	}
	if len(got) != len(p) {
		return fmt.Errorf("%d bytes at %d, want %d: the object was cut", len(got), off, len(p))
	}
	copy(p, got)
	for i := range d.pending {
		o := &d.pending[i]
		n := o.Len
		if o.Kind == object.PageWrite {
			n = uint64(len(o.Data))
		}
		from, to := max(o.Off, off), min(o.Off+n, off+uint64(len(p)))
		switch {
		case from >= to:
		case o.Kind == object.PageWrite:
			copy(p[from-off:to-off], o.Data[from-o.Off:])
		default:
			clear(p[from-off : to-off])
		}
	}
	return nil
}

// add takes a change, whose data it keeps.
func (d *nbdDevice) add(ctx context.Context, o object.PageOp) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bytes+len(o.Data) > nbdBufferBytes || len(d.pending) == nbdMaxOps {
		if err := d.flushLocked(ctx); err != nil {
			return err
		}
	}
	d.pending, d.bytes = append(d.pending, o), d.bytes+len(o.Data)
	return nil
}

// flush commits what waits: on return it is durable. After an error it still waits.
func (d *nbdDevice) flush(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.flushLocked(ctx)
}

func (d *nbdDevice) flushLocked(ctx context.Context) error {
	if len(d.pending) == 0 {
		return nil
	}
	h := http.Header{"Content-Type": {pageserver.PagesType}}
	if _, err := d.request(ctx, http.MethodPatch, nil, h, object.AppendPageOps(nil, d.pending), 1<<20); err != nil {
		return err
	}
	clear(d.pending)
	d.pending, d.bytes = d.pending[:0], 0
	return nil
}
