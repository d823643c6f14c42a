package object

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/pageserver/keyring"
	"stemma/wal/storefs"
)

// testRing is the master key of tests.
func testRing() *keyring.Ring {
	r, err := keyring.New(keyring.Key{Name: "test", Secret: [32]byte{1, 2, 3}})
	if err != nil {
		panic(err)
	}
	return r
}

func customer(n uint64) *CustomerKey { return (*CustomerKey)(random(n, 32)) }

// kinds are ways to encrypt, each with the key that a read needs.
var kinds = []struct {
	name string
	want SSE
	key  *CustomerKey
}{
	{"none", SSE{}, nil},
	{"sse-s3", SSE{Kind: SSES3}, nil},
	{"sse-kms", SSE{Kind: SSEKMS, KeyID: "a/key", Context: "e30=", BucketKey: true}, nil},
	{"sse-c", SSE{Kind: SSEC}, customer(1)},
}

func (h *harness) readAll(key string, in *GetInput) []byte {
	h.t.Helper()
	o, err := h.Get(h.ctx, "home", key, in)
	if err != nil {
		h.t.Fatalf("get %q: %v", key, err)
	}
	p, err := io.ReadAll(o.Body)
	if err := errors.Join(err, o.Body.Close()); err != nil {
		h.t.Fatalf("read %q: %v", key, err)
	}
	if uint64(len(p)) != o.Length {
		h.t.Fatalf("read %d bytes of %q, promised were %d", len(p), key, o.Length)
	}
	return p
}

func (h *harness) putSealed(key string, p []byte, want SSE, customer *CustomerKey) *Entry {
	h.t.Helper()
	e, err := h.Put(h.ctx, "home", key, &PutInput{
		Body: bytes.NewReader(p), Size: int64(len(p)), SSE: want, CustomerKey: customer,
		Headers: Headers{ContentType: "text/secret"}, UserMeta: []Field{{"secret", "value"}},
	})
	if err != nil {
		h.t.Fatalf("put %q: %v", key, err)
	}
	return e
}

func TestEncryptedObjects(t *testing.T) {
	h := start(t, small)
	for _, k := range kinds {
		for _, n := range []int{0, 1, 13, 1000, 32<<10 - 1, 32 << 10, plainBlockBytes - 1, plainBlockBytes, 2*plainBlockBytes + 5, 300 << 10} {
			body := random(uint64(n), n)
			key := fmt.Sprintf("%s/%d", k.name, n)
			e := h.putSealed(key, body, k.want, k.key)
			in := &GetInput{CustomerKey: k.key}
			if got := h.readAll(key, in); !bytes.Equal(got, body) {
				t.Fatalf("%s: read other bytes", key)
			}
			head, err := h.Head(h.ctx, "home", key, in)
			if err != nil {
				t.Fatal(err)
			}
			isMD5 := head.ETag.Sum == md5.Sum(body)
			if head.ETag != e.ETag || isMD5 != (k.want.Kind != SSEKMS && k.want.Kind != SSEC) {
				t.Errorf("%s: ETag %v, put said %v", key, head.ETag, e.ETag)
			}
			if head.Size != uint64(n) || head.Checksum != e.Checksum || head.Headers.ContentType != "text/secret" || len(head.UserMeta) != 1 {
				t.Errorf("%s: entry %+v", key, head.Entry)
			}
			if got := head.SSE(); got != k.want {
				t.Errorf("%s: encryption %+v", key, got)
			}
			for _, r := range []struct{ off, end int }{{0, 1}, {n / 2, n}, {n - 1, n}, {plainBlockBytes - 3, plainBlockBytes + 3}} {
				if r.off < 0 || r.end > n || r.off >= r.end {
					continue
				}
				in.Range = fmt.Sprintf("bytes=%d-%d", r.off, r.end-1)
				if got := h.readAll(key, in); !bytes.Equal(got, body[r.off:r.end]) {
					t.Errorf("%s: range %s is %d other bytes", key, in.Range, len(got))
				}
			}
		}
	}
	l, err := h.List(h.ctx, "home", &ListInput{MaxKeys: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, le := range l.Entries {
		kind, _, _ := strings.Cut(le.Key, "/")
		in := &GetInput{}
		if kind == "sse-c" {
			in.CustomerKey = customer(1)
		}
		head, err := h.Head(h.ctx, "home", le.Key, in)
		if err != nil || head.ETag != le.ETag || head.Size != le.Size {
			t.Errorf("listed %+v, head %+v, %v", le, head.Entry, err)
		}
	}
}

func TestEncryptionKeys(t *testing.T) {
	h := start(t)
	for _, n := range []int{10, 100 << 10} {
		body := random(1, n)
		h.putSealed("c", body, SSE{Kind: SSEC}, customer(1))
		h.putSealed("s3", body, SSE{Kind: SSES3}, nil)
		h.putSealed("plain", body, SSE{}, nil)
		for _, c := range []struct {
			key      string
			customer *CustomerKey
			want     error
		}{
			{"c", nil, ErrKeyRequired}, {"c", customer(2), ErrWrongKey}, {"c", customer(1), nil},
			{"s3", customer(1), ErrKeyNotApplicable}, {"plain", customer(1), ErrKeyNotApplicable},
		} {
			_, err := h.Get(h.ctx, "home", c.key, &GetInput{CustomerKey: c.customer})
			wantErr(t, err, c.want)
			_, err = h.Head(h.ctx, "home", c.key, &GetInput{CustomerKey: c.customer})
			wantErr(t, err, c.want)
			_, err = h.Copy(h.ctx, "home", "copy", &CopyInput{SrcBucket: "home", SrcKey: c.key, SrcCustomerKey: c.customer})
			wantErr(t, err, c.want)
		}
	}
	_, err := h.Put(h.ctx, "home", "k", &PutInput{Size: 0, SSE: SSE{Kind: SSEC}})
	wantErr(t, err, ErrKeyRequired)
	_, err = h.Put(h.ctx, "home", "k", &PutInput{Size: 0, SSE: SSE{Kind: SSEKMS}})
	wantErr(t, err, ErrKMSKeyRequired)
}

func TestKMSKeys(t *testing.T) {
	fs := storefs.NewMem()
	kms, err := keyring.New(keyring.NewKey("one"), keyring.NewKey("two"))
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, fs)
	h.o.KMSKeys, h.o.DefaultKMSKey = kms, "two"
	h.bucket("home")
	for id, want := range map[string]string{
		"one": "one", "": "two", "alias/two": "two", "arn:aws:kms:us-east-1:000000000000:key/one": "one",
		"arn:aws:kms:us-east-1:000000000000:alias/one": "one",
	} {
		e := h.putSealed("k", []byte("x"), SSE{Kind: SSEKMS, KeyID: id}, nil)
		if e.SSE().KeyID != want {
			t.Errorf("key %q is %q", id, e.SSE().KeyID)
		}
		h.readAll("k", &GetInput{})
	}
	var no *KMSKeyError
	_, err = h.Put(h.ctx, "home", "k", &PutInput{SSE: SSE{Kind: SSEKMS, KeyID: "three"}})
	if !errors.As(err, &no) || no.KeyID != "three" {
		t.Errorf("error %v", err)
	}
	_, err = h.CreateUpload(h.ctx, "home", "k", &UploadInput{SSE: SSE{Kind: SSEKMS, KeyID: "three"}})
	wantErr(t, err, ErrNoSuchKMSKey)
}

// What was encrypted cannot be found on the disk: no byte of bodies, user metadata,
// headers, MD5s, checksums; and no key.
func TestNothingInTheClear(t *testing.T) {
	fs := storefs.NewMem()
	h := open(t, fs, small)
	h.bucket("home")
	var secrets [][]byte
	hide := func(p []byte) {
		if len(p) >= 8 {
			secrets = append(secrets, p[:min(len(p), 16)])
		}
	}
	for _, k := range kinds[1:] {
		for _, n := range []int{20, 5000, 200 << 10} {
			body := random(uint64(n)+uint64(k.want.Kind), n)
			sum := md5.Sum(body)
			e := h.putSealed(fmt.Sprintf("%s/%d", k.name, n), body, k.want, k.key)
			hide(body)
			hide(body[n/2:])
			hide(sum[:])
			hide(e.Checksum.Bytes())
		}
		u := h.upload("home", k.name+"/parts", UploadInput{SSE: k.want, CustomerKey: k.key, UserMeta: []Field{{"secret", "value"}}, Algorithm: SHA256})
		var parts []CompletePart
		for i := range 12 { // a table that does not fit in the entry
			body := random(uint64(i)+100*uint64(k.want.Kind), partBytes)
			p, err := h.PutPart(h.ctx, "home", k.name+"/parts", u.ID, i+1, &PutPartInput{
				Body: bytes.NewReader(body), Size: -1, CustomerKey: k.key,
			})
			if err != nil {
				t.Fatal(err)
			}
			sum := md5.Sum(body)
			hide(body)
			hide(sum[:])
			hide(p.Checksum.Bytes())
			parts = append(parts, CompletePart{Number: i + 1, ETag: p.ETag.String(), Checksum: p.Checksum})
		}
		if _, err := h.CompleteUpload(h.ctx, "home", k.name+"/parts", u.ID, &CompleteInput{Parts: parts, Size: -1, CustomerKey: k.key}); err != nil {
			t.Fatal(err)
		}
	}
	hide([]byte("text/secret"))
	hide(append([]byte("secret"), "\x05value"...))
	hide(customer(1)[:])
	if err := h.Store().Flush(h.ctx); err != nil {
		t.Fatal(err)
	}
	walk(t, fs, "data", func(path string, p []byte) {
		for _, s := range secrets {
			if bytes.Contains(p, s) {
				t.Errorf("%s has the secret %q", path, s)
			}
		}
	})
	// The same search finds what is not encrypted.
	plain := h.putSealed("plain", random(1, 1000), SSE{}, nil)
	found := false
	walk(t, fs, "data", func(path string, p []byte) {
		found = found || bytes.Contains(p, plain.ETag.Sum[:]) && bytes.Contains(p, []byte("text/secret"))
	})
	if !found {
		t.Error("what is not encrypted is not found either")
	}
}

func walk(t testing.TB, fs vfs.FS, dir string, visit func(path string, p []byte)) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			walk(t, fs, path, visit)
			continue
		}
		f, err := fs.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		visit(path, p)
	}
}

// encryptedUpload completes an upload of parts with these sizes, and returns its bytes.
func (h *harness) encryptedUpload(key string, want SSE, customer *CustomerKey, alg Algorithm, sizes ...int) []byte {
	h.t.Helper()
	return h.uploadSealed(key, want, customer, customer, alg, sizes...)
}

// uploadSealed is encryptedUpload with the key that completes it.
func (h *harness) uploadSealed(key string, want SSE, customer, completes *CustomerKey, alg Algorithm, sizes ...int) []byte {
	h.t.Helper()
	u := h.upload("home", key, UploadInput{SSE: want, CustomerKey: customer, Algorithm: alg, Headers: Headers{ContentType: "a/b"}, UserMeta: []Field{{"who", "me"}}})
	var whole []byte
	var parts []CompletePart
	for i, n := range sizes {
		number := 2*i + 1
		body := random(uint64(i)+7, n)
		for _, p := range [][]byte{random(99, partBytes/2), body} { // the second attempt counts
			part, err := h.PutPart(h.ctx, "home", key, u.ID, number, &PutPartInput{Body: bytes.NewReader(p), Size: -1, CustomerKey: customer})
			if err != nil {
				h.t.Fatal(err)
			}
			if len(parts) == i {
				parts = append(parts, CompletePart{})
			}
			parts[i] = CompletePart{Number: number, ETag: part.ETag.String(), Checksum: part.Checksum}
		}
		whole = append(whole, body...)
	}
	in := &CompleteInput{Parts: parts, Size: int64(len(whole)), CustomerKey: completes}
	if customer != nil {
		_, err := h.CompleteUpload(h.ctx, "home", key, u.ID, &CompleteInput{Parts: parts, Size: -1, CustomerKey: &CustomerKey{9}})
		wantErr(h.t, err, ErrWrongKey)
	}
	for range 2 { // the second one is a repeat
		e, err := h.CompleteUpload(h.ctx, "home", key, u.ID, in)
		if err != nil {
			h.t.Fatal(err)
		}
		if len(e.UserMeta) != 1 || e.Size != uint64(len(whole)) || e.PartsCount != len(sizes) || e.Headers.ContentType != "a/b" || e.SSE() != want {
			h.t.Fatalf("completed %+v", e)
		}
	}
	return whole
}

func TestEncryptedUploads(t *testing.T) {
	skipLong(t)
	h := start(t, small)
	sizes := map[string][]int{
		"one": {100}, "few": {partBytes, 2*plainBlockBytes - 16, partBytes + 1, 0}, "many": make([]int, 40),
	}
	for i := range sizes["many"] {
		sizes["many"][i] = partBytes + i%3
	}
	for _, k := range kinds[1:] {
		for name, sizes := range sizes {
			for _, alg := range []Algorithm{NoChecksum, SHA256} {
				key := fmt.Sprint(k.name, "/", name, "/", alg)
				whole := h.encryptedUpload(key, k.want, k.key, alg, sizes...)
				if k.key != nil && alg == NoChecksum {
					whole = h.uploadSealed(key, k.want, k.key, nil, alg, sizes...) // completed without it
				}
				if got := h.readAll(key, &GetInput{CustomerKey: k.key}); !bytes.Equal(got, whole) {
					t.Fatalf("%s: read other bytes", key)
				}
				off := 0
				for i, n := range sizes {
					got := h.readAll(key, &GetInput{CustomerKey: k.key, PartNumber: i + 1})
					if !bytes.Equal(got, whole[off:off+n]) {
						t.Fatalf("%s: part %d is %d other bytes", key, i+1, len(got))
					}
					if off += n; off+5 < len(whole) && off > 5 {
						got := h.readAll(key, &GetInput{CustomerKey: k.key, Range: fmt.Sprintf("bytes=%d-%d", off-5, off+4)})
						if !bytes.Equal(got, whole[off-5:off+5]) {
							t.Fatalf("%s: range at %d has other bytes", key, off)
						}
					}
				}
				o, err := h.Head(h.ctx, "home", key, &GetInput{CustomerKey: k.key, WithParts: true})
				if err != nil || len(o.Parts) != len(sizes) {
					t.Errorf("%s: parts %v, %v", key, o.Parts, err)
				}
			}
		}
	}
}

func TestEncryptedUploadKeys(t *testing.T) {
	h := start(t)
	h.putSealed("src", random(1, 1000), SSE{Kind: SSEC}, customer(5))
	u := h.upload("home", "k", UploadInput{SSE: SSE{Kind: SSEC}, CustomerKey: customer(1), Algorithm: CRC32})
	s3 := h.upload("home", "k", UploadInput{SSE: SSE{Kind: SSES3}})
	for _, c := range []struct {
		id       string
		customer *CustomerKey
		want     error
	}{{u.ID, nil, ErrKeyRequired}, {u.ID, customer(2), ErrWrongKey}, {u.ID, customer(1), nil}, {s3.ID, customer(1), ErrKeyNotApplicable}, {s3.ID, nil, nil}} {
		_, err := h.PutPart(h.ctx, "home", "k", c.id, 1, &PutPartInput{Body: strings.NewReader("x"), Size: 1, CustomerKey: c.customer})
		wantErr(t, err, c.want)
		in := &CopyPartInput{SrcBucket: "home", SrcKey: "src", CustomerKey: c.customer, SrcCustomerKey: customer(5)}
		_, err = h.CopyPart(h.ctx, "home", "k", c.id, 2, in)
		wantErr(t, err, c.want)
		if in.SrcCustomerKey = nil; c.want == nil {
			_, err = h.CopyPart(h.ctx, "home", "k", c.id, 2, in)
			wantErr(t, err, ErrKeyRequired)
		}
	}
	for _, key := range []*CustomerKey{nil, customer(1)} {
		l, err := h.ListParts(h.ctx, "home", "k", u.ID, &ListPartsInput{Max: 10, CustomerKey: key})
		if err != nil || len(l.Parts) != 2 || (l.Parts[0].Checksum == Checksum{}) {
			t.Errorf("parts %+v, %v", l, err)
		}
	}
	_, err := h.ListParts(h.ctx, "home", "k", u.ID, &ListPartsInput{Max: 10, CustomerKey: customer(2)})
	wantErr(t, err, ErrWrongKey)
	l, err := h.ListParts(h.ctx, "home", "k", s3.ID, &ListPartsInput{Max: 10})
	if err != nil || l.Parts[0].ETag.Sum != md5.Sum([]byte("x")) {
		t.Errorf("parts %+v, %v", l, err)
	}
	if err := h.AbortUpload(h.ctx, "home", "k", u.ID); err != nil {
		t.Error(err)
	}
}

// An upload under a customer's key is completed without it: the store has a key of its own for what is known of
// the parts, not for the bodies. Without a master key there is none.
func TestCompleteWithoutCustomerKey(t *testing.T) {
	h := start(t, small)
	whole := h.uploadSealed("k", SSE{Kind: SSEC}, customer(1), nil, CRC32, partBytes, partBytes+3)
	_, err := h.Get(h.ctx, "home", "k", &GetInput{})
	wantErr(t, err, ErrKeyRequired)
	_, err = h.Head(h.ctx, "home", "k", &GetInput{CustomerKey: customer(2)})
	wantErr(t, err, ErrWrongKey)
	o, err := h.Head(h.ctx, "home", "k", &GetInput{CustomerKey: customer(1), WithParts: true})
	if err != nil || o.Checksum.Algorithm != CRC32 || len(o.Parts) != 2 || o.Headers.ContentType != "a/b" || len(o.UserMeta) != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
	// Tags change without the key; copies and pieces that are appended take its place.
	if _, err := h.SetTags(h.ctx, "home", "k", 0, []Field{{"a", "b"}}); err != nil {
		t.Fatal(err)
	}
	in := &CopyInput{SrcBucket: "home", SrcKey: "k", SSE: SSE{Kind: SSEC}, CustomerKey: customer(1), SrcCustomerKey: customer(1)}
	if _, err := h.Copy(h.ctx, "home", "copy", in); err != nil {
		t.Fatal(err)
	}
	if _, err := h.appendSealed("k", len(whole), []byte("more"), SSE{Kind: SSEC}, customer(1)); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][]byte{"copy": whole, "k": append(whole[:len(whole):len(whole)], "more"...)} {
		if got := h.readAll(key, &GetInput{CustomerKey: customer(1)}); !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes", key)
		}
	}
	h.o.Keys = nil
	u := h.upload("home", "bare", UploadInput{SSE: SSE{Kind: SSEC}, CustomerKey: customer(1)})
	part, err := h.PutPart(h.ctx, "home", "bare", u.ID, 1, &PutPartInput{Body: strings.NewReader("x"), Size: 1, CustomerKey: customer(1)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.CompleteUpload(h.ctx, "home", "bare", u.ID, &CompleteInput{Parts: []CompletePart{{Number: 1, ETag: part.ETag.String()}}, Size: -1})
	wantErr(t, err, ErrKeyRequired)
}

func TestCopyEncrypted(t *testing.T) {
	h := start(t, small)
	for _, src := range kinds {
		for _, n := range []int{5, 100 << 10} {
			body := random(uint64(n), n)
			h.putSealed("single", body, src.want, src.key)
			objects := map[string][]byte{"single": body}
			if n > 5 && src.name != "none" {
				objects["parts"] = h.encryptedUpload("parts", src.want, src.key, CRC32, partBytes, partBytes+3)
			}
			for name, body := range objects {
				from, err := h.Head(h.ctx, "home", name, &GetInput{CustomerKey: src.key})
				if err != nil {
					t.Fatal(err)
				}
				for _, dst := range kinds {
					key := dst.key
					what := fmt.Sprintf("%s of %d bytes, %s to %s", name, n, src.name, dst.name)
					streamed := h.StreamedBytes()
					res := h.copy("home", "copy", CopyInput{
						SrcBucket: "home", SrcKey: name, SrcCustomerKey: src.key, SSE: dst.want, CustomerKey: key,
					})
					want := dst.want
					if want.Kind == NoSSE {
						if want = src.want; want.Kind == SSEC {
							want, key = SSE{Kind: SSES3}, nil
						}
					}
					if res.SSE() != want {
						t.Errorf("%s: encryption %+v", what, res.SSE())
					}
					moved := src.want == want
					if moved != (h.StreamedBytes() == streamed) && n > 5 {
						t.Errorf("%s: %d bytes were written", what, h.StreamedBytes()-streamed)
					}
					if moved && (res.ETag != from.ETag || res.PartsCount != from.PartsCount) {
						t.Errorf("%s: ETag %v, %d parts; of the source %v, %d", what, res.ETag, res.PartsCount, from.ETag, from.PartsCount)
					}
					if got := h.readAll("copy", &GetInput{CustomerKey: key}); !bytes.Equal(got, body) {
						t.Fatalf("%s: read other bytes", what)
					}
					head, err := h.Head(h.ctx, "home", "copy", &GetInput{CustomerKey: key})
					if err != nil || head.Headers != from.Headers || head.ETag != res.ETag || head.Checksum != res.Checksum {
						t.Errorf("%s: head %+v, %v; of the source %+v", what, head.Entry, err, from.Entry)
					}
				}
			}
		}
	}
	// Onto itself, to change the encryption and nothing else.
	h.putSealed("self", random(1, 100), SSE{}, nil)
	h.copy("home", "self", CopyInput{SrcBucket: "home", SrcKey: "self", SSE: SSE{Kind: SSES3}})
	h.readAll("self", &GetInput{})
}

func TestCopyPartsEncrypted(t *testing.T) {
	skipLong(t)
	h := start(t)
	for _, src := range kinds {
		body := random(3, partBytes+500)
		h.putSealed("src", body, src.want, src.key)
		for _, dst := range kinds {
			u := h.upload("home", "dst", UploadInput{SSE: dst.want, CustomerKey: dst.key})
			var parts []CompletePart
			for i, r := range []string{fmt.Sprintf("bytes=5-%d", partBytes+4), "", "bytes=1-3"} {
				p, err := h.CopyPart(h.ctx, "home", "dst", u.ID, i+1, &CopyPartInput{
					SrcBucket: "home", SrcKey: "src", Range: r, CustomerKey: dst.key, SrcCustomerKey: src.key,
				})
				if err != nil {
					t.Fatal(err)
				}
				if p.SSE != dst.want {
					t.Errorf("%s to %s: encryption %+v", src.name, dst.name, p.SSE)
				}
				parts = append(parts, CompletePart{Number: i + 1, ETag: p.ETag.String()})
			}
			if _, err := h.CompleteUpload(h.ctx, "home", "dst", u.ID, &CompleteInput{Parts: parts, Size: -1, CustomerKey: dst.key}); err != nil {
				t.Fatal(err)
			}
			want := slices.Concat(body[5:partBytes+5], body, body[1:4])
			if got := h.readAll("dst", &GetInput{CustomerKey: dst.key}); !bytes.Equal(got, want) {
				t.Errorf("%s to %s: read other bytes", src.name, dst.name)
			}
		}
	}
}

func TestDefaultEncryption(t *testing.T) {
	h := start(t)
	set := func(bucket string, e *Encryption) {
		t.Helper()
		if _, err := h.UpdateSettings(h.ctx, bucket, func(s *Settings) error { s.Encryption = e; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	check := func(bucket, key string, want SSE) {
		t.Helper()
		h.put(bucket, key, []byte("x"))
		o, got, err := h.get(bucket, key, GetInput{})
		if err != nil || o.SSE() != want || string(got) != "x" {
			t.Errorf("%s/%s: %q, %+v, %v", bucket, key, got, o.SSE(), err)
		}
	}
	id, yes := "k", true
	byKMS := &Encryption{Rules: []EncryptionRule{{Default: &EncryptionDefault{Algorithm: "aws:kms", KeyID: &id}, BucketKeyEnabled: &yes}}}
	kms := SSE{Kind: SSEKMS, KeyID: "k", BucketKey: true}
	check("home", "a", SSE{})
	set("home", byKMS)
	check("home", "a", kms)
	if _, err := h.Fork(h.ctx, "home", 0, []string{"fork"}); err != nil {
		t.Fatal(err)
	}
	set("home", nil)
	check("home", "a", SSE{})
	check("fork", "b", kms) // what the fork began with
	set("fork", &Encryption{Rules: []EncryptionRule{{Default: &EncryptionDefault{Algorithm: "AES256"}}}})
	check("fork", "b", SSE{Kind: SSES3})
	check("home", "b", SSE{})
	if _, got, err := h.get("fork", "a", GetInput{}); err != nil || string(got) != "x" {
		t.Errorf("an inherited object: %q, %v", got, err)
	}
	h.o.EncryptAll = true
	check("home", "c", SSE{Kind: SSES3})
	set("home", byKMS)
	check("home", "c", kms)
	u := h.upload("home", "u", UploadInput{})
	if u.SSE != kms {
		t.Errorf("upload with %+v", u.SSE)
	}
}

// A master key is rotated: what the old one sealed can be read as long as it is in
// the ring, and a copy of an object onto itself is sealed by the new one.
func TestMasterKeyRotation(t *testing.T) {
	h := start(t)
	old, fresh := keyring.Key{Name: "test", Secret: [32]byte{1, 2, 3}}, keyring.NewKey("fresh")
	ring := func(keys ...keyring.Key) *keyring.Ring {
		r, err := keyring.New(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	body := random(1, 100<<10)
	before := h.putSealed("k", body, SSE{Kind: SSES3}, nil)
	h.o.Keys = ring(fresh, old)
	if got := h.readAll("k", &GetInput{}); !bytes.Equal(got, body) {
		t.Fatal("read other bytes")
	}
	streamed := h.StreamedBytes()
	after := h.copy("home", "k", CopyInput{SrcBucket: "home", SrcKey: "k", SSE: SSE{Kind: SSES3}})
	if h.StreamedBytes() != streamed || after.ETag != before.ETag {
		t.Error("the body was written again")
	}
	h.o.Keys = ring(fresh)
	if got := h.readAll("k", &GetInput{}); !bytes.Equal(got, body) {
		t.Fatal("read other bytes")
	}
	h.o.Keys = ring(old)
	h.masks = maskCiphers{}
	_, err := h.Get(h.ctx, "home", "k", &GetInput{})
	wantErr(t, err, keyring.ErrNoKey)
}

// A byte that changes on the disk is found out before it is served.
func TestEncryptedBodyTampered(t *testing.T) {
	fs := storefs.NewMem()
	h := open(t, fs)
	h.bucket("home")
	body := random(1, 3*plainBlockBytes)
	h.putSealed("k", body, SSE{Kind: SSES3}, nil)
	var path string
	var stored []byte
	walk(t, fs, "data/values", func(p string, b []byte) { path, stored = p, b })
	rng := rand.New(rand.NewPCG(3, 4))
	served := 0
	for range 40 {
		at := rng.IntN(len(stored))
		if stored[at] == 0 {
			continue // perhaps none of the body
		}
		flip := func() {
			f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			stored[at] ^= 0x80
			_, err = f.WriteAt(stored[at:at+1], int64(at))
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		}
		flip()
		o, err := h.Get(h.ctx, "home", "k", &GetInput{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(o.Body)
		o.Body.Close()
		if !bytes.HasPrefix(body, got) || err == nil && len(got) != len(body) {
			t.Fatalf("byte %d changed: read %d other bytes, %v", at, len(got), err)
		}
		if err == nil {
			served++ // the byte was not the body's
		}
		flip()
	}
	if served > 10 {
		t.Errorf("%d changes of 40 were not noticed", served)
	}
	if got := h.readAll("k", &GetInput{}); !bytes.Equal(got, body) {
		t.Error("read other bytes in the end")
	}
}

// Conditions compare with the ETag that people see.
func TestConditionsOfEncrypted(t *testing.T) {
	skipLong(t)
	h := start(t)
	for _, k := range kinds {
		e := h.putSealed("k", random(1, 100), k.want, k.key)
		tag, other := `"`+e.ETag.String()+`"`, `"`+ETag{Sum: md5.Sum([]byte("x"))}.String()+`"`
		get := func(c Conditions) error {
			_, err := h.Head(h.ctx, "home", "k", &GetInput{Cond: c, CustomerKey: k.key})
			return err
		}
		wantErr(t, get(Conditions{IfMatch: tag}), nil)
		wantErr(t, get(Conditions{IfMatch: other}), ErrPreconditionFailed)
		wantErr(t, get(Conditions{IfNoneMatch: tag}), ErrNotModified)
		put := func(tag string) error {
			_, err := h.Put(h.ctx, "home", "k", &PutInput{
				Body: bytes.NewReader(random(1, 100)), Size: 100, Cond: Conditions{IfMatch: tag}, SSE: k.want, CustomerKey: k.key,
			})
			return err
		}
		wantErr(t, put(other), ErrPreconditionFailed)
		wantErr(t, put(tag), nil)
		head, err := h.Head(h.ctx, "home", "k", &GetInput{CustomerKey: k.key})
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Delete(h.ctx, "home", DeleteKey{Key: "k", Cond: Conditions{IfMatch: other}})
		wantErr(t, err, ErrPreconditionFailed)
		_, err = h.Delete(h.ctx, "home", DeleteKey{Key: "k", Cond: Conditions{IfMatch: head.ETag.String()}})
		wantErr(t, err, nil)
	}
}

func BenchmarkEncrypted(b *testing.B) {
	body := random(1, 10<<20)
	for _, k := range kinds[:2] {
		h := start(b)
		put := func() {
			if _, err := h.Put(h.ctx, "home", "k", &PutInput{Body: bytes.NewReader(body), Size: int64(len(body)), SSE: k.want}); err != nil {
				b.Fatal(err)
			}
		}
		put()
		b.Run("put/"+k.name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				put()
			}
		})
		b.Run("get/"+k.name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				o, err := h.Get(h.ctx, "home", "k", &GetInput{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := o.Body.WriteTo(io.Discard); err != nil {
					b.Fatal(err)
				}
				o.Body.Close()
			}
		})
	}
}
