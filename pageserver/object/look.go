package object

import (
	"context"
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// MaxLookKeys bounds the keys of one Look.
const MaxLookKeys = 100

// Looked is what Look found at a key.
type Looked struct {
	Entry *Entry // nil: no object
	// Below says that other keys begin with the key.
	Below bool
}

// LookResult is what keys were at one LSN.
type LookResult struct {
	LSN  wal.LSN
	Keys []Looked // in the order asked for
}

// Look describes what is at some keys at one LSN; zero: the tip. What is encrypted of an entry and cannot be opened is
// left out. Errors: ErrBadLook, ErrKeyTooLong, timeline.ErrNoSuchBucket, ErrFuture and *BelowHorizonError, ErrCorrupt,
// layers.ErrCorrupt.
func (s *Service) Look(ctx context.Context, bucket string, at wal.LSN, keys []string) (*LookResult, error) {
	if len(keys) == 0 || len(keys) > MaxLookKeys {
		return nil, fmt.Errorf("%d keys, want 1 to %d: %w", len(keys), MaxLookKeys, ErrBadLook)
	}
	v, err := s.store.View(ctx, bucket, at)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	res := &LookResult{LSN: v.LSN(), Keys: make([]Looked, len(keys))}
	for i, key := range keys {
		out := &res.Keys[i]
		e, _, err := lookup(v, key)
		switch {
		case err == nil:
			s.show(e)
			out.Entry = e
		case !errors.Is(err, ErrNoSuchKey):
			return nil, fmt.Errorf("look at %q: %w", bucket, err)
		}
		if out.Below, err = anyBelow(v, key); err != nil {
			return nil, fmt.Errorf("look at %q: %w", bucket, err)
		}
	}
	return res, nil
}

// ErrBadLook: InvalidArgument; no keys, or too many.
var ErrBadLook = errors.New("object: bad number of keys")

// show opens what is encrypted of an entry, if the store has the key.
func (s *Service) show(e *Entry) {
	if s.unlock(e, nil) != nil {
		e.ETag = ETag{} // only who has the key may know it
	}
}

// anyBelow reports whether other keys begin with key.
func anyBelow(v *timeline.View, key string) (bool, error) {
	scan := v.Scan(layers.NamespaceObjects, []byte(key+"\x00"), bound(successor(key)))
	defer scan.Close()
	return scan.First(), scan.Err()
}
