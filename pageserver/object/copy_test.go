package object

import (
	"bytes"
	"slices"
	"testing"

	"stemma/layers"
	"stemma/timeline"
)

func (h *harness) copy(bucket, key string, in CopyInput) *CopyResult {
	h.t.Helper()
	res, err := h.Copy(h.ctx, bucket, key, &in)
	if err != nil {
		h.t.Fatal(err)
	}
	return res
}

// A copy has the body, tag and checksum of its source, at any LSN of any
// bucket, and moves no large body.
func TestCopy(t *testing.T) {
	skipLong(t)
	h := start(t)
	h.bucket("away")
	for _, n := range []int{0, 100, 5000, 1 << 20} {
		old, body := random(1, n+1), random(2, n)
		first := h.put("home", "src", old)
		src, err := h.Put(h.ctx, "home", "src", &PutInput{
			Body: bytes.NewReader(body), Size: int64(n), Checksum: Expect{Algorithm: SHA1}, StorageClass: Glacier,
			Headers: Headers{ContentType: "a/b", WebsiteRedirect: "/x"}, UserMeta: []Field{{"k", "v"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if n == 5000 { // parted by a flush
			if err := h.Store().Flush(h.ctx); err != nil {
				t.Fatal(err)
			}
		}
		stored := storedBytes(h)
		res := h.copy("away", "dst", CopyInput{SrcBucket: "home", SrcKey: "src"})
		o := h.want("away", "dst", 0, body)
		if res.SrcLSN != src.LSN || o.LSN != res.LSN || o.ETag != src.ETag || o.Checksum != src.Checksum || o.StorageClass != Standard ||
			o.Headers != (Headers{ContentType: "a/b"}) || !slices.Equal(o.UserMeta, src.UserMeta) {
			t.Errorf("copy %+v of %+v", o.Entry, src)
		}
		h.copy("home", "dst", CopyInput{SrcBucket: "home", SrcKey: "src", SrcAt: first.LSN, Replace: true, Headers: Headers{ContentType: "c/d"}})
		if o = h.want("home", "dst", 0, old); o.Headers != (Headers{ContentType: "c/d"}) || o.UserMeta != nil {
			t.Errorf("copy with other metadata %+v", o.Entry)
		}
		// An old version over the present one is how an object is restored.
		h.copy("home", "src", CopyInput{SrcBucket: "home", SrcKey: "src", SrcAt: first.LSN})
		h.want("home", "src", 0, old)
		if _, err := h.Fork(h.ctx, "home", src.LSN, []string{"fork"}); err != nil {
			t.Fatal(err)
		}
		h.copy("away", "of-fork", CopyInput{SrcBucket: "fork", SrcKey: "src"})
		h.want("away", "of-fork", 0, body)
		if _, err := h.DeleteBucket(h.ctx, "fork", timeline.DeleteOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		if got := storedBytes(h); got != stored {
			t.Errorf("copies of %d bytes wrote %d to value segments", n, got-stored)
		}
		// Another checksum is computed from the bytes.
		res = h.copy("away", "dst", CopyInput{SrcBucket: "away", SrcKey: "of-fork", Algorithm: CRC32})
		var want summer
		want.reset(CRC32)
		want.write(body)
		if res.Checksum != want.sum() || res.ETag != src.ETag {
			t.Errorf("CRC32 of a copy is %v, want %v", res.Checksum, want.sum())
		}
	}
}

func storedBytes(h *harness) (n int64) {
	for _, s := range h.Store().Values().Segments() {
		n += s.Bytes
	}
	return n
}

func TestCopyRefused(t *testing.T) {
	h := start(t)
	h.put("home", "src", []byte("x"))
	h.put("home", "dst", []byte("y"))
	for name, c := range map[string]struct {
		bucket, key string
		in          CopyInput
		want        error
	}{
		"itself":       {"home", "src", CopyInput{}, ErrSelfCopy},
		"no key":       {"home", "dst", CopyInput{SrcKey: "nothing"}, ErrNoSuchKey},
		"no bucket":    {"home", "dst", CopyInput{SrcBucket: "nobody"}, timeline.ErrNoSuchBucket},
		"to nowhere":   {"nobody", "dst", CopyInput{}, timeline.ErrNoSuchBucket},
		"source match": {"home", "dst", CopyInput{SrcCond: Conditions{IfMatch: "x"}}, ErrPreconditionFailed},
		"source none":  {"home", "dst", CopyInput{SrcCond: Conditions{IfNoneMatch: "*"}}, ErrPreconditionFailed},
		"match":        {"home", "dst", CopyInput{Cond: Conditions{IfMatch: "x"}}, ErrPreconditionFailed},
		"none":         {"home", "dst", CopyInput{Cond: Conditions{IfNoneMatch: "*"}}, ErrPreconditionFailed},
		"metadata":     {"home", "dst", CopyInput{Replace: true, UserMeta: []Field{{string(make([]byte, 2000)), string(make([]byte, 49))}}}, ErrMetadataTooLarge},
	} {
		if c.in.SrcBucket == "" {
			c.in.SrcBucket = "home"
		}
		if c.in.SrcKey == "" {
			c.in.SrcKey = "src"
		}
		_, err := h.Copy(h.ctx, c.bucket, c.key, &c.in)
		if wantErr(t, err, c.want); t.Failed() {
			t.Fatal(name)
		}
	}
	h.want("home", "dst", 0, []byte("y"))
	for name, in := range map[string]CopyInput{
		"replace": {Replace: true}, "class": {StorageClass: Glacier}, "checksum": {Algorithm: SHA256}, "redirect": {Headers: Headers{WebsiteRedirect: "/"}},
	} {
		in.SrcBucket, in.SrcKey = "home", "src"
		if _, err := h.Copy(h.ctx, "home", "src", &in); err != nil {
			t.Errorf("onto itself with another %s: %v", name, err)
		}
		h.copy("home", "src", CopyInput{SrcBucket: "home", SrcKey: "src", Replace: true, Algorithm: CRC64NVME})
	}
	if _, err := h.Copy(h.ctx, "home", "dst", &CopyInput{SrcBucket: "home", SrcKey: "src", Cond: Conditions{IfMatch: "*"}}); err != nil {
		t.Error(err)
	}
}

// While an object is being copied from, its segments cannot be removed; the
// twin without the source can.
func TestSourceHoldsSegments(t *testing.T) {
	h := start(t)
	h.put("home", "src", random(1, 1<<20))
	values := h.Store().Values()
	if err := values.SealIdle(0); err != nil {
		t.Fatal(err)
	}
	segs := values.Segments()
	src, err := h.openSource(h.ctx, "home", "src", &GetInput{})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, values.Remove(segs[0].Num), layers.ErrHeld)
	src.close()
	wantErr(t, values.Remove(segs[0].Num), nil)
	_, err = h.Copy(h.ctx, "home", "dst", &CopyInput{SrcBucket: "home", SrcKey: "src"})
	wantErr(t, err, layers.ErrNoSegment)
	h.wantAbsent("home", "dst", 0)
}
