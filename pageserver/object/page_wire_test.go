package object

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"stemma/timeline"
)

func FuzzPageOps(f *testing.F) {
	f.Add(AppendPageOps(nil, []PageOp{{Kind: PageWrite, Off: 300, Data: []byte("abc")}, {Kind: PageZero, Off: 5, Len: 9}, {Kind: PageResize, Off: 4}, {Kind: PageMeta, Name: "n", Data: []byte("v")}}))
	f.Fuzz(func(t *testing.T, p []byte) {
		ops, err := DecodePageOps(p)
		if err == nil && !bytes.Equal(AppendPageOps(nil, ops), p) {
			t.Fatalf("%x is encoded as %x", p, AppendPageOps(nil, ops))
		}
	})
}

func FuzzPageReads(f *testing.F) {
	f.Add(AppendPageReads(nil, []PageRead{{Key: "k", At: 7, Off: 300, Len: 1}, {Key: "", Len: 5}}))
	f.Fuzz(func(t *testing.T, p []byte) {
		reads, err := DecodePageReads(p)
		if err == nil && !bytes.Equal(AppendPageReads(nil, reads), p) {
			t.Fatalf("%x is encoded as %x", p, AppendPageReads(nil, reads))
		}
	})
}

func FuzzPageResults(f *testing.F) {
	f.Add(AppendPageResults(nil, []PageReadResult{{LSN: 1, Size: 9, Data: []byte("abc")}, {Err: ErrNoSuchKey}, {Err: errors.New("x")}}))
	f.Fuzz(func(t *testing.T, p []byte) {
		_, _ = DecodePageResults(p)
	})
}

// A batch reads many objects at many LSNs as single reads do, those that are not there
// included.
func TestReadPages(t *testing.T) {
	h := start(t, small)
	rng := rand.New(rand.NewPCG(1, 2))
	type version struct {
		read PageRead
		body []byte
	}
	var all []version
	for i := range 40 {
		key := fmt.Sprint("k", i%4)
		var body []byte
		if i >= 4 {
			body = all[i-4].body
		}
		if i%4 == 3 { // one that is not written in place
			body = random(rng.Uint64(), rng.IntN(300<<10))
			all = append(all, version{PageRead{Key: key, At: h.put("home", key, body).LSN}, body})
			continue
		}
		ops := randomOps(rng, len(body))
		r, err := h.WritePages(h.ctx, "home", key, &PageInput{Ops: ops, Create: &PageCreate{}})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, version{PageRead{Key: key, At: r.LSN}, inPlace(body, ops)})
	}
	h.flush()
	var reads []PageRead
	var want [][]byte
	for range 200 {
		v := all[rng.IntN(len(all))]
		off := rng.IntN(len(v.body) + 10)
		n := rng.IntN(20 << 10)
		v.read.Off, v.read.Len = uint64(off), uint64(n)
		reads = append(reads, v.read)
		from := min(off, len(v.body))
		want = append(want, v.body[from:min(from+n, len(v.body))])
	}
	reads = append(reads, PageRead{Key: "none", Len: 1}, PageRead{Key: "k1", At: 5, Len: 1}, PageRead{Key: "k0", At: h.Store().Now() + 1<<40, Len: 1})
	results, err := h.ReadPages(h.ctx, "home", reads)
	if err != nil {
		t.Fatal(err)
	}
	if results, err = DecodePageResults(AppendPageResults(nil, results)); err != nil || len(results) != len(reads) {
		t.Fatal(err)
	}
	for i, w := range want {
		if results[i].Err != nil || !bytes.Equal(results[i].Data, w) {
			t.Fatalf("%+v: %v, %d bytes, want %d", reads[i], results[i].Err, len(results[i].Data), len(w))
		}
	}
	wantErr(t, results[200].Err, ErrNoSuchKey)
	wantErr(t, results[201].Err, timeline.ErrNoSuchBucket)
	wantErr(t, results[202].Err, timeline.ErrFuture)
	_, err = h.ReadPages(h.ctx, "home", []PageRead{{Key: "k", Len: MaxPageReadBytes + 1}})
	wantErr(t, err, ErrInvalidPageOp)
}

// What ChangedPages does not name is the same at both LSNs, in forks too.
func TestChangedPages(t *testing.T) {
	h := start(t, small)
	rng := rand.New(rand.NewPCG(3, 4))
	body := random(1, 200<<10)
	lsns, bodies := []PageResult{{LSN: h.put("home", "k", body).LSN}}, [][]byte{body}
	bucket := "home"
	for i := range 30 {
		if i == 15 {
			bucket = "fork"
			if _, err := h.Fork(h.ctx, "home", 0, []string{bucket}); err != nil {
				t.Fatal(err)
			}
		}
		ops := randomOps(rng, len(body))
		r, err := h.WritePages(h.ctx, bucket, "k", &PageInput{Ops: ops})
		if err != nil {
			t.Fatal(err)
		}
		body = inPlace(body, ops)
		lsns, bodies = append(lsns, *r), append(bodies, body)
		if i%10 == 9 {
			h.flush()
		}
	}
	unchanged := 0
	for range 100 {
		a := rng.IntN(len(lsns))
		b := a + rng.IntN(len(lsns)-a)
		c, err := h.ChangedPages(h.ctx, bucket, "k", lsns[a].LSN, lsns[b].LSN, 0)
		if err != nil {
			t.Fatal(err)
		}
		if a == b && len(c.Ranges) > 0 {
			t.Fatalf("changes between %d and itself: %v", lsns[a].LSN, c.Ranges)
		}
		now := slices.Clone(bodies[b])
		old := append(slices.Clone(bodies[a]), make([]byte, max(0, len(now)-len(bodies[a])))...)[:len(now)]
		if c.Size != uint64(len(now)) {
			t.Fatalf("size %d, want %d", c.Size, len(now))
		}
		unchanged += len(now)
		for _, r := range c.Ranges {
			copy(old[r.Off:r.Off+r.Len], now[r.Off:r.Off+r.Len])
			unchanged -= int(r.Len)
		}
		if !bytes.Equal(old, now) {
			t.Fatalf("from %d to %d: more than %v differs", a, b, c.Ranges)
		}
	}
	if unchanged == 0 {
		t.Error("everything was said to have changed")
	}
}

// A clone, whole or a range, of any kind of object, is one of its own.
func TestClone(t *testing.T) {
	h := start(t, small)
	for i, size := range []int{0, 100, 500 << 10} {
		for _, paged := range []bool{false, true} {
			key := fmt.Sprint("k", i, paged)
			body := random(uint64(i), size)
			h.put("home", key, body)
			if paged {
				ops := []PageOp{{Kind: PageWrite, Off: 10, Data: []byte("hello")}, {Kind: PageZero, Off: 20 << 10, Len: 100 << 10}, {Kind: PageResize, Off: uint64(size) + 9000}}
				if _, err := h.WritePages(h.ctx, "home", key, &PageInput{Ops: ops}); err != nil {
					t.Fatal(err)
				}
				body = inPlace(body, ops)
			}
			off := len(body) / 3
			n := len(body) / 2
			r, err := h.Clone(h.ctx, "home", key+"c", &CloneInput{SrcBucket: "home", SrcKey: key, Off: uint64(off), Len: uint64(n)})
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				n = len(body)
			}
			want := body[off : off+n]
			if r.Size != uint64(n) {
				t.Fatalf("%+v, want %d bytes", r, n)
			}
			h.want("home", key+"c", 0, want)
			ops := []PageOp{{Kind: PageWrite, Off: 5, Data: []byte("clone")}}
			if _, err := h.WritePages(h.ctx, "home", key+"c", &PageInput{Ops: ops}); err != nil {
				t.Fatal(err)
			}
			h.want("home", key+"c", 0, inPlace(want, ops))
			h.want("home", key, 0, body)
		}
	}
	h.noOrphans("home")
	_, err := h.Clone(h.ctx, "home", "x", &CloneInput{SrcBucket: "home", SrcKey: "k1 false", Off: 101})
	wantErr(t, err, ErrInvalidRange)
}
