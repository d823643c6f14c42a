package limits

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"

	"stemma/benchmarks/load"
)

// Pebble is a bare store.
type Pebble struct{ db *pebble.DB }

// quiet drops what Pebble says, all but a fatal error.
type quiet struct{ pebble.Logger }

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}

// OpenPebble opens a new store in a folder of dir, with Pebble's defaults and a
// memtable of 64 MiB as Stemma's memlayer.
func OpenPebble(dir string) (*Pebble, error) {
	db, err := pebble.Open(filepath.Join(dir, "limits.pebble"), &pebble.Options{Logger: quiet{pebble.DefaultLogger}, MemTableSize: 64 << 20})
	if err != nil {
		return nil, fmt.Errorf("open a bare Pebble: %w", err)
	}
	return &Pebble{db}, nil
}

// Close closes the store. Its files stay.
func (p *Pebble) Close() error { return p.db.Close() }

// Set sets random keys to values of bytes, synced. It is for any number of workers.
func (p *Pebble) Set(bytes, writers int) load.Workload {
	block := make([]byte, bytes+sector)
	rand.NewChaCha8([32]byte{1}).Read(block) //nolint:errcheck // never fails
	return load.Workload{
		Name: fmt.Sprintf("pebble set %s, %d writers", sizeName(bytes), writers), Unit: "op",
		Op: func(_ context.Context, _ int, rng *rand.Rand) (load.Done, error) {
			var key [16]byte
			binary.BigEndian.PutUint64(key[:], rng.Uint64())
			binary.BigEndian.PutUint64(key[8:], rng.Uint64())
			off := rng.IntN(sector)
			return load.Done{Bytes: int64(bytes)}, p.db.Set(key[:], block[off:off+bytes], pebble.Sync)
		},
	}
}

func sizeName(bytes int) string {
	if bytes%1024 == 0 {
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d B", bytes)
}
