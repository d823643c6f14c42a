package timeline_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

// A key of a merge may stand for more records than the log has room for: what lies beside it in another namespace, in the source, and in
// what the target has of it. It is one commit all the same, or nothing.
func TestMergeRoom(t *testing.T) {
	fs := storefs.NewMem()
	s := openStore(t, stageOptions(t, fs))
	closing(t, s)
	ctx := t.Context()
	if _, err := s.CreateBucket(ctx, timeline.NewBucket{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	beside := func(i int) []byte { return fmt.Appendf(nil, "k/%06d", i) }
	const records = 5000
	write := func(bucket string, upTo int, body string) {
		t.Helper()
		for i := 0; i < upTo; {
			var b timeline.Batch
			for ; i < upTo && b.Bytes() < 64<<10; i++ {
				b.Put(layers.NamespacePages, beside(i), nil, layers.AppendInlineBody(nil, fmt.Append(nil, body, i)))
			}
			if _, err := s.Commit(ctx, bucket, &b); err != nil {
				t.Fatal(err)
			}
		}
		var b timeline.Batch
		b.Put(layers.NamespaceObjects, []byte("k"), []byte(body), nil)
		if _, err := s.Commit(ctx, bucket, &b); err != nil {
			t.Fatal(err)
		}
	}
	write("main", records/2, "main ")
	if _, err := s.Fork(ctx, timeline.ForkOptions{Source: "main", Forks: timeline.Named("dev")}); err != nil {
		t.Fatal(err)
	}
	at := s.Visible()
	write("dev", records, "dev ")
	refused := errors.New("refused in the end")
	var fail error
	rules := timeline.MergeRules{Take: func(tx *timeline.Tx, e *timeline.MergeEntry) (err error) {
		then, err := e.SourceAt(at)
		if err != nil || then == nil {
			return fmt.Errorf("source at %d: %v, %w", at, then, err)
		}
		defer then.Close()
		if r, err := then.Get(layers.NamespaceObjects, e.Key); err != nil || string(r.Meta) != "main " {
			return fmt.Errorf("it was %q: %w", r.Meta, err)
		}
		if v, err := e.SourceAt(s.Visible() + 1); v != nil || err != nil {
			return fmt.Errorf("the source has a future: %w", err)
		}
		for _, from := range []*timeline.View{nil, then} {
			d, n := e.Diff(from, layers.NamespacePages, nil, nil), 0
			for ; d.Next(); n++ {
				x := d.Difference()
				if (x.A != nil) != (n < records/2) || x.B == nil {
					return fmt.Errorf("%d differs as %v, %v", n, x.A, x.B)
				}
				if from == nil {
					tx.Put(layers.NamespacePages, bytes.Clone(x.Key), nil, x.B.Body)
					if err := tx.MakeRoom(); err != nil {
						return err
					}
				}
			}
			if err := errors.Join(d.Err(), d.Close()); err != nil || n != records {
				return fmt.Errorf("%d differ: %w", n, err)
			}
		}
		tx.Put(e.NS, bytes.Clone(e.Key), e.Theirs.Meta, nil)
		return fail
	}}
	merge := func() error {
		_, err := s.Merge(ctx, timeline.MergeOptions{Source: "dev", Target: "main", Rules: rules})
		return err
	}
	want := func(s *timeline.Store, upTo int, body string) {
		t.Helper()
		v, err := s.View(ctx, "main", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		for i := range records {
			r, err := v.Get(layers.NamespacePages, beside(i))
			if i >= upTo && errors.Is(err, timeline.ErrNotFound) {
				continue
			}
			if got := r.Body.Inline(); r.Body.Tag() == layers.BodyInline && string(got) != fmt.Sprint(body, i) || err != nil || i >= upTo {
				t.Fatalf("record %d is %q, %v", i, got, err)
			}
		}
	}
	fail = refused
	if err := merge(); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	want(s, records/2, "main ")
	if s.Metrics().AdoptedBytes != 0 {
		t.Error("what was refused was adopted")
	}
	fail = nil
	if err := merge(); err != nil {
		t.Fatal(err)
	}
	want(s, records, "dev ")
	if s.Metrics().AdoptedBytes == 0 {
		t.Error("nothing was staged")
	}
	// The same of a transaction that is no merge; elsewhere it is too large, and a crash keeps what was committed.
	fill := func(tx *timeline.Tx) error {
		for i := range records {
			tx.Put(layers.NamespacePages, beside(i), nil, layers.AppendInlineBody(nil, fmt.Append(nil, "large ", i)))
			if err := tx.MakeRoom(); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err := s.Exclusive(ctx, "main", fill); !errors.Is(err, timeline.ErrBatchTooLarge) {
		t.Errorf("a large transaction: %v", err)
	}
	if _, err := s.ExclusiveLarge(ctx, "main", fill); err != nil {
		t.Fatal(err)
	}
	want(s, records, "large ")
	again := openStore(t, stageOptions(t, fs.CrashClone(vfs.CrashCloneCfg{})))
	closing(t, again)
	want(again, records, "large ")
}
