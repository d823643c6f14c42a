package limits

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/cockroachdb/pebble/v2"

	"stemma/benchmarks/load"
)

// quiet drops what Pebble says, all but a fatal error.
type quiet struct{ pebble.Logger }

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}

// Pebble sets random keys to values of bytes, synced, in a bare store below dir with
// Pebble's defaults and a memtable of 64 MiB, as Stemma's memlayer. Each round has a
// new store, so that nothing goes on between rounds. It is for any number of workers.
func Pebble(dir string, bytes, writers int) load.Workload {
	block := make([]byte, bytes+sector)
	rand.NewChaCha8([32]byte{1}).Read(block) //nolint:errcheck // never fails
	var folder string
	var db *pebble.DB
	return load.Workload{
		Name: fmt.Sprintf("pebble set %s, %d writers", sizeName(bytes), writers), Unit: "op",
		Before: func(context.Context, int) (err error) {
			if folder, err = os.MkdirTemp(dir, "pebble"); err != nil {
				return err
			}
			db, err = pebble.Open(folder, &pebble.Options{Logger: quiet{pebble.DefaultLogger}, MemTableSize: 64 << 20})
			if err != nil {
				return errors.Join(fmt.Errorf("open a bare Pebble: %w", err), os.RemoveAll(folder))
			}
			return nil
		},
		Op: func(_ context.Context, _ int, rng *rand.Rand) (load.Done, error) {
			var key [16]byte
			binary.BigEndian.PutUint64(key[:], rng.Uint64())
			binary.BigEndian.PutUint64(key[8:], rng.Uint64())
			off := rng.IntN(sector)
			return load.Done{Bytes: int64(bytes)}, db.Set(key[:], block[off:off+bytes], pebble.Sync)
		},
		After: func(context.Context, int) error { return errors.Join(db.Close(), os.RemoveAll(folder)) },
	}
}

func sizeName(bytes int) string {
	if bytes%1024 == 0 {
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d B", bytes)
}
