package client

import (
	"bytes"
	"fmt"
	"testing"

	"stemma/layers"
	"stemma/pageserver/object"
)

// Batches are on the wire what the server takes them for.
func TestPageBatches(t *testing.T) {
	mine := []PageOp{{Kind: PageWrite, Off: 300, Data: []byte("abc")}, {Kind: PageZero, Off: 5, Len: 900}, {Kind: PageResize, Off: 1 << 40}, {Kind: PageMeta, Name: "n", Data: []byte("v")}}
	var theirs []object.PageOp
	for _, o := range mine {
		theirs = append(theirs, object.PageOp{Kind: object.PageOpKind(o.Kind), Off: o.Off, Len: o.Len, Data: o.Data, Name: o.Name})
	}
	if got, want := appendPageOps(nil, mine), object.AppendPageOps(nil, theirs); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	p := object.AppendPageResults(nil, []object.PageReadResult{
		{Data: []byte("abc"), Size: 1000, LSN: 1 << 60}, {Err: fmt.Errorf("x: %w", object.ErrNoSuchKey)}, {Err: layers.ErrCorrupt}, {Err: object.ErrNotInPlace}, {},
	})
	got, err := decodePageResults(p)
	if err != nil || len(got) != 5 || string(got[0].Data) != "abc" || got[0].Size != 1000 || got[0].LSN != 1<<60 || got[4].Err != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, code := range []string{1: "NoSuchKey", 2: "Corrupt", 3: "InternalError"} {
		if code != "" && !IsCode(got[i].Err, code) {
			t.Errorf("%v, want %s", got[i].Err, code)
		}
	}
	for n := range p {
		if r, err := decodePageResults(p[:n]); err == nil && len(r) == 5 {
			t.Errorf("cut to %d of %d bytes it is whole", n, len(p))
		}
	}
}
