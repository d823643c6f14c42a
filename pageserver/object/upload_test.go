package object

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"stemma/internal/seeds"
	"stemma/timeline"
)

func (h *harness) upload(bucket, key string, in UploadInput) *Upload {
	h.t.Helper()
	u, err := h.CreateUpload(h.ctx, bucket, key, &in)
	if err != nil {
		h.t.Fatal(err)
	}
	return u
}

func (h *harness) part(u *Upload, number int, body []byte, expect Expect) *Part {
	h.t.Helper()
	p, err := h.PutPart(h.ctx, "home", u.Key, u.ID, number, &PutPartInput{Body: bytes.NewReader(body), Size: int64(len(body)), Checksum: expect})
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

func (h *harness) complete(u *Upload, in CompleteInput, parts ...*Part) (*Entry, error) {
	for _, p := range parts {
		in.Parts = append(in.Parts, CompletePart{Number: p.Number, ETag: `"` + p.ETag.String() + `"`, Checksum: p.Checksum})
	}
	if in.Size == 0 {
		in.Size = -1
	}
	return h.CompleteUpload(h.ctx, "home", u.Key, u.ID, &in)
}

// A whole upload, for every algorithm and type: what is stored is what S3
// would have computed.
func TestUpload(t *testing.T) {
	skipLong(t)
	h := start(t)
	bodies := [][]byte{random(1, partBytes), random(2, partBytes+3), random(3, 100)}
	whole := slices.Concat(bodies...)
	var sums []byte
	for _, b := range bodies {
		s := md5.Sum(b)
		sums = append(sums, s[:]...)
	}
	etag := fmt.Sprintf("%x-3", md5.Sum(sums))
	for _, c := range []struct {
		alg       Algorithm
		typ       string
		composite bool
	}{
		{NoChecksum, "", false}, {CRC32, "", true}, {CRC32, "FULL_OBJECT", false}, {CRC32C, "COMPOSITE", true},
		{SHA256, "", true}, {SHA1, "COMPOSITE", true}, {CRC64NVME, "", false}, {SHA512, "", true}, {MD5, "COMPOSITE", true}, {XXHASH64, "", true}, {XXHASH3, "", true}, {XXHASH128, "", true},
	} {
		u := h.upload("home", "big", UploadInput{
			Algorithm: c.alg, ChecksumType: c.typ, StorageClass: OneZoneIA, Headers: Headers{ContentType: "x/y"}, UserMeta: []Field{{"a", "b"}},
		})
		if u.Algorithm != c.alg || c.alg != NoChecksum && u.Composite != c.composite {
			t.Errorf("%v %s: upload %+v", c.alg, c.typ, u)
		}
		h.part(u, 2, []byte("replaced"), Expect{})
		var parts []*Part
		// Numbers need not be dense, nor in order of arrival.
		for _, i := range []int{2, 0, 1} {
			parts = append(parts, h.part(u, 1+2*i, bodies[i], Expect{Algorithm: c.alg}))
		}
		parts = []*Part{parts[1], parts[2], parts[0]}
		l, err := h.ListParts(h.ctx, "home", u.Key, u.ID, &ListPartsInput{Max: 1000})
		if err != nil || len(l.Parts) != 4 || l.Truncated || l.Algorithm != c.alg || l.ID != u.ID {
			t.Errorf("parts %+v, %v", l, err)
		}
		want := Checksum{}
		in := CompleteInput{Size: int64(len(whole))}
		switch alg := defaultAlgorithm(c.alg); {
		case c.composite:
			var cat []byte
			for _, b := range bodies {
				sum := ChecksumOf(alg, b)
				cat = append(cat, sum.Bytes()...)
			}
			want = ChecksumOf(alg, cat)
			want.Composite, want.Parts = true, 3
		default:
			want = ChecksumOf(alg, whole)
		}
		in.Checksum = want
		e, err := h.complete(u, in, parts...)
		if err != nil {
			t.Fatalf("%v %s: %v", c.alg, c.typ, err)
		}
		o := h.want("home", "big", 0, whole)
		for _, e := range []*Entry{e, &o.Entry} {
			if e.ETag.String() != etag || e.Checksum != want || e.PartsCount != 3 || e.StorageClass != OneZoneIA || e.ContentType() != "x/y" ||
				!slices.Equal(e.UserMeta, []Field{{"a", "b"}}) || e.Size != uint64(len(whole)) || e.LSN != o.LSN {
				t.Errorf("%v %s: entry %+v", c.alg, c.typ, e)
			}
		}
		h.checkParts("big", bodies, c.composite, c.alg)
		// The upload is gone, but its complete can be asked for again.
		again, err := h.complete(u, in, parts...)
		if err != nil || again.LSN != e.LSN || again.ETag != e.ETag || again.Checksum != e.Checksum {
			t.Errorf("%v %s: again %+v, %v", c.alg, c.typ, again, err)
		}
		_, err = h.ListParts(h.ctx, "home", u.Key, u.ID, &ListPartsInput{Max: 1000})
		wantErr(t, err, ErrNoSuchUpload)
		wantErr(t, h.AbortUpload(h.ctx, "home", u.Key, u.ID), ErrNoSuchUpload)
		h.noUploads()
	}
	// Once the object is another one, nothing tells that the upload ever was.
	u := h.upload("home", "big", UploadInput{})
	p := h.part(u, 1, nil, Expect{})
	if _, err := h.complete(u, CompleteInput{}, p); err != nil {
		t.Fatal(err)
	}
	h.want("home", "big", 0, nil)
	h.copy("home", "copy", CopyInput{SrcBucket: "home", SrcKey: "big"})
	h.put("home", "big", nil)
	_, err := h.complete(u, CompleteInput{}, p)
	wantErr(t, err, ErrNoSuchUpload)
}

// ContentType is shorter in tests.
func (e *Entry) ContentType() string { return e.Headers.ContentType }

// noUploads checks that no record of an upload is left.
func (h *harness) noUploads() {
	h.t.Helper()
	v, err := h.Store().View(h.ctx, "home", 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer v.Close()
	scan := v.Scan(0x60, nil, nil)
	defer scan.Close()
	for ok := scan.First(); ok; ok = scan.Next() {
		h.t.Errorf("left over: %q", scan.Record().Key.User())
	}
	if err := scan.Err(); err != nil {
		h.t.Error(err)
	}
}

// checkParts reads an object part by part.
func (h *harness) checkParts(key string, bodies [][]byte, composite bool, alg Algorithm) {
	h.t.Helper()
	head, err := h.Head(h.ctx, "home", key, &GetInput{WithParts: true})
	if err != nil || len(head.Parts) != len(bodies) {
		h.t.Fatalf("%d parts, %v", len(head.Parts), err)
	}
	for i, b := range bodies {
		if i%10 != 0 && i < len(bodies)-2 {
			continue
		}
		o, got, err := h.get("home", key, GetInput{PartNumber: i + 1})
		if err != nil || !bytes.Equal(got, b) || o.PartsCount != len(bodies) || o.Partial != (len(b) > 0) {
			h.t.Fatalf("part %d: %d bytes, %v", i+1, len(got), err)
		}
		want := Checksum{}
		if composite {
			want = ChecksumOf(alg, b)
		}
		if p := head.Parts[i]; p.Size != uint64(len(b)) || p.Checksum != want {
			h.t.Fatalf("part %d is %+v", i+1, p)
		}
	}
	_, _, err = h.get("home", key, GetInput{PartNumber: len(bodies) + 1})
	wantErr(h.t, err, ErrInvalidPartNumber)
}

func TestUploadRefused(t *testing.T) {
	h := start(t)
	for _, in := range []UploadInput{
		{ChecksumType: "FULL_OBJECT"}, {ChecksumType: "COMPOSITE"}, {Algorithm: SHA1, ChecksumType: "FULL_OBJECT"},
		{Algorithm: CRC64NVME, ChecksumType: "COMPOSITE"}, {Algorithm: CRC32, ChecksumType: "HALF"}, {Algorithm: 77},
	} {
		_, err := h.CreateUpload(h.ctx, "home", "k", &in)
		wantErr(t, err, ErrChecksumType)
	}
	_, err := h.CreateUpload(h.ctx, "nobody", "k", &UploadInput{})
	wantErr(t, err, timeline.ErrNoSuchBucket)
	u := h.upload("home", "k", UploadInput{Algorithm: CRC32})
	good := random(1, partBytes)
	p1 := h.part(u, 1, good, Expect{Algorithm: CRC32})
	p2 := h.part(u, 2, []byte("small"), Expect{})
	p3 := h.part(u, 3, []byte("last"), Expect{})
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		key, id string
		number  int
		in      PutPartInput
		want    error
	}{
		"number 0":        {u.Key, u.ID, 0, PutPartInput{}, ErrPartNumber},
		"number 10001":    {u.Key, u.ID, 10001, PutPartInput{}, ErrPartNumber},
		"other key":       {"K", u.ID, 1, PutPartInput{}, ErrNoSuchUpload},
		"bad id":          {u.Key, "x", 1, PutPartInput{}, ErrNoSuchUpload},
		"other id":        {u.Key, strings.Repeat("0", 31) + "1", 1, PutPartInput{}, ErrNoSuchUpload},
		"upper case":      {u.Key, strings.ToUpper(u.ID) + "", 1, PutPartInput{Body: iotest.ErrReader(boom)}, boomOr(u.ID, boom)},
		"body":            {u.Key, u.ID, 1, PutPartInput{Body: iotest.ErrReader(boom)}, boom},
		"size":            {u.Key, u.ID, 1, PutPartInput{Body: bytes.NewReader(good), Size: 5}, ErrIncompleteBody},
		"short":           {u.Key, u.ID, 1, PutPartInput{Body: bytes.NewReader(good), Size: partBytes + 1}, ErrIncompleteBody},
		"too large":       {u.Key, u.ID, 1, PutPartInput{Size: MaxPartBytes + 1}, ErrEntityTooLarge},
		"MD5":             {u.Key, u.ID, 1, PutPartInput{ContentMD5: make([]byte, 16)}, ErrBadDigest},
		"other algorithm": {u.Key, u.ID, 1, PutPartInput{Checksum: Expect{Algorithm: SHA1}}, ErrChecksumType},
	} {
		if _, err := h.PutPart(h.ctx, "home", c.key, c.id, c.number, &c.in); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	part := func(p *Part) CompletePart {
		return CompletePart{Number: p.Number, ETag: p.ETag.String(), Checksum: p.Checksum}
	}
	wrongTag, wrongSum := part(p1), part(p1)
	wrongTag.ETag, wrongSum.Checksum.Sum[0] = p2.ETag.String(), ^wrongSum.Checksum.Sum[0]
	for name, c := range map[string]struct {
		in   CompleteInput
		want error
	}{
		"nothing":          {CompleteInput{}, ErrMalformedParts},
		"too many":         {CompleteInput{Parts: make([]CompletePart, 10001)}, ErrMalformedParts},
		"number":           {CompleteInput{Parts: []CompletePart{{Number: 0}}}, ErrPartNumber},
		"order":            {CompleteInput{Parts: []CompletePart{part(p2), part(p1)}}, ErrInvalidPartOrder},
		"twice, the other": {CompleteInput{Parts: []CompletePart{part(p1), {Number: 1, ETag: p2.ETag.String()}}}, ErrInvalidPart},
		"missing":          {CompleteInput{Parts: []CompletePart{part(p1), {Number: 9, ETag: p1.ETag.String()}}}, ErrInvalidPart},
		"tag":              {CompleteInput{Parts: []CompletePart{wrongTag}}, ErrInvalidPart},
		"no tag":           {CompleteInput{Parts: []CompletePart{{Number: 1}}}, ErrInvalidPart},
		"checksum":         {CompleteInput{Parts: []CompletePart{wrongSum}}, ErrInvalidPart},
		"small":            {CompleteInput{Parts: []CompletePart{part(p1), part(p2), part(p3)}}, ErrEntityTooSmall},
		"size":             {CompleteInput{Parts: []CompletePart{part(p1)}, Size: 7}, ErrObjectSize},
		"whole":            {CompleteInput{Parts: []CompletePart{part(p1)}, Checksum: Checksum{Algorithm: CRC32}}, ErrBadDigest},
		"other algorithm":  {CompleteInput{Parts: []CompletePart{part(p1)}, Checksum: Checksum{Algorithm: SHA1}}, ErrChecksumType},
		"if match":         {CompleteInput{Parts: []CompletePart{part(p1)}, Cond: Conditions{IfMatch: "x"}}, ErrNoSuchKey},
	} {
		if c.in.Size == 0 {
			c.in.Size = -1
		}
		_, err := h.CompleteUpload(h.ctx, "home", u.Key, u.ID, &c.in)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		var pe *PartError
		if errors.As(err, &pe) && (pe.Number == 0 || name == "small" && (pe.Number != 2 || pe.Size != 5)) {
			t.Errorf("%s: %+v", name, pe)
		}
	}
	h.wantAbsent("home", "k", 0)
	// After all that, the upload is as it was.
	if _, err := h.complete(u, CompleteInput{Cond: Conditions{IfNoneMatch: "*"}}, p1, p3); err != nil {
		t.Error(err)
	}
	h.want("home", "k", 0, slices.Concat(good, []byte("last")))
	h.noUploads()
	u = h.upload("home", "k", UploadInput{})
	h.part(u, 1, good, Expect{})
	if err := h.AbortUpload(h.ctx, "home", u.Key, u.ID); err != nil {
		t.Error(err)
	}
	h.noUploads()
	_, err = h.PutPart(h.ctx, "home", u.Key, u.ID, 1, &PutPartInput{})
	wantErr(t, err, ErrNoSuchUpload)
}

// boomOr is what an id in upper case meets: itself when it has no letters.
func boomOr(id string, boom error) error {
	if strings.ToUpper(id) == id {
		return boom
	}
	return ErrNoSuchUpload
}

// A client that vouches with a checksum which the upload was not created with
// is believed, and answered with it.
func TestPartWithOwnChecksum(t *testing.T) {
	h := start(t)
	u := h.upload("home", "k", UploadInput{})
	body := []byte("body")
	p := h.part(u, 1, body, Expect{Algorithm: SHA256, Value: ChecksumOf(SHA256, body)})
	if p.Checksum != ChecksumOf(SHA256, body) {
		t.Errorf("answered with %v", p.Checksum)
	}
	wrong := ChecksumOf(SHA256, body)
	wrong.Sum[0]++
	_, err := h.PutPart(h.ctx, "home", "k", u.ID, 1, &PutPartInput{Body: bytes.NewReader(body), Size: 4, Checksum: Expect{Algorithm: SHA256, Value: wrong}})
	wantErr(t, err, ErrBadDigest)
	e, err := h.complete(u, CompleteInput{}, p)
	if err != nil || e.Checksum != ChecksumOf(CRC64NVME, body) {
		t.Errorf("%+v, %v", e, err)
	}
}

// Parts are made of ranges of objects without moving a byte; long lists of
// extents and of parts go where they do not weigh on listings.
func TestCopyPart(t *testing.T) {
	skipLong(t)
	h := start(t)
	src := random(9, partBytes+100_000)
	e := h.put("home", "src", src)
	h.put("home", "inline", []byte("inline"))
	h.put("home", "src-2", nil) // a later commit
	stored := storedBytes(h)
	u := h.upload("home", "k", UploadInput{})
	var parts []*Part
	var bodies [][]byte
	for i := range maxBodyExtents + 2 {
		from := 1 + i*1000
		in := CopyPartInput{SrcBucket: "home", SrcKey: "src", Range: fmt.Sprintf("bytes=%d-%d", from, from+partBytes-1)}
		body := src[from : from+partBytes]
		if i == 0 {
			in.Range, body = "", src
		}
		p, err := h.CopyPart(h.ctx, "home", "k", u.ID, i+1, &in)
		if err != nil {
			t.Fatal(err)
		}
		if p.SrcLSN != e.LSN || p.Size != uint64(len(body)) || (i == 0) != (p.ETag == e.ETag) {
			t.Errorf("part %d: %+v", i+1, p)
		}
		parts, bodies = append(parts, p), append(bodies, body)
	}
	if got := storedBytes(h); got != stored {
		t.Errorf("copying parts wrote %d bytes", got-stored)
	}
	p, err := h.CopyPart(h.ctx, "home", "k", u.ID, 200, &CopyPartInput{SrcBucket: "home", SrcKey: "inline", Range: "bytes=2-3"})
	if err != nil || p.ETag.Sum != md5.Sum([]byte("li")) {
		t.Fatalf("%+v, %v", p, err)
	}
	parts, bodies = append(parts, p), append(bodies, []byte("li"))
	for r, want := range map[string]error{
		"bytes=0-999999": ErrInvalidRange, "bytes=0-": ErrInvalidCopyRange, "bytes=-5": ErrInvalidCopyRange, "0-5": ErrInvalidCopyRange,
		"bytes=5-4": ErrInvalidCopyRange, "bytes=a-b": ErrInvalidCopyRange,
	} {
		_, err := h.CopyPart(h.ctx, "home", "k", u.ID, 1, &CopyPartInput{SrcBucket: "home", SrcKey: "src", Range: r})
		wantErr(t, err, want)
	}
	done, err := h.complete(u, CompleteInput{}, parts...)
	if err != nil {
		t.Fatal(err)
	}
	if done.Checksum != (Checksum{}) {
		t.Errorf("checksum %v of parts that were never read", done.Checksum)
	}
	// A copy of it reads the same bytes.
	whole := slices.Concat(bodies...)
	h.copy("home", "k2", CopyInput{SrcBucket: "home", SrcKey: "k", Algorithm: CRC32})
	h.flush()
	o := h.want("home", "k2", 0, whole)
	if o.Checksum != ChecksumOf(CRC32, whole) || o.ETag != done.ETag {
		t.Errorf("copy %+v", o.Entry)
	}
	h.checkParts("k2", bodies, false, NoChecksum)
	if _, got, err := h.get("home", "k2", GetInput{Range: "bytes=1000000-1000100"}); err != nil || !bytes.Equal(got, whole[1000000:1000101]) {
		t.Errorf("range of a spilled body: %v", err)
	}
}

func (h *harness) flush() {
	h.t.Helper()
	if err := h.Store().Flush(h.ctx); err != nil {
		h.t.Fatal(err)
	}
}

// A table of parts that is too long for the entry lies behind the body, and
// follows it into copies.
func TestLongPartsTable(t *testing.T) {
	h := start(t)
	src := random(9, partBytes+100_000)
	h.put("home", "src", src)
	u := h.upload("home", "k", UploadInput{Algorithm: SHA256})
	var parts []*Part
	var bodies [][]byte
	for i := range 12 {
		body := src[i : i+partBytes]
		p, err := h.CopyPart(h.ctx, "home", "k", u.ID, i+1, &CopyPartInput{SrcBucket: "home", SrcKey: "src", Range: fmt.Sprintf("bytes=%d-%d", i, i+partBytes-1)})
		if err != nil || p.ETag.Sum != md5.Sum(body) || p.Checksum != ChecksumOf(SHA256, body) {
			t.Fatalf("%+v, %v", p, err)
		}
		parts, bodies = append(parts, p), append(bodies, body)
	}
	e, err := h.complete(u, CompleteInput{}, parts...)
	if err != nil || e.parts.tail == 0 {
		t.Fatalf("%+v, %v", e, err)
	}
	whole := slices.Concat(bodies...)
	h.want("home", "k", 0, whole)
	h.checkParts("k", bodies, true, SHA256)
	h.copy("home", "k2", CopyInput{SrcBucket: "home", SrcKey: "k"})
	h.flush()
	h.checkParts("k2", bodies, true, SHA256)
	o, got, err := h.get("home", "k2", GetInput{Range: "bytes=-10"})
	if err != nil || !bytes.Equal(got, whole[len(whole)-10:]) || o.Checksum != e.Checksum {
		t.Errorf("end of the object: %q, %v", got, err)
	}
	// As a part of another upload it brings its bytes and not its table.
	u = h.upload("home", "k3", UploadInput{})
	p, err := h.CopyPart(h.ctx, "home", "k3", u.ID, 1, &CopyPartInput{SrcBucket: "home", SrcKey: "k2"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.complete(u, CompleteInput{}, p); err != nil {
		t.Fatal(err)
	}
	h.want("home", "k3", 0, whole)
}

// The largest upload there can be fits one commit, and its parts go with it.
func TestTenThousandParts(t *testing.T) {
	skipLong(t)
	h := start(t)
	h.put("home", "src", random(9, partBytes))
	u := h.upload("home", "k", UploadInput{})
	p, err := h.CopyPart(h.ctx, "home", "k", u.ID, 1, &CopyPartInput{SrcBucket: "home", SrcKey: "src"})
	if err != nil {
		t.Fatal(err)
	}
	v, err := h.Store().View(h.ctx, "home", 0)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := parseUploadID(u.ID)
	rec, err := v.Get(0x60, partKey(id, 1))
	v.Close()
	if err != nil {
		t.Fatal(err)
	}
	parts := []*Part{p}
	for number := 2; number <= MaxPartNumber; {
		var b timeline.Batch
		for range 1000 {
			if number > MaxPartNumber {
				break
			}
			b.Put(0x60, partKey(id, number), rec.Meta, rec.Body)
			q := *p
			q.Number = number
			parts = append(parts, &q)
			number++
		}
		if _, err := h.Store().Commit(h.ctx, "home", &b); err != nil {
			t.Fatal(err)
		}
	}
	// Pages of the parts.
	after, n := 0, 0
	for {
		l, err := h.ListParts(h.ctx, "home", "k", u.ID, &ListPartsInput{After: after, Max: 900})
		if err != nil {
			t.Fatal(err)
		}
		for i := range l.Parts {
			if n++; l.Parts[i].Number != n {
				t.Fatalf("part %d is %d", n, l.Parts[i].Number)
			}
		}
		if after = l.Next; !l.Truncated {
			break
		}
	}
	if n != MaxPartNumber {
		t.Errorf("%d parts", n)
	}
	e, err := h.complete(u, CompleteInput{}, parts...)
	if err != nil || e.Size != MaxPartNumber*partBytes {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, got, err := h.get("home", "k", GetInput{PartNumber: 9999, Range: ""}); err != nil || len(got) != partBytes {
		t.Errorf("part 9999: %d bytes, %v", len(got), err)
	}
	h.noUploads()
}

// Whatever is in flight, a completed object has the parts that its complete
// named, and no part outlives its upload.
func TestUploadRace(t *testing.T) {
	h := start(t)
	for round := range 20 {
		u := h.upload("home", "k", UploadInput{})
		first := h.part(u, 1, []byte("first"), Expect{})
		var wg sync.WaitGroup
		var mu sync.Mutex
		var done []*Entry
		for i := range 6 {
			wg.Go(func() {
				body := []byte{byte(i), byte(round)}
				_, err := h.PutPart(h.ctx, "home", "k", u.ID, 1+i%3, &PutPartInput{Body: bytes.NewReader(body), Size: 2})
				if err != nil && !errors.Is(err, ErrNoSuchUpload) {
					t.Error(err)
				}
			})
			wg.Go(func() {
				var err error
				var e *Entry
				switch {
				case i < 4:
					e, err = h.complete(u, CompleteInput{}, first)
				case round%2 == 0:
					err = h.AbortUpload(h.ctx, "home", "k", u.ID)
				}
				if err != nil && !errors.Is(err, ErrNoSuchUpload) && !errors.Is(err, ErrInvalidPart) {
					t.Error(err)
				}
				if err == nil && e != nil {
					mu.Lock()
					done = append(done, e)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for _, e := range done {
			if e.LSN != done[0].LSN {
				t.Errorf("completed at %d and at %d", done[0].LSN, e.LSN)
			}
		}
		if len(done) > 0 {
			h.want("home", "k", 0, []byte("first"))
		} else if err := h.AbortUpload(h.ctx, "home", "k", u.ID); err != nil && !errors.Is(err, ErrNoSuchUpload) {
			t.Error(err)
		}
		h.noUploads()
	}
}

// naiveUpload is an open upload of the oracle.
type naiveUpload struct{ key, id string }

// Pages of uploads are what the slow way gives.
func TestListUploadsOracle(t *testing.T) {
	skipLong(t)
	seed := seeds.For(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	h := start(t)
	var open []naiveUpload
	for range 150 {
		u := h.upload("home", oddKey(rng), UploadInput{Algorithm: SHA1})
		h.part(u, 1+rng.IntN(9), nil, Expect{})
		if rng.IntN(5) == 0 {
			if err := h.AbortUpload(h.ctx, "home", u.Key, u.ID); err != nil {
				t.Fatal(err)
			}
			continue
		}
		open = append(open, naiveUpload{u.Key, u.ID})
	}
	// Ids sort by age, so this is the order of creation within a key.
	slices.SortStableFunc(open, func(a, b naiveUpload) int { return strings.Compare(a.key, b.key) })
	for range 800 {
		in := ListUploadsInput{Max: 1 + rng.IntN(7), Delimiter: []string{"", "/", "a", "\xff", "\x00"}[rng.IntN(5)]}
		if rng.IntN(2) == 0 {
			in.Prefix = oddKey(rng)[:1]
		}
		if rng.IntN(3) == 0 {
			in.KeyMarker = oddKey(rng)
		}
		if rng.IntN(3) == 0 {
			u := open[rng.IntN(len(open))]
			in.KeyMarker, in.UploadIDMarker = u.key, u.id
		}
		h.checkUploads(open, in)
	}
	_, err := h.ListUploads(h.ctx, "home", &ListUploadsInput{Max: 1, KeyMarker: "k", UploadIDMarker: "zz"})
	wantErr(t, err, ErrInvalidMarker)
	l, err := h.ListUploads(h.ctx, "home", &ListUploadsInput{})
	if err != nil || l.Truncated || len(l.Uploads) > 0 {
		t.Errorf("page of none: %+v, %v", l, err)
	}
}

func (h *harness) checkUploads(open []naiveUpload, in ListUploadsInput) {
	h.t.Helper()
	what := fmt.Sprintf("%+v", in)
	var want []naiveUpload // a group has no id
	for _, u := range open {
		after := u.key > in.KeyMarker || in.UploadIDMarker != "" && u.key == in.KeyMarker && u.id > in.UploadIDMarker
		if !strings.HasPrefix(u.key, in.Prefix) || !after {
			continue
		}
		if in.Delimiter != "" {
			if i := strings.Index(u.key[len(in.Prefix):], in.Delimiter); i >= 0 {
				g := naiveUpload{key: u.key[:len(in.Prefix)+i+len(in.Delimiter)]}
				if g.key > in.KeyMarker && (len(want) == 0 || want[len(want)-1] != g) {
					want = append(want, g)
				}
				continue
			}
		}
		want = append(want, u)
	}
	for {
		l, err := h.ListUploads(h.ctx, "home", &in)
		if err != nil {
			h.t.Fatalf("%s: %v", what, err)
		}
		var got []naiveUpload
		for _, u := range l.Uploads {
			got = append(got, naiveUpload{u.Key, u.ID})
			if u.Algorithm != SHA1 || u.Initiated().IsZero() {
				h.t.Fatalf("upload %+v", u)
			}
		}
		for _, p := range l.Prefixes {
			got = append(got, naiveUpload{key: p})
		}
		slices.SortStableFunc(got, func(a, b naiveUpload) int { return strings.Compare(a.key, b.key) })
		n := min(in.Max, len(want))
		if !slices.Equal(got, want[:n]) {
			h.t.Fatalf("%s: %+q, want %+q", what, got, want[:n])
		}
		want = want[n:]
		if l.Truncated != (len(want) > 0) {
			h.t.Fatalf("%s: truncated %t, %d left", what, l.Truncated, len(want))
		}
		if !l.Truncated {
			return
		}
		in.KeyMarker, in.UploadIDMarker = l.NextKeyMarker, l.NextUploadIDMarker
	}
}

// Only what was begun before the time goes, over several pages, and a second
// time there is nothing to do.
func TestAbortStaleUploads(t *testing.T) {
	skipLong(t)
	h := start(t)
	begin := func(n int, prefix string) {
		t.Helper()
		for i := range n {
			if _, err := h.CreateUpload(h.ctx, "home", fmt.Sprintf("%s%04d", prefix, i/3), &UploadInput{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	begin(MaxListKeys+50, "old")
	before := h.Store().Now().Time()
	begin(20, "old") // the same keys
	begin(20, "new")
	for _, want := range []int{MaxListKeys + 50, 0} {
		if n, err := h.AbortStaleUploads(h.ctx, "home", before); n != want || err != nil {
			t.Fatalf("aborted %d, %v; want %d", n, err, want)
		}
	}
	l, err := h.ListUploads(h.ctx, "home", &ListUploadsInput{Max: MaxListKeys})
	if err != nil || len(l.Uploads) != 40 {
		t.Fatalf("%d left, %v", len(l.Uploads), err)
	}
	if _, err := h.AbortStaleUploads(h.ctx, "none", before); !errors.Is(err, timeline.ErrNoSuchBucket) {
		t.Error(err)
	}
}

// Of a part that is named twice the last mention counts, whatever the first one said.
func TestPartNamedTwice(t *testing.T) {
	h := start(t)
	u := h.upload("home", "k", UploadInput{})
	first := h.part(u, 1, []byte("first"), Expect{})
	second := h.part(u, 1, []byte("second"), Expect{})
	third := h.part(u, 2, []byte("third"), Expect{})
	_, err := h.complete(u, CompleteInput{Parts: []CompletePart{
		{Number: 1, ETag: second.ETag.String()}, {Number: 1, ETag: first.ETag.String()},
	}})
	wantErr(t, err, ErrInvalidPart)
	h.o.MinPartBytes = 1
	parts := []CompletePart{
		{Number: 1, ETag: first.ETag.String()}, {Number: 1, ETag: second.ETag.String()}, {Number: 2, ETag: third.ETag.String()}, {Number: 2, ETag: third.ETag.String()},
	}
	e, err := h.complete(u, CompleteInput{Parts: parts})
	if err != nil || e.PartsCount != 2 || len(parts) != 4 {
		t.Fatalf("%+v, %v", e, err)
	}
	h.want("home", "k", 0, []byte("secondthird"))
}
