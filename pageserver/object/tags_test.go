package object

import (
	"errors"
	"strings"
	"testing"

	"stemma/wal"
)

// Tags change, and the version that has them stays: its id, its time, its body.
func TestSetTagsKeepsTheVersion(t *testing.T) {
	skipLong(t)
	h := start(t)
	for _, size := range []int{0, 10, 100_000} {
		body := strings.Repeat("x", size)
		e, err := h.Put(h.ctx, "home", "k", &PutInput{Body: strings.NewReader(body), Size: int64(size), Tags: []Field{{"t", "0"}}})
		if err != nil {
			t.Fatal(err)
		}
		var last wal.LSN
		for i, value := range []string{"1", "2", "2"} {
			got, err := h.SetTags(h.ctx, "home", "k", 0, []Field{{"t", value}})
			if err != nil || got.LSN != e.LSN || got.At <= e.LSN {
				t.Fatalf("%+v, %v; the version was %d", got, err, e.LSN)
			}
			lsn := got.At
			if o, err := h.Get(h.ctx, "home", "k", &GetInput{}); err != nil || o.LSN != e.LSN || o.Tags[0].Value != value || o.Size != uint64(size) {
				t.Fatalf("%+v, %v", o, err)
			} else if err := o.Body.Close(); err != nil {
				t.Error(err)
			}
			list, err := h.List(h.ctx, "home", &ListInput{Prefix: "k", MaxKeys: 1})
			if err != nil || list.Entries[0].LSN != e.LSN {
				t.Fatalf("listed %+v, %v", list, err)
			}
			if i == 2 && lsn != last {
				t.Errorf("a change of nothing made commit %d after %d", lsn, last)
			}
			last = lsn
		}
		if o, err := h.Head(h.ctx, "home", "k", &GetInput{At: e.LSN}); err != nil || o.Tags[0].Value != "0" {
			t.Fatalf("at the put: %+v, %v", o, err)
		}
		c, err := h.Copy(h.ctx, "home", "copy", &CopyInput{SrcBucket: "home", SrcKey: "k"})
		if err != nil || c.LSN <= last || c.SrcLSN != e.LSN || c.Tags[0].Value != "2" {
			t.Fatalf("copied %+v, %v", c, err)
		}
		if o, err := h.Head(h.ctx, "home", "copy", &GetInput{}); err != nil || o.LSN != c.LSN {
			t.Fatalf("the copy is of %d, %v; want %d", o.LSN, err, c.LSN)
		}
	}
	var rule *RuleError
	if _, err := h.SetTags(h.ctx, "home", "k", 0, []Field{{"", ""}}); !errors.As(err, &rule) {
		t.Error(err)
	}
	if _, err := h.SetTags(h.ctx, "home", "absent", 0, nil); !errors.Is(err, ErrNoSuchKey) {
		t.Error(err)
	}
}
