package timeline

import (
	"errors"
	"log/slog"
	"runtime"
	"testing"
	"time"
	"weak"

	"stemma/layers"
	"stemma/wal/storefs"
)

// A row that puts a layer where no level is, is corrupt: nobody may index by it.
func TestLayerRowBeyondTheLevels(t *testing.T) {
	c, err := openCatalog(storefs.NewMem(), "catalog", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	d := layers.Desc{
		Num: 7, Kind: layers.DeltaLayer, Level: layers.NumLevels, MinLSN: 1, MaxLSN: 2, Bytes: 500, Entries: 1,
		Range: layers.KeyRange{Start: layers.MakeKey(1, layers.NamespaceObjects, []byte("a")), End: layers.MakeKey(1, layers.NamespaceObjects, []byte("b"))},
	}
	rows := c.newBatch()
	rows.setLayer(&d)
	if err := rows.commit(true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.layers(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a layer of level %d: %v, want ErrCorrupt", d.Level, err)
	}
}

// A memlayer is memory; once flushed it goes, though nothing is written after it.
func TestFlushedMemlayerIsFreed(t *testing.T) {
	s, err := Open(Options{FS: storefs.NewMem(), Dir: "data", CollectEvery: -1, HorizonEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.CreateBucket(t.Context(), NewBucket{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	var b Batch
	b.Put(layers.NamespaceObjects, []byte("key"), nil, layers.AppendInlineBody(nil, make([]byte, 100)))
	if _, err := s.Commit(t.Context(), "b", &b); err != nil {
		t.Fatal(err)
	}
	s.applyMu.Lock()
	mem := weak.Make(s.mu.active)
	s.applyMu.Unlock()
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if runtime.GC(); mem.Value() == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a flushed memlayer is still referred to")
}
