package object

import (
	"bytes"
	"testing"

	"stemma/pageserver/keyring"
)

// What a former master key sealed opens without it once it was sealed anew, versions and
// forks' own included; nothing but the seal changes, and a second run finds nothing.
func TestReseal(t *testing.T) {
	h := start(t)
	if _, err := h.SetVersioning(h.ctx, "home", Enabled); err != nil {
		t.Fatal(err)
	}
	old, fresh := keyring.Key{Name: "test", Secret: [32]byte{1, 2, 3}}, keyring.NewKey("fresh")
	ring := func(keys ...keyring.Key) *keyring.Ring {
		r, err := keyring.New(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := h.putSealed("k", []byte("first"), SSE{Kind: SSES3}, nil)
	large := random(1, 200<<10)
	second := h.putSealed("k", large, SSE{Kind: SSEKMS, KeyID: "a", Context: "e30="}, nil)
	h.putSealed("c", []byte("customer"), SSE{Kind: SSEC}, customer(1))
	h.put("home", "plain", []byte("plain"))
	parts := h.uploadSealed("parts", SSE{Kind: SSEC}, customer(1), nil, CRC32, 100)
	h.putSealed("gone", []byte("gone"), SSE{Kind: SSES3}, nil)
	h.delete("home", DeleteKey{Key: "gone"})
	if _, err := h.appendSealed("k", len(large), []byte("more"), SSE{}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Fork(h.ctx, "home", 0, []string{"fork"}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Copy(h.ctx, "fork", "own", &CopyInput{SrcBucket: "fork", SrcKey: "k"}); err != nil {
		t.Fatal(err)
	}
	h.o.Keys = ring(fresh, old)
	run := func(bucket string, want ResealReport) {
		t.Helper()
		got, err := h.Reseal(h.ctx, bucket, func() error { return nil })
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", bucket, got, err, want)
		}
	}
	streamed := h.StreamedBytes()
	run("home", ResealReport{Scanned: 8, Resealed: 5}) // three versions of k, one of gone, the fields of parts; the marker of gone counts
	run("home", ResealReport{Scanned: 8})
	run("fork", ResealReport{Scanned: 1, Resealed: 1})
	if h.StreamedBytes() != streamed {
		t.Error("bodies were written again")
	}
	h.o.Keys, h.masks = ring(fresh), maskCiphers{}
	for _, c := range []struct {
		e    *Entry
		body []byte
	}{{first, []byte("first")}, {second, large}} {
		o, err := h.Head(h.ctx, "home", "k", &GetInput{Version: c.e.ID()})
		if err != nil || o.ETag != c.e.ETag || o.LSN != c.e.LSN || o.ID != c.e.ID() {
			t.Errorf("%+v, %v", o, err)
		}
		if got := h.readAll("k", &GetInput{Version: c.e.ID()}); !bytes.Equal(got, c.body) {
			t.Errorf("version %v has other bytes", c.e.ID())
		}
	}
	if got := h.readAll("k", &GetInput{}); !bytes.Equal(got, append(large[:len(large):len(large)], "more"...)) {
		t.Error("what was appended to has other bytes")
	}
	if got := h.readAll("c", &GetInput{CustomerKey: customer(1)}); string(got) != "customer" {
		t.Errorf("%q", got)
	}
	if got := h.readAll("parts", &GetInput{CustomerKey: customer(1)}); !bytes.Equal(got, parts) {
		t.Error("parts has other bytes")
	}
	// What the master key of is not there is counted and left alone.
	h.o.Keys, h.masks = ring(keyring.NewKey("other")), maskCiphers{}
	run("fork", ResealReport{Scanned: 1, Unopened: 1})
}
