package storeload

import (
	"context"
	"fmt"
	"strings"

	"stemma/benchmarks/internal/engine"
	"stemma/benchmarks/s3load"
	"stemma/layers"
	"stemma/pageserver/object"
	"stemma/timeline"
)

// What fillSmall puts.
const (
	smallKind  = 'l' // of keys
	smallValue = "value"
)

// fillSmall makes a bucket of n objects of a few bytes, with the keys of package
// s3load in their order of numbers, which is no order of keys. One object is put as
// the server puts it; the others are copies of its record in commits of a thousand,
// so that millions take a minute.
func fillSmall(ctx context.Context, e *engine.Engine, bucket string, n int) error {
	return fillWith(ctx, e, bucket, n, smallValue)
}

// fillWith is fillSmall with another value.
func fillWith(ctx context.Context, e *engine.Engine, bucket string, n int, value string) error {
	svc := object.New(e.Store, object.Options{})
	defer svc.Close()
	if _, err := svc.CreateBucket(ctx, bucket); err != nil {
		return err
	}
	key := s3load.AppendKey(nil, smallKind, 0)
	if _, err := svc.Put(ctx, bucket, string(key), &object.PutInput{Body: strings.NewReader(value), Size: int64(len(value))}); err != nil {
		return err
	}
	first, err := record(ctx, e, bucket, key)
	if err != nil {
		return err
	}
	const batch = 1000
	var b timeline.Batch
	for i := 1; i < n; i++ {
		b.Put(layers.NamespaceObjects, s3load.AppendKey(nil, smallKind, uint64(i)), first.Meta, first.Body)
		if b.Len() < batch && i < n-1 {
			continue
		}
		err := e.Patiently(func() error {
			_, err := e.Commit(ctx, bucket, &b)
			return err
		})
		if err != nil {
			return fmt.Errorf("fill %s: %w", bucket, err)
		}
		b.Reset()
	}
	return nil
}

// record returns the record of a key at the tip.
func record(ctx context.Context, e *engine.Engine, bucket string, key []byte) (layers.Record, error) {
	v, err := e.View(ctx, bucket, 0)
	if err != nil {
		return layers.Record{}, err
	}
	defer v.Close()
	return v.Get(layers.NamespaceObjects, key)
}
