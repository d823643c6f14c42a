package object

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"stemma/layers"
	"stemma/pageserver/keyring"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// sealedBegin makes an encrypted object of some form, to be written in place.
func (h *harness) sealedBegin(form string, want SSE, customer *CustomerKey) []byte {
	h.t.Helper()
	switch form {
	case "none":
		return nil
	case "inline":
		body := random(4, 9000)
		h.putSealed("k", body, want, customer)
		return body
	case "appended":
		body := random(5, 100<<10)
		h.putSealed("k", body, want, customer)
		for _, n := range []int{1, 70 << 10} {
			more := random(uint64(n), n)
			if _, err := h.appendSealed("k", len(body), more, SSE{}, customer); err != nil {
				h.t.Fatal(err)
			}
			body = append(body, more...)
		}
		return body
	case "parts":
		return h.encryptedUpload("k", want, customer, CRC32, partBytes, partBytes, partBytes+130<<10, partBytes, 1)
	case "empty part":
		return h.encryptedUpload("k", want, customer, CRC32, partBytes, partBytes, 0)
	}
	body := random(6, 700<<10)
	h.putSealed("k", body, want, customer)
	return body
}

// Random changes of one encrypted object, and of clones, copies and forks of it, read back whole and in ranges, by both ways to
// read, at the tip and at the commits before, through flushes.
func TestWritePagesEncrypted(t *testing.T) {
	skipLong(t)
	for _, k := range kinds[1:] {
		for i, form := range []string{"none", "inline", "large", "appended", "parts", "empty part"} {
			t.Run(k.name+"/"+form, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(k.want.Kind), uint64(i)))
				h := start(t, small)
				content := h.sealedBegin(form, k.want, k.key)
				w := &sealedWriter{harness: h, rng: rng, kind: k.want, customer: k.key, pageBytes: MinPageBytes << (2 * rng.IntN(3))}
				w.run(&sealedObject{bucket: "home", key: "k", content: content}, 40)
				clone := w.clone()
				w.run(clone, 10)
				w.run(w.clone(), 5)
				if _, err := h.Fork(h.ctx, "home", 0, []string{"fork"}); err != nil {
					t.Fatal(err)
				}
				w.run(&sealedObject{bucket: "fork", key: clone.key, content: clone.content}, 10)
				w.read(clone)
				h.noOrphans("home")
			})
		}
	}
}

// sealedWriter writes to encrypted objects and reads all that they ever were.
type sealedWriter struct {
	*harness
	rng       *rand.Rand
	kind      SSE
	customer  *CustomerKey
	pageBytes int
	past      []sealedObject
}

type sealedObject struct {
	bucket, key string
	content     []byte
	at          wal.LSN
}

func (w *sealedWriter) run(o *sealedObject, n int) {
	w.t.Helper()
	for i := range n {
		in := &PageInput{Ops: randomOps(w.rng, len(o.content)), Create: &PageCreate{}, SSE: w.kind, PageBytes: w.pageBytes, CustomerKey: w.customer}
		if w.rng.IntN(8) == 0 {
			in.Ops = append(in.Ops, PageOp{Kind: PageMeta, Name: "secret", Data: []byte("value")})
		}
		r, err := w.WritePages(w.ctx, o.bucket, o.key, in)
		if err != nil {
			w.t.Fatal(err)
		}
		o.content, o.at = inPlace(o.content, in.Ops), r.LSN
		w.past = append(w.past, *o)
		if i%9 == 8 {
			w.flush()
		}
		w.read(o)
		if w.rng.IntN(2) == 0 {
			w.read(&w.past[w.rng.IntN(len(w.past))])
		}
	}
}

// read compares an object with what it must be, whole and in a range.
func (w *sealedWriter) read(o *sealedObject) {
	w.t.Helper()
	in := GetInput{At: o.at, CustomerKey: w.customer}
	off, n := 0, len(o.content)
	if n > 0 && w.rng.IntN(3) != 0 {
		off = w.rng.IntN(n)
		n = 1 + w.rng.IntN(n-off)
		in.Range = fmt.Sprintf("bytes=%d-%d", off, off+n-1)
	}
	got, p, err := w.get(o.bucket, o.key, in)
	if err != nil {
		w.t.Fatal(err)
	}
	if !bytes.Equal(p, o.content[off:off+n]) || got.SSE() != w.kind {
		w.t.Fatalf("%s/%s at %d: %d bytes at %d differ; encryption %+v", o.bucket, o.key, o.at, n, off, got.SSE())
	}
	read := PageRead{Key: o.key, At: o.at, Off: uint64(off), Len: uint64(n), CustomerKey: w.customer}
	few := read
	few.Len = min(few.Len, 100)
	results, err := w.ReadPages(w.ctx, o.bucket, []PageRead{read, few})
	if err != nil || results[0].Err != nil || results[1].Err != nil || !bytes.Equal(results[0].Data, p) || !bytes.Equal(results[1].Data, p[:few.Len]) {
		w.t.Fatalf("%s/%s at %d: pages differ; %v", o.bucket, o.key, o.at, err)
	}
}

// clone clones or copies one of the objects that were.
func (w *sealedWriter) clone() *sealedObject {
	w.t.Helper()
	src := w.past[w.rng.IntN(len(w.past))]
	c := &sealedObject{bucket: "home", key: fmt.Sprint("clone", len(w.past)), content: src.content}
	if len(src.content) == 0 || w.rng.IntN(4) == 0 {
		w.copy("home", c.key, CopyInput{SrcBucket: src.bucket, SrcKey: src.key, SrcAt: src.at, SSE: w.kind, CustomerKey: w.customer, SrcCustomerKey: w.customer})
		w.read(c)
		return c
	}
	off := w.rng.IntN(len(src.content))
	if w.rng.IntN(2) == 0 {
		off &^= 1023
	}
	n := 1 + w.rng.IntN(len(src.content)-off)
	r, err := w.Clone(w.ctx, "home", c.key, &CloneInput{
		SrcBucket: src.bucket, SrcKey: src.key, SrcAt: src.at, Off: uint64(off), Len: uint64(n), SSE: w.kind, CustomerKey: w.customer, SrcCustomerKey: w.customer,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	c.content, c.at = src.content[off:off+n], r.LSN
	w.read(c)
	return c
}

// A clone under another key is written anew, of every form of object, from and to the clear too, and takes no space for holes.
func TestCloneUnderAnotherKey(t *testing.T) {
	h := start(t)
	for _, from := range kinds {
		for _, size := range []int{0, 10, 40 << 10, 200 << 10} {
			body := random(uint64(size), size)
			h.putSealed("plain", body, from.want, from.key)
			for _, paged := range []bool{false, true} {
				key := "plain"
				if paged {
					key = "paged"
					h.delete("home", DeleteKey{Key: key})
					ops := []PageOp{{Kind: PageWrite, Off: 1 << 20, Data: body}, {Kind: PageWrite, Off: 3 << 20, Data: []byte("x")}}
					if _, err := h.WritePages(h.ctx, "home", key, &PageInput{Ops: ops, Create: &PageCreate{}, SSE: from.want, CustomerKey: from.key}); err != nil {
						t.Fatal(err)
					}
					body = inPlace(nil, ops)
				}
				for _, to := range kinds[1:] {
					before := h.StreamedBytes()
					r, err := h.Clone(h.ctx, "home", "clone", &CloneInput{SrcBucket: "home", SrcKey: key, SSE: to.want, CustomerKey: to.key, SrcCustomerKey: from.key})
					if err != nil {
						t.Fatal(err)
					}
					o, got, err := h.get("home", "clone", GetInput{CustomerKey: to.key})
					if err != nil || !bytes.Equal(got, body) || o.SSE() != to.want || r.PageBytes == 0 || r.Size != o.Size {
						t.Fatalf("%s to %s: %v, %d bytes, %+v", from.name, to.name, err, len(got), r)
					}
					if n := h.StreamedBytes() - before; n > 200<<10 {
						t.Errorf("%d bytes were written", n)
					}
				}
			}
		}
	}
}

// A large hole is cut out of an encrypted base without its bytes being written again, and what is left opens.
func TestCutSealedBase(t *testing.T) {
	for _, form := range []string{"large", "parts", "appended"} {
		h := start(t)
		content := h.sealedBegin(form, SSE{Kind: SSES3}, nil)
		if form != "large" { // larger than what empty pages cover
			more := random(9, 600<<10)
			if _, err := h.appendSealed("k", len(content), more, SSE{}, nil); err != nil {
				t.Fatal(err)
			}
			content = append(content, more...)
		}
		write := func(op PageOp) {
			t.Helper()
			if _, err := h.WritePages(h.ctx, "home", "k", &PageInput{Ops: []PageOp{op}}); err != nil {
				t.Fatal(err)
			}
			content = inPlace(content, []PageOp{op})
			h.want("home", "k", 0, content)
		}
		write(PageOp{Kind: PageZero, Off: 70_000, Len: 400_000})
		base := func() *pageBase {
			v, err := h.Store().View(h.ctx, "home", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			e, _, err := h.find(v, "k", 0)
			if err == nil {
				err = h.unlock(e, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			r := h.newPageReader(v, e)
			if err := r.loadBase(); err != nil {
				t.Fatal(err)
			}
			return r.base
		}
		b := base()
		if have := length(b.ext); len(b.runs) != 2 || have > uint64(len(content)-400_000+4*sealedBlockBytes) {
			t.Errorf("%s: %d runs in %d bytes", form, len(b.runs), have)
		}
		write(PageOp{Kind: PageWrite, Off: 60_000, Data: random(3, 30_000)})
		write(PageOp{Kind: PageResize, Off: 500_001})
		write(PageOp{Kind: PageResize, Off: 900_000})
		c := h.copy("home", "copy", CopyInput{SrcBucket: "home", SrcKey: "k"})
		if c.Size != uint64(len(content)) {
			t.Error(c.Size)
		}
		h.want("home", "copy", 0, content)
	}
}

// Sealed records open in their place of their file only, and as what they are.
func TestPagesTampered(t *testing.T) {
	h := start(t)
	write := func(key string, ops ...PageOp) *PageResult {
		t.Helper()
		r, err := h.WritePages(h.ctx, "home", key, &PageInput{Ops: ops, Create: &PageCreate{}, SSE: SSE{Kind: SSES3}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	a, b := random(1, MinPageBytes), random(2, MinPageBytes)
	large := random(3, 300<<10)
	write("k", PageOp{Kind: PageWrite, Data: slices.Concat(a, b)})
	write("k", PageOp{Kind: PageWrite, Off: 1 << 20, Data: large})
	write("k", PageOp{Kind: PageWrite, Off: 100, Data: []byte("delta")})
	write("k", PageOp{Kind: PageWrite, Off: MinPageBytes + 100, Data: []byte("other")})
	write("other", PageOp{Kind: PageWrite, Data: slices.Concat(b, a)})
	file := func(key string) fileID {
		t.Helper()
		o, err := h.Head(h.ctx, "home", key, &GetInput{})
		if err != nil {
			t.Fatal(err)
		}
		return o.pages.id
	}
	k, other := file("k"), file("other")
	// change rewrites a page of k, after all that it has was removed, and tells what a read says.
	change := func(page uint64, records func(stack func(f fileID, page uint64) []layers.Record) []layers.Record) error {
		t.Helper()
		fork := "fork"
		if _, err := h.Fork(h.ctx, "home", 0, []string{fork}); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if _, err := h.DeleteBucket(h.ctx, fork, timeline.DeleteOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
		}()
		key := k.pageKey(page)
		locks := []timeline.Lock{{NS: layers.NamespaceObjects, Key: []byte("k"), Exclusive: true}}
		v, err := h.Store().View(h.ctx, fork, 0)
		if err != nil {
			t.Fatal(err)
		}
		recs := records(func(f fileID, page uint64) []layers.Record {
			recs, err := v.Stack(layers.NamespacePages, f.pageKey(page), nil)
			if err != nil || len(recs) == 0 {
				t.Fatal(err, len(recs))
			}
			for i := range recs {
				recs[i].Meta, recs[i].Body = bytes.Clone(recs[i].Meta), bytes.Clone(recs[i].Body)
			}
			return recs
		})
		for i := range slices.Backward(recs) { // the oldest first
			_, err := h.Store().Update(h.ctx, fork, locks, func(tx *timeline.Tx) error {
				if r := &recs[i]; r.Kind == layers.KindDelta {
					tx.Delta(layers.NamespacePages, key, r.Meta, r.Body)
				} else {
					tx.Put(layers.NamespacePages, key, r.Meta, r.Body)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		v.Close()
		results, err := h.ReadPages(h.ctx, fork, []PageRead{{Key: "k", Off: page * MinPageBytes, Len: MinPageBytes}})
		if err != nil {
			t.Fatal(err)
		}
		return results[0].Err
	}
	type stacks = func(fileID, uint64) []layers.Record
	far := uint64(1 << 20 / MinPageBytes)
	for name, c := range map[string]struct {
		page    uint64
		records func(stack stacks) []layers.Record
		opens   bool
	}{
		"itself":               {0, func(s stacks) []layers.Record { return s(k, 0) }, true},
		"itself, stored":       {far, func(s stacks) []layers.Record { return s(k, far) }, true},
		"its full page":        {0, func(s stacks) []layers.Record { return s(k, 0)[1:] }, true},
		"another page":         {0, func(s stacks) []layers.Record { return s(k, 1)[1:] }, false},
		"another page's delta": {0, func(s stacks) []layers.Record { return append(s(k, 1)[:1], s(k, 0)[1:]...) }, false},
		"another file's":       {0, func(s stacks) []layers.Record { return s(other, 0) }, false},
		"another stored page":  {far, func(s stacks) []layers.Record { return s(k, far+1) }, false},
		"a delta as full page": {0, func(s stacks) []layers.Record { r := s(k, 0)[:1]; r[0].Kind = layers.KindValue; return r }, false},
		"another stack":        {0, func(s stacks) []layers.Record { r := s(k, 0); r[0].Meta[0]++; return r }, false},
		"a byte of it":         {0, func(s stacks) []layers.Record { r := s(k, 0); r[1].Body[50] ^= 1; return r }, false},
		"a byte of its salt":   {0, func(s stacks) []layers.Record { r := s(k, 0); r[1].Meta[0] ^= 1; return r }, false},
		"a byte of its tag":    {0, func(s stacks) []layers.Record { r := s(k, 0); r[1].Meta[pageLockBytes-1] ^= 1; return r }, false},
		"less of it":           {0, func(s stacks) []layers.Record { r := s(k, 0); r[1].Body = r[1].Body[:99]; return r }, false},
		"without salt and tag": {0, func(s stacks) []layers.Record { r := s(k, 0); r[1].Meta = nil; return r }, false},
		"in the clear": {0, func(s stacks) []layers.Record {
			r := s(k, 0)[1:]
			r[0].Meta, r[0].Body = nil, layers.AppendInlineBody(nil, a)
			return r
		}, false},
		"a hole that has bytes": {0, func(s stacks) []layers.Record { r := s(k, 0)[1:]; r[0].Body = nil; return r }, false},
	} {
		if err := change(c.page, c.records); c.opens != (err == nil) || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Keys of pages: who has none reads and writes nothing, whoever asks with one too many is refused, and after a write the
// fields open.
func TestPagesKeys(t *testing.T) {
	h := start(t)
	write := func(key string, customer *CustomerKey, in PageInput) (*PageResult, error) {
		in.CustomerKey = customer
		if in.Ops == nil {
			in.Ops = []PageOp{{Kind: PageWrite, Off: 5000, Data: []byte("x")}}
		}
		return h.WritePages(h.ctx, "home", key, &in)
	}
	h.putSealed("c", random(1, 100), SSE{Kind: SSEC}, customer(1))
	h.putSealed("s3", random(1, 100), SSE{Kind: SSES3}, nil)
	h.put("home", "clear", []byte("clear"))
	for range 2 { // the first write opens c
		for _, c := range []struct {
			key      string
			customer *CustomerKey
			want     error
		}{{"c", nil, ErrKeyRequired}, {"c", customer(2), ErrWrongKey}, {"s3", customer(1), ErrKeyNotApplicable}, {"clear", customer(1), ErrKeyNotApplicable}} {
			_, err := write(c.key, c.customer, PageInput{})
			wantErr(t, err, c.want)
			_, err = write(c.key, c.customer, PageInput{Ops: []PageOp{{Kind: PageMeta, Name: "a", Data: []byte("b")}}})
			wantErr(t, err, c.want)
			r, err := h.ReadPages(h.ctx, "home", []PageRead{{Key: c.key, Len: 1, CustomerKey: c.customer}})
			wantErr(t, errors.Join(err, r[0].Err), c.want)
			_, err = h.Clone(h.ctx, "home", "clone", &CloneInput{SrcBucket: "home", SrcKey: c.key, SrcCustomerKey: c.customer})
			wantErr(t, err, c.want)
		}
		for key, customer := range map[string]*CustomerKey{"c": customer(1), "s3": nil, "clear": nil} {
			r, err := write(key, customer, PageInput{})
			if err != nil {
				t.Fatal(err)
			}
			o, err := h.Head(h.ctx, "home", key, &GetInput{CustomerKey: customer})
			if err != nil || o.ETag != r.ETag || key != "clear" && (len(o.UserMeta) != 1 || o.Headers.ContentType != "text/secret") {
				t.Fatalf("%s: %+v, %v", key, o, err)
			}
			if _, err := write(key, customer, PageInput{IfMatch: r.ETag.String(), Ops: []PageOp{{Kind: PageMeta, Name: "a", Data: []byte("b")}, {Kind: PageMeta, Name: "a"}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for key, want := range map[string]SSE{"s3": {Kind: SSEKMS, KeyID: "a"}, "clear": {Kind: SSES3}, "c": {Kind: SSES3}} {
		_, err := write(key, nil, PageInput{SSE: want})
		wantErr(t, err, ErrNotInPlace)
		_, err = write(key, nil, PageInput{SSE: want, Ops: []PageOp{{Kind: PageMeta, Name: "a", Data: []byte("b")}}})
		wantErr(t, err, ErrNotInPlace)
	}
	if _, err := write("s3", nil, PageInput{SSE: SSE{Kind: SSES3}}); err != nil {
		t.Error(err)
	}
	l, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range l.Entries {
		o, err := h.Head(h.ctx, "home", e.Key, &GetInput{Clear: true})
		if err != nil || o.ETag != e.ETag || e.ETag.Parts == 0 {
			t.Errorf("%s is listed with %v, %v", e.Key, e.ETag, err)
		}
	}
	r, err := h.Rename(h.ctx, "home", "moved", &RenameInput{Source: "c"})
	if err != nil {
		t.Fatal(err, r)
	}
	if _, err := write("moved", customer(1), PageInput{}); err != nil {
		t.Error(err)
	}
	if _, err := h.appendSealed("moved", 5001, []byte("yz"), SSE{}, customer(1)); err != nil {
		t.Error(err)
	}
	if got := h.readAll("moved", &GetInput{CustomerKey: customer(1)}); !bytes.Equal(got[5000:], []byte("xyz")) {
		t.Errorf("%q", got[5000:])
	}
}

// What a former master key sealed of objects that are written in place opens without it once it was sealed anew.
func TestResealPages(t *testing.T) {
	h := start(t)
	var want [][]byte
	for i, k := range kinds[1:] {
		body := random(uint64(i), 200<<10)
		h.putSealed(k.name, body, k.want, k.key)
		op := PageOp{Kind: PageWrite, Off: 1000, Data: random(7, 5000)}
		if _, err := h.WritePages(h.ctx, "home", k.name, &PageInput{Ops: []PageOp{op}, CustomerKey: k.key}); err != nil {
			t.Fatal(err)
		}
		want = append(want, inPlace(body, []PageOp{op}))
	}
	fresh := keyring.NewKey("fresh")
	both, err := keyring.New(fresh, keyring.Key{Name: "test", Secret: [32]byte{1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	h.o.Keys = both
	before, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 10})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.Reseal(h.ctx, "home", func() error { return nil }); err != nil || got != (ResealReport{Scanned: 3, Resealed: 2}) {
		t.Errorf("%+v, %v", got, err)
	}
	if h.o.Keys, err = keyring.New(fresh); err != nil {
		t.Fatal(err)
	}
	h.masks = maskCiphers{}
	after, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 10})
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range kinds[1:] {
		if got := h.readAll(k.name, &GetInput{CustomerKey: k.key}); !bytes.Equal(got, want[i]) {
			t.Errorf("%s has other bytes", k.name)
		}
		if before.Entries[i].ETag != after.Entries[i].ETag {
			t.Errorf("%s has another ETag", k.name)
		}
		op := PageOp{Kind: PageWrite, Off: 3000, Data: []byte("after")}
		if _, err := h.WritePages(h.ctx, "home", k.name, &PageInput{Ops: []PageOp{op}, CustomerKey: k.key}); err != nil {
			t.Error(err)
		}
		if got := h.readAll(k.name, &GetInput{CustomerKey: k.key}); !bytes.Equal(got, inPlace(want[i], []PageOp{op})) {
			t.Errorf("%s has other bytes after a write", k.name)
		}
	}
}

// Nothing that is written in place is on the disk in the clear, what is staged and copied included; what may be a hole is no secret.
func TestNoPageInTheClear(t *testing.T) {
	fs := storefs.NewMem()
	h := open(t, fs, small)
	h.bucket("home")
	seed := uint64(1000)
	var secrets [][]byte
	secret := func(n int) []byte {
		seed++
		p := random(seed%60000, n)
		for at := 0; at+16 <= n; at += max(16, n/3) {
			secrets = append(secrets, p[at:at+16])
		}
		return p
	}
	for _, k := range kinds[1:] {
		write := func(key string, ops ...PageOp) {
			t.Helper()
			ops = append(ops, PageOp{Kind: PageMeta, Name: "secret", Data: []byte("value")})
			create := &PageCreate{Headers: Headers{ContentType: "text/secret"}}
			if _, err := h.WritePages(h.ctx, "home", key, &PageInput{Ops: ops, Create: create, SSE: k.want, CustomerKey: k.key}); err != nil {
				t.Fatal(err)
			}
		}
		key := k.name
		h.putSealed(key, secret(300<<10), k.want, k.key)
		for range 2 {
			write(key, PageOp{Kind: PageWrite, Off: 10, Data: secret(100)})            // a delta
			write(key, PageOp{Kind: PageWrite, Off: 100 << 10, Data: secret(5000)})    // a full page in the log
			write(key, PageOp{Kind: PageWrite, Off: 2 << 20, Data: secret(400 << 10)}) // pages in segments
			write(key, PageOp{Kind: PageZero, Off: 2<<20 + 5000, Len: 200 << 10})      // a hole
			write(key, PageOp{Kind: PageWrite, Off: 2<<20 + 100, Data: secret(20)})    // a delta over a stored page
			write(key, PageOp{Kind: PageResize, Off: 2<<20 + 300<<10 - 5})             // within a page
			if _, err := h.appendSealed(key, 2<<20+300<<10-5, secret(90<<10), SSE{}, k.key); err != nil {
				t.Fatal(err)
			}
			h.copy("home", key+"-copy", CopyInput{SrcBucket: "home", SrcKey: key, SSE: k.want, CustomerKey: k.key, SrcCustomerKey: k.key})
			if key = key + "-clone"; true {
				in := &CloneInput{SrcBucket: "home", SrcKey: k.name, Off: 7, SSE: k.want, CustomerKey: k.key, SrcCustomerKey: k.key}
				if _, err := h.Clone(h.ctx, "home", key, in); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	secrets = append(secrets, []byte("text/secret"), append([]byte("secret"), "\x05value"...), customer(1)[:])
	h.flush()
	walk(t, fs, "data", func(path string, p []byte) {
		for _, s := range secrets {
			if bytes.Contains(p, s) {
				t.Fatalf("%s has the secret %x", path, s)
			}
		}
	})
	// The same search finds pages that are not encrypted.
	plain := random(1, 5000)
	if _, err := h.WritePages(h.ctx, "home", "plain", &PageInput{Ops: []PageOp{{Kind: PageWrite, Data: plain}}, Create: &PageCreate{}}); err != nil {
		t.Fatal(err)
	}
	found := false
	walk(t, fs, "data", func(path string, p []byte) { found = found || bytes.Contains(p, plain[:1000]) })
	if !found {
		t.Error("what is not encrypted is not found either")
	}
}

// Where a bucket encrypts, what is created in place is encrypted as it says; an object in the clear is not written until it is copied onto itself.
func TestPagesInBucketThatEncrypts(t *testing.T) {
	h := start(t)
	write := func(key string, data string) error {
		_, err := h.WritePages(h.ctx, "home", key, &PageInput{Ops: []PageOp{{Kind: PageWrite, Data: []byte(data)}}, Create: &PageCreate{}})
		return err
	}
	if err := write("paged", "page"); err != nil {
		t.Fatal(err)
	}
	h.put("home", "plain", []byte("hello"))
	kms := &Encryption{Rules: []EncryptionRule{{Default: &EncryptionDefault{Algorithm: "aws:kms", KeyID: ptr("a")}}}}
	for _, bucket := range []bool{false, true} {
		want := SSE{Kind: SSES3}
		if h.o.EncryptAll = true; bucket {
			want = SSE{Kind: SSEKMS, KeyID: "a"}
			if _, err := h.UpdateSettings(h.ctx, "home", func(s *Settings) error { s.Encryption = kms; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range []string{"paged", "plain"} {
			wantErr(t, write(key, "PA"), ErrNotInPlace)
		}
		if _, err := h.append("paged", 4, []byte("x")); !errors.Is(err, ErrAppendClear) {
			t.Errorf("append: %v", err)
		}
		if _, err := h.Clone(h.ctx, "home", "clone", &CloneInput{SrcBucket: "home", SrcKey: "paged"}); err != nil {
			t.Error(err)
		}
		new := fmt.Sprint("new", bucket)
		if err := errors.Join(write(new, "page"), write("clone", "PA")); err != nil {
			t.Error(err)
		}
		for key, text := range map[string]string{new: "page", "clone": "PAge", "paged": "page", "plain": "hello"} {
			o, got, err := h.get("home", key, GetInput{})
			clear := key == "paged" || key == "plain"
			if err != nil || string(got) != text || !clear && o.SSE() != want || clear && o.SSE() != (SSE{}) {
				t.Errorf("%s: %q, %+v, %v", key, got, o, err)
			}
		}
	}
	for _, key := range []string{"paged", "plain"} {
		h.copy("home", key, CopyInput{SrcBucket: "home", SrcKey: key, SSE: SSE{Kind: SSES3}})
		if err := write(key, "PA"); err != nil {
			t.Error(err)
		}
	}
	h.want("home", "paged", 0, []byte("PAge"))
	h.want("home", "plain", 0, []byte("PAllo"))
}

// Neither the data key nor the fields are sealed again by a write that leaves them as they are.
func TestWritesLeaveFieldsSealed(t *testing.T) {
	h := start(t)
	sealed := func() (sum [2][16]byte) {
		t.Helper()
		v, err := h.Store().View(h.ctx, "home", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		e, _, err := h.find(v, "k", 0)
		if err != nil {
			t.Fatal(err)
		}
		return [2][16]byte{md5.Sum(e.crypt.sealed), md5.Sum(e.crypt.locked)}
	}
	write := func(op PageOp) {
		t.Helper()
		if _, err := h.WritePages(h.ctx, "home", "k", &PageInput{Ops: []PageOp{op}}); err != nil {
			t.Fatal(err)
		}
	}
	h.putSealed("k", []byte("text"), SSE{Kind: SSES3}, nil)
	write(PageOp{Kind: PageWrite, Off: 1, Data: []byte("x")})
	opened := sealed()
	write(PageOp{Kind: PageWrite, Off: 2, Data: []byte("y")})
	if sealed() != opened {
		t.Error("a write sealed the fields again")
	}
	write(PageOp{Kind: PageMeta, Name: "secret", Data: []byte("other")})
	if now := sealed(); now[0] != opened[0] || now[1] == opened[1] {
		t.Error("what describes it was not sealed again, or the data key was")
	}
	o, got, err := h.get("home", "k", GetInput{})
	if err != nil || string(got) != "txyt" || o.UserMeta[0].Value != "other" || o.Headers.ContentType != "text/secret" {
		t.Errorf("%q, %+v, %v", got, o, err)
	}
}

// What a customer's key encrypts goes into merges, undeletes and commits without the key, deltas or none, and is what it was with it; what would have to be sealed again is refused.
func TestMergePagesUnderCustomerKey(t *testing.T) {
	for _, v := range []Versioning{Unversioned, Enabled} {
		h := start(t)
		h.versioning("home", v)
		key := customer(1)
		body := random(1, 200<<10)
		h.putSealed("k", body, SSE{Kind: SSEC}, key)
		write := func(bucket string, off int, data []byte) {
			t.Helper()
			ops := []PageOp{{Kind: PageWrite, Off: uint64(off), Data: data}}
			if _, err := h.WritePages(h.ctx, bucket, "k", &PageInput{Ops: ops, CustomerKey: key}); err != nil {
				t.Fatal(err)
			}
			body = inPlace(body, ops)
		}
		want := func(bucket string, at wal.LSN) {
			t.Helper()
			if _, got, err := h.get(bucket, "k", GetInput{CustomerKey: key, At: at}); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s, %v: %v, %d bytes", bucket, v, err, len(got))
			}
		}
		write("home", 5000, []byte("a few bytes"))
		h.fork("home", "dev")
		for i := range 3 {
			write("dev", 5003+i, []byte("more"))
			write("dev", 100<<10+i, random(2, 9000))
			if _, err := h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home"}); err != nil {
				t.Fatal(err)
			}
			want("home", 0)
			write("home", 50_000+i, []byte("on")) // of the file that was merged
			if _, err := h.Rebase(h.ctx, &MergeInput{Source: Point{Bucket: "home"}, Target: "dev"}); err != nil {
				t.Fatal(err)
			}
			want("dev", 0)
		}
		h.del("home", "k")
		if u, err := h.Undelete(h.ctx, "home", []string{"k"}, false); err != nil || len(u.Objects) != 1 {
			t.Fatalf("%+v, %v", u, err)
		}
		want("home", 0)
		write("home", 9, []byte("and on"))
		want("home", 0)
		_, err := h.Rename(h.ctx, "home", "moved", &RenameInput{Source: "k"})
		if v == Unversioned {
			if err == nil {
				_, err = h.Rename(h.ctx, "home", "k", &RenameInput{Source: "moved"})
			}
			wantErr(t, err, nil)
		} else {
			wantErr(t, err, ErrKeyRequired)
		}
		want("home", 0)
		h.noOrphans("home")
	}
}

// A page that has deltas is carried by a merge as one page, sealed anew, and the pages of a file that was carried open after their data
// key was sealed anew, too.
func TestMergeSealedDeltas(t *testing.T) {
	for _, k := range kinds[1:3] {
		for _, v := range []Versioning{Unversioned, Enabled} {
			h := start(t)
			h.versioning("home", v)
			body := random(1, 100<<10)
			h.putSealed("k", body, k.want, nil)
			write := func(bucket string, off int, text string) {
				t.Helper()
				h.write(bucket, "k", uint64(off), []byte(text))
				copy(body[off:], text)
			}
			write("home", 5000, "first")
			h.fork("home", "dev")
			write("dev", 5003, "second")
			write("dev", 9000, "third")
			merge := func() {
				t.Helper()
				if _, err := h.Merge(h.ctx, &MergeInput{Source: Point{Bucket: "dev"}, Target: "home"}); err != nil {
					t.Fatal(err)
				}
				h.want("home", "k", 0, body)
			}
			merge()
			write("home", 5001, "after")
			fresh := keyring.NewKey("fresh")
			both, err := keyring.New(fresh, keyring.Key{Name: "test", Secret: [32]byte{1, 2, 3}})
			if err != nil {
				t.Fatal(err)
			}
			h.o.Keys = both
			if _, err := h.Reseal(h.ctx, "home", func() error { return nil }); err != nil {
				t.Fatal(err)
			}
			if h.o.Keys, err = keyring.New(fresh); err != nil {
				t.Fatal(err)
			}
			h.masks = maskCiphers{}
			h.want("home", "k", 0, body)
			write("home", 5002, "resealed")
			h.want("home", "k", 0, body)
			// A copy seals its pages for itself.
			h.copy("home", "copy", CopyInput{SrcBucket: "home", SrcKey: "k"})
			if _, err := h.Rename(h.ctx, "home", "moved", &RenameInput{Source: "k"}); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"copy", "moved"} {
				h.write("home", key, 0, []byte("x"))
				o := h.want("home", key, 0, append([]byte("x"), body[1:]...))
				if v == Enabled && o.crypt.sealedFor != (fileID{}) {
					t.Errorf("%s is sealed for file %v", key, o.crypt.sealedFor)
				}
			}
		}
	}
}

// A record that was sealed once opens for ever, and so does a base.
func TestSealedPageGolden(t *testing.T) {
	seal := &pageSeal{&dataKey{1, 31: 2}, fileID{3, 11: 4}}
	for text, c := range map[string]struct {
		kind         layers.Kind
		meta, sealed string
	}{
		"page":  {layers.KindValue, "3a9e1e6945c616724e4ba08a583e8fb822e5885036c18a3f5dba5575c33ea306", "b7fe0c81"},
		"delta": {layers.KindDelta, "0105772842628ddbcd1152baffe77ad3153d48b8ccf119ac1dc3093986453eb389f3", "9e0e6bd0f1"},
	} {
		meta, err := hex.DecodeString(c.meta)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := hex.DecodeString(c.sealed)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := seal.open(5, c.kind, meta, sealed); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	base := appendSealedRuns(nil, []sealedStream{{size: 70_000}, {part: copiedPart, size: 300}}, []run{{off: 1, len: 200, body: 70_050}, {off: 5000, len: 65_536, body: 4000}})
	if got := hex.EncodeToString(base); got != "020200f0a204914eac0201c801a2a304bf25808004a01f" {
		t.Errorf("base %s", got)
	}
	b, runs, err := decodeSealedRuns(base)
	// Of the first stream both blocks, and all of the second, with its salt: one span.
	if err != nil || len(runs) != 2 || !slices.Equal(b.spans, []storedSpan{{0, 70_032 + 16 + 300 + 16, 0}}) {
		t.Errorf("%v, %v, %v", runs, b.spans, err)
	}
}
