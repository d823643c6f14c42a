package object

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

func (h *harness) appendSealed(key string, offset int, p []byte, want SSE, customer *CustomerKey) (*Entry, error) {
	return h.Append(h.ctx, "home", key, uint64(offset), &PutInput{
		Body: bytes.NewReader(p), Size: int64(len(p)), SSE: want, CustomerKey: customer,
	})
}

// What is appended to an encrypted object is read with it, in ranges, by parts, from a
// copy and in a fork; whatever the first piece was.
func TestAppendEncrypted(t *testing.T) {
	skipLong(t)
	h := start(t)
	for _, c := range kinds[1:] {
		for _, first := range []int{0, 10, 40 << 10, 200 << 10} {
			key, copied := fmt.Sprint(c.name, first), fmt.Sprint(c.name, first, "copy")
			var whole []byte
			var sizes []int
			for i, n := range []int{first, 7, 0, 100_000, 1} {
				p := random(uint64(i), n)
				e, err := h.appendSealed(key, len(whole), p, c.want, c.key)
				if err != nil {
					t.Fatalf("%s: append %d: %v", c.name, i, err)
				}
				if whole = append(whole, p...); i > 0 && len(whole) == n {
					sizes = nil // the piece is all of it
				}
				sizes = append(sizes, n)
				if e.SSE().Kind != c.want.Kind || e.Size != uint64(len(whole)) || e.Checksum != ChecksumOf(CRC64NVME, whole) {
					t.Fatalf("%s: append %d: %+v", c.name, i, e)
				}
				if got := h.readAll(key, &GetInput{CustomerKey: c.key}); !bytes.Equal(got, whole) {
					t.Fatalf("%s, %d bytes first: other bytes after append %d", c.name, first, i)
				}
			}
			at := 0
			for i, n := range sizes {
				if got := h.readAll(key, &GetInput{PartNumber: i + 1, CustomerKey: c.key}); !bytes.Equal(got, whole[at:at+n]) {
					t.Errorf("%s: part %d has %d bytes, want %d", c.name, i+1, len(got), n)
				}
				at += n
			}
			for _, r := range []string{"bytes=0-0", "bytes=5-20", "bytes=65510-65540", "bytes=-3", "bytes=1-"} {
				off, n, _, err := parseRange(r, uint64(len(whole)))
				if err != nil {
					t.Fatal(err)
				}
				if got := h.readAll(key, &GetInput{Range: r, CustomerKey: c.key}); !bytes.Equal(got, whole[off:off+n]) {
					t.Errorf("%s: %s of %d first: other bytes", c.name, r, first)
				}
			}
			if _, err := h.Copy(h.ctx, "home", copied, &CopyInput{
				SrcBucket: "home", SrcKey: key, SSE: c.want, CustomerKey: c.key, SrcCustomerKey: c.key,
			}); err != nil {
				t.Fatalf("%s: copy: %v", c.name, err)
			}
			e, err := h.appendSealed(copied, len(whole), []byte("more"), SSE{}, c.key)
			if err != nil || e.PartsCount != len(sizes)+1 {
				t.Fatalf("%s: append to a copy: %+v, %v", c.name, e, err)
			}
			if got := h.readAll(copied, &GetInput{CustomerKey: c.key}); !bytes.Equal(got, append(whole[:len(whole):len(whole)], "more"...)) {
				t.Errorf("%s: a copy that was appended to has other bytes", c.name)
			}
		}
	}
}

// Two versions that share a data key share nothing else: no block of one is one of the other.
func TestAppendSealsAnew(t *testing.T) {
	h := start(t)
	h.putSealed("k", []byte("hello"), SSE{Kind: SSES3}, nil)
	if _, err := h.Fork(h.ctx, "home", 0, []string{"fork"}); err != nil {
		t.Fatal(err)
	}
	p := random(1, 1000)
	var sealed [2][]byte
	for i, bucket := range []string{"home", "fork"} {
		if _, err := h.Append(h.ctx, bucket, "k", 5, &PutInput{Body: bytes.NewReader(p), Size: 1000}); err != nil {
			t.Fatal(err)
		}
		src, err := h.openSource(h.ctx, bucket, "k", &GetInput{})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.load(src); err != nil {
			t.Fatal(err)
		}
		last := src.ext[len(src.ext)-1]
		if sealed[i], err = h.values.ReadAll(nil, last); err != nil {
			t.Fatal(err)
		}
		src.close()
	}
	if bytes.Equal(sealed[0], sealed[1]) || len(sealed[0]) != len(sealed[1]) {
		t.Errorf("the same bytes were sealed alike: %x", sealed[0][:32])
	}
}

func TestAppendEncryptedRefused(t *testing.T) {
	h := start(t)
	h.put("home", "clear", []byte("hello"))
	h.putSealed("s3", []byte("hello"), SSE{Kind: SSES3}, nil)
	h.putSealed("kms", []byte("hello"), SSE{Kind: SSEKMS, KeyID: "a"}, nil)
	h.putSealed("c", []byte("hello"), SSE{Kind: SSEC}, customer(1))
	before := h.Store().Visible()
	for _, c := range []struct {
		key      string
		sse      SSE
		customer *CustomerKey
		want     error
	}{
		{"clear", SSE{Kind: SSES3}, nil, ErrAppendChanges},
		{"clear", SSE{Kind: SSEC}, customer(1), ErrKeyNotApplicable},
		{"s3", SSE{Kind: SSEKMS, KeyID: "a"}, nil, ErrAppendChanges},
		{"kms", SSE{Kind: SSES3}, nil, ErrAppendChanges},
		{"kms", SSE{Kind: SSEKMS, KeyID: "b"}, nil, ErrAppendChanges},
		{"c", SSE{}, nil, ErrKeyRequired},
		{"c", SSE{Kind: SSEC}, customer(2), ErrWrongKey},
	} {
		if _, err := h.appendSealed(c.key, 5, []byte("x"), c.sse, c.customer); !errors.Is(err, c.want) {
			t.Errorf("%s by %+v: %v, want %v", c.key, c.sse, err, c.want)
		}
	}
	h.o.EncryptAll = true
	if _, err := h.appendSealed("clear", 5, []byte("x"), SSE{}, nil); !errors.Is(err, ErrAppendClear) {
		t.Error(err)
	}
	if now := h.Store().Visible(); now != before {
		t.Errorf("something was committed: %d, before %d", now, before)
	}
}
