package timeline_test

import (
	"context"
	"fmt"
	"testing"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal/storefs"
)

func benchStore(b *testing.B) *timeline.Store {
	b.Helper()
	dir := b.TempDir()
	fs, err := storefs.New(storefs.Options{Dir: dir, BallastBytes: -1})
	if err != nil {
		b.Fatal(err)
	}
	s, err := timeline.Open(timeline.Options{FS: fs, Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
		if err := fs.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func mustCreate(b *testing.B, s *timeline.Store, name string) {
	b.Helper()
	if _, err := s.CreateBucket(context.Background(), timeline.NewBucket{Name: name}); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCommit measures blind 4 KiB commits, each durable when it returns.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := benchStore(b)
			mustCreate(b, s, "main")
			body := layers.AppendInlineBody(nil, make([]byte, 4096))
			b.SetParallelism(writers / 2)
			b.SetBytes(4096)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				key := []byte("key-00000000")
				for i := 0; pb.Next(); i++ {
					var batch timeline.Batch
					copy(key[4:], fmt.Sprintf("%08d", i))
					batch.Put(layers.NamespaceObjects, key, nil, body)
					if _, err := s.Commit(context.Background(), "main", &batch); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkGet measures point reads in a root and in forks of it at several
// depths that wrote nothing, or one key each.
func BenchmarkGet(b *testing.B) {
	ctx := context.Background()
	for _, wrote := range []bool{false, true} {
		s := benchStore(b)
		mustCreate(b, s, "d0")
		const keys = 10_000
		var batch timeline.Batch
		for i := range keys {
			batch.Put(layers.NamespaceObjects, fmt.Appendf(nil, "key-%08d", i), make([]byte, 100), nil)
		}
		if _, err := s.Commit(ctx, "d0", &batch); err != nil {
			b.Fatal(err)
		}
		for d := 1; d <= 1000; d++ {
			name := fmt.Sprintf("d%d", d)
			if _, err := s.Fork(ctx, timeline.ForkOptions{Source: fmt.Sprintf("d%d", d-1), Forks: timeline.Named(name)}); err != nil {
				b.Fatal(err)
			}
			if wrote {
				var own timeline.Batch
				own.Put(layers.NamespaceObjects, fmt.Appendf(nil, "own-%08d", d), nil, nil)
				if _, err := s.Commit(ctx, name, &own); err != nil {
					b.Fatal(err)
				}
			}
		}
		for _, flushed := range []bool{false, true} {
			if flushed {
				if err := s.Flush(ctx); err != nil {
					b.Fatal(err)
				}
			}
			for _, depth := range []int{0, 1, 10, 100, 1000} {
				b.Run(fmt.Sprintf("wrote=%v/flushed=%v/depth=%d", wrote, flushed, depth), func(b *testing.B) {
					b.ReportAllocs()
					name := fmt.Sprintf("d%d", depth)
					key := make([]byte, 0, 32)
					for i := 0; b.Loop(); i++ {
						key = fmt.Appendf(key[:0], "key-%08d", i*7919%keys)
						v, err := s.View(ctx, name, 0)
						if err != nil {
							b.Fatal(err)
						}
						if _, err := v.Get(layers.NamespaceObjects, key); err != nil {
							b.Fatal(err)
						}
						v.Close()
					}
				})
			}
		}
	}
}

// BenchmarkFork measures forks of the tip, one commit each.
func BenchmarkFork(b *testing.B) {
	ctx := context.Background()
	s := benchStore(b)
	mustCreate(b, s, "main")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.Fork(ctx, timeline.ForkOptions{Source: "main", Forks: timeline.Named(fmt.Sprintf("fork-%09d", i))}); err != nil {
			b.Fatal(err)
		}
	}
}
