package object

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"stemma/layers"
)

// inPlace applies ops to plain bytes.
func inPlace(b []byte, ops []PageOp) []byte {
	b = slices.Clone(b)
	grow := func(n uint64) {
		if n > uint64(len(b)) {
			b = append(b, make([]byte, n-uint64(len(b)))...)
		}
	}
	for _, o := range ops {
		switch o.Kind {
		case PageWrite:
			if len(o.Data) > 0 {
				grow(o.Off + uint64(len(o.Data)))
				copy(b[o.Off:], o.Data)
			}
		case PageZero:
			if o.Off < uint64(len(b)) {
				clear(b[o.Off:min(uint64(len(b)), o.Off+o.Len)])
			}
		case PageResize:
			grow(o.Off)
			b = b[:o.Off]
		}
	}
	return b
}

// randomOps returns changes of an object of about size bytes.
func randomOps(rng *rand.Rand, size int) (ops []PageOp) {
	span := max(size+size/4, 20<<10)
	for range 1 + rng.IntN(4) {
		off := rng.IntN(span)
		if rng.IntN(2) == 0 {
			off &^= MinPageBytes - 1
		}
		n := 1 + rng.IntN(200)
		switch rng.IntN(6) {
		case 0:
			n = MinPageBytes
		case 1:
			n = rng.IntN(30 << 10)
		}
		switch rng.IntN(9) {
		case 0:
			ops = append(ops, PageOp{Kind: PageZero, Off: uint64(off), Len: uint64(n)})
		case 1:
			ops = append(ops, PageOp{Kind: PageZero, Off: uint64(off), Len: uint64(rng.IntN(span))})
		case 2:
			ops = append(ops, PageOp{Kind: PageResize, Off: uint64(off)})
		default:
			ops = append(ops, PageOp{Kind: PageWrite, Off: uint64(off), Data: random(rng.Uint64(), n)})
		}
	}
	return ops
}

// Random changes of one object, with every page size, read back whole and in ranges,
// at the tip and at the commits before, through flushes and a restart.
func TestWritePages(t *testing.T) {
	skipLong(t)
	for _, pageBytes := range []int{4 << 10, 16 << 10, 64 << 10, 1 << 20} {
		for _, begin := range []int{-1, 0, 100, 40 << 10, 700 << 10} {
			t.Run(fmt.Sprintf("%d/%d", pageBytes, begin), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(pageBytes), uint64(begin)))
				h := start(t, small)
				var content []byte
				if begin >= 0 {
					content = random(rng.Uint64(), begin)
					h.put("home", "k", content)
				}
				type version struct {
					at   PageResult
					body []byte
				}
				var past []version
				for i := range 60 {
					in := &PageInput{Ops: randomOps(rng, len(content)), Create: &PageCreate{}, PageBytes: pageBytes}
					r, err := h.WritePages(h.ctx, "home", "k", in)
					if err != nil {
						t.Fatal(err)
					}
					content = inPlace(content, in.Ops)
					if r.Size != uint64(len(content)) || r.PageBytes != pageBytes {
						t.Fatalf("%+v, want %d bytes", r, len(content))
					}
					past = append(past, version{*r, content})
					if i%17 == 16 {
						h.flush()
					}
					v := past[len(past)-1]
					in2 := GetInput{}
					if rng.IntN(2) == 0 {
						v = past[rng.IntN(len(past))]
						in2.At = v.at.LSN
					}
					off, n := 0, len(v.body)
					if n > 0 && rng.IntN(3) != 0 {
						off = rng.IntN(n)
						n = 1 + rng.IntN(n-off)
						in2.Range = fmt.Sprintf("bytes=%d-%d", off, off+n-1)
					}
					o, got, err := h.get("home", "k", in2)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, v.body[off:off+n]) {
						t.Fatalf("commit %d: %d bytes at %d differ", i, n, off)
					}
					if o.ETag != v.at.ETag || o.LSN != v.at.LSN || o.Size != uint64(len(v.body)) || o.Checksum != (Checksum{}) {
						t.Fatalf("%+v, want %+v", o.Entry, v.at)
					}
				}
			})
		}
	}
}

func TestWritePagesConditions(t *testing.T) {
	h := start(t, small)
	write := func(in PageInput) (*PageResult, error) {
		in.Ops = []PageOp{{Kind: PageWrite, Data: []byte("x")}}
		return h.WritePages(h.ctx, "home", "k", &in)
	}
	_, err := write(PageInput{})
	wantErr(t, err, ErrNoSuchKey)
	r, err := write(PageInput{Create: &PageCreate{Exclusive: true, Headers: Headers{ContentType: "a/b"}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = write(PageInput{Create: &PageCreate{Exclusive: true}})
	wantErr(t, err, ErrPreconditionFailed)
	_, err = write(PageInput{IfLSN: r.LSN - 1})
	wantErr(t, err, ErrPreconditionFailed)
	_, err = write(PageInput{IfMatch: `"` + ETag{}.String() + `"`})
	wantErr(t, err, ErrPreconditionFailed)
	size := uint64(7)
	_, err = write(PageInput{IfSize: &size})
	var off *OffsetError
	if !errors.As(err, &off) || off.Size != 1 {
		t.Fatal(err)
	}
	_, err = write(PageInput{PageBytes: 5000})
	wantErr(t, err, ErrPageSize)
	next, err := write(PageInput{IfLSN: r.LSN, IfMatch: r.ETag.String()})
	if err != nil {
		t.Fatal(err)
	}
	if next.ETag == r.ETag {
		t.Error("the ETag did not change")
	}
	o, _, err := h.get("home", "k", GetInput{})
	if err != nil || o.Headers.ContentType != "a/b" {
		t.Error(err, o)
	}
	list, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 10})
	if err != nil || len(list.Entries) != 1 || list.Entries[0].ETag != next.ETag || list.Entries[0].Size != 1 {
		t.Error(err, list)
	}
}

// files returns the files that entries name, and those that have pages, as a bucket shows them.
func (h *harness) files(bucket string) (named, there map[fileID]bool) {
	h.t.Helper()
	v, err := h.Store().View(h.ctx, bucket, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer v.Close()
	named, there = map[fileID]bool{}, map[fileID]bool{}
	for _, ns := range []layers.Namespace{layers.NamespaceObjects, layers.NamespaceVersions} {
		scan := v.Scan(ns, nil, nil)
		for ok := scan.First(); ok; ok = scan.Next() {
			var head metaHead
			if len(scan.Record().Meta) <= 8 {
				continue // of a null version
			}
			if _, err := head.decode(scan.Record().Meta, true); err != nil {
				h.t.Fatal(err)
			}
			if head.pages.paged() {
				named[head.pages.id] = true
			}
		}
		if err := errors.Join(scan.Err(), scan.Close()); err != nil {
			h.t.Fatal(err)
		}
	}
	scan := v.Scan(layers.NamespacePages, nil, nil)
	defer scan.Close()
	for ok := scan.First(); ok; ok = scan.Next() {
		there[fileID(scan.Record().Key.User()[:len(fileID{})])] = true
	}
	if scan.Err() != nil {
		h.t.Fatal(scan.Err())
	}
	return named, there
}

// noOrphans checks that all pages belong to an object.
func (h *harness) noOrphans(bucket string) {
	h.t.Helper()
	named, there := h.files(bucket)
	for f := range there {
		if !named[f] {
			h.t.Errorf("%s: pages of file %v belong to no object", bucket, f)
		}
	}
}

// Whatever replaces or removes an object that is written in place removes its pages:
// in each state of versioning, for the version that goes and no other.
func TestPagesGoWithTheirObject(t *testing.T) {
	skipLong(t)
	for _, versioning := range []Versioning{Unversioned, Enabled, Suspended} {
		t.Run(fmt.Sprint(versioning), func(t *testing.T) {
			h := start(t)
			write := func() *PageResult {
				r, err := h.WritePages(h.ctx, "home", "k", &PageInput{Ops: []PageOp{{Kind: PageWrite, Off: 9000, Data: []byte("x")}}, Create: &PageCreate{}})
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			write() // before there are versions
			if versioning != Unversioned {
				if _, err := h.UpdateSettings(h.ctx, "home", func(s *Settings) error { s.Versioning = versioning; return nil }); err != nil {
					t.Fatal(err)
				}
			}
			want := func(n int) {
				t.Helper()
				h.noOrphans("home")
				if named, there := h.files("home"); len(named) != n || len(there) != n {
					t.Errorf("%d files are named, %d there, want %d", len(named), len(there), n)
				}
			}
			kept := 0
			if versioning == Enabled {
				kept = 1
			}
			want(1)
			h.put("home", "k", []byte("other"))
			want(kept) // the null version, where it stays
			write()
			want(kept + 1)
			if _, err := h.Copy(h.ctx, "home", "k2", &CopyInput{SrcBucket: "home", SrcKey: "k"}); err != nil {
				t.Fatal(err)
			}
			want(kept + 2)
			u := h.upload("home", "k2", UploadInput{})
			if _, err := h.complete(u, CompleteInput{Size: -1}, h.part(u, 1, []byte("part"), Expect{})); err != nil {
				t.Fatal(err)
			}
			want(2*kept + 1)
			if _, err := h.Delete(h.ctx, "home", DeleteKey{Key: "k"}); err != nil {
				t.Fatal(err)
			}
			want(3 * kept)
			list, err := h.ListVersions(h.ctx, "home", &ListVersionsInput{MaxKeys: 100})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list.Entries {
				if _, err := h.Delete(h.ctx, "home", DeleteKey{Key: e.Key, Version: e.ID}); err != nil {
					t.Fatal(err)
				}
			}
			want(0)
		})
	}
}

// An append with an offset, and a rename, know objects that are written in place.
func TestPagesAppendAndRename(t *testing.T) {
	h := start(t)
	r, err := h.WritePages(h.ctx, "home", "k", &PageInput{Ops: []PageOp{{Kind: PageWrite, Off: 5000, Data: []byte("x")}}, Create: &PageCreate{}})
	if err != nil {
		t.Fatal(err)
	}
	want := append(make([]byte, 5000), 'x')
	_, err = h.Append(h.ctx, "home", "k", r.Size+1, &PutInput{Body: bytes.NewReader([]byte("y")), Size: 1})
	wantErr(t, err, ErrWriteOffset)
	more := random(1, 100<<10)
	e, err := h.Append(h.ctx, "home", "k", r.Size, &PutInput{Body: bytes.NewReader(more), Size: -1})
	if err != nil || e.Size != r.Size+uint64(len(more)) || e.ETag == r.ETag {
		t.Fatal(err, e)
	}
	want = append(want, more...)
	h.want("home", "k", 0, want)
	if _, err := h.Rename(h.ctx, "home", "to", &RenameInput{Source: "k"}); err != nil {
		t.Fatal(err)
	}
	h.want("home", "to", 0, want)
	h.wantAbsent("home", "k", 0)
	h.want("home", "k", e.LSN, want)
	h.noOrphans("home")
	if _, err := h.Rename(h.ctx, "home", "to", &RenameInput{Source: "to2"}); err == nil {
		t.Error("renamed what is not there")
	}
}

// Pages that lie side by side are copied however many of them end in zeros, and none of them takes memory of its own.
func TestCopyManyShortPages(t *testing.T) {
	if testing.Short() {
		t.Skip("copies 65,636 pages twice")
	}
	h := start(t)
	const pages = maxBaseRuns + 100
	want := make([]byte, pages<<12)
	ops := make([]PageOp, pages)
	for i := range ops {
		ops[i] = PageOp{Kind: PageWrite, Off: uint64(i) << 12, Data: random(uint64(i), 60)}
		copy(want[ops[i].Off:], ops[i].Data)
	}
	want = want[:len(want)-1<<12+60]
	for key, sse := range map[string]SSE{"clear": {}, "sealed": {Kind: SSES3}} {
		for some := range slices.Chunk(ops, 10_000) {
			if _, err := h.WritePages(h.ctx, "home", key, &PageInput{Create: &PageCreate{}, Ops: some, SSE: sse}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := h.Copy(h.ctx, "home", "copy", &CopyInput{SrcBucket: "home", SrcKey: key, SSE: sse}); err != nil {
			t.Fatal(key, err)
		}
		h.want("home", "copy", 0, want)
	}

	f := flattener{s: h.Service, ctx: h.ctx, out: &flattened{}}
	defer f.out.close()
	for i := range 10 {
		if err := f.write(uint64(i)<<12, random(uint64(i), 1<<12)); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.pieces) != 1 {
		t.Errorf("%d pieces", len(f.pieces))
	}
}
