package timeline

import (
	"errors"
	"testing"
	"time"

	"stemma/layers"
	"stemma/wal"
	"stemma/wal/storefs"
)

// A read-only bucket takes no record until it is writable again, a protected one is not
// deleted; both survive a restart, and forks are neither.
func TestReadOnlyAndProtected(t *testing.T) {
	fs := storefs.NewMem()
	s, ctx := openMem(t, fs), t.Context()
	if _, err := s.CreateBucket(ctx, NewBucket{Name: "b", Properties: Properties{Protected: true, Expires: wal.MaxLSN}}); !errors.Is(err, ErrBadProperties) {
		t.Errorf("protected and expiring: %v", err)
	}
	if _, err := s.CreateBucket(ctx, NewBucket{Name: "b", Properties: Properties{ReadOnly: true, Protected: true}}); err != nil {
		t.Fatal(err)
	}
	var b Batch
	b.Put(layers.NamespaceObjects, []byte("k"), []byte("m"), nil)
	refused := func() {
		t.Helper()
		if _, err := s.Commit(ctx, "b", &b); !errors.Is(err, ErrReadOnly) {
			t.Errorf("write: %v", err)
		}
		if _, err := s.Exclusive(ctx, "b", func(tx *Tx) error { tx.Delete(layers.NamespaceObjects, []byte("k")); return nil }); !errors.Is(err, ErrReadOnly) {
			t.Errorf("delete: %v", err)
		}
		if _, err := s.Move(ctx, MoveOptions{Moves: []Move{{Bucket: "b", Source: "b", At: s.Visible()}}}); !errors.Is(err, ErrReadOnly) {
			t.Errorf("move: %v", err)
		}
		if _, err := s.DeleteBucket(ctx, "b", DeleteOptions{Force: true, Undo: time.Hour}); !errors.Is(err, ErrProtected) {
			t.Errorf("delete of the bucket: %v", err)
		}
	}
	refused()
	forks, err := s.Fork(ctx, ForkOptions{Source: "b", Forks: Named("fork")})
	if err != nil || forks[0].ReadOnly || forks[0].Protected {
		t.Fatalf("%+v, %v", forks, err)
	}
	if _, err := s.Commit(ctx, "fork", &b); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, fs)
	refused()
	if _, err := s.SetProperties(ctx, "b", func(Properties) (Properties, error) { return Properties{}, nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, "b", &b); err != nil {
		t.Error(err)
	}
	if _, err := s.DeleteBucket(ctx, "b", DeleteOptions{Force: true}); err != nil {
		t.Error(err)
	}
}
