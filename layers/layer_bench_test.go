package layers

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/wal"
)

// objectRecords are n objects of one timeline, in key order, with metadata of
// about the size that S3 entries have and a handle each.
func objectRecords(n int) []Record {
	rng := rand.New(rand.NewPCG(1, 2))
	recs := make([]Record, n)
	for i := range recs {
		meta := append(fmt.Appendf(nil, "application/octet-stream;etag=%032x;mtime=%d", rng.Uint64(), 1700000000+i), randomBytes(rng, 16)...)
		recs[i] = Record{
			Key: MakeKey(1, NamespaceObjects, fmt.Appendf(nil, "datasets/train/shard-%04d/%08d.jpg", i/1000, i)), LSN: wal.LSN(1_700_000_000_000_000_000 + rng.IntN(1<<40)),
			Kind: KindValue, Meta: meta,
			Body: AppendExtentsBody(nil, []Extent{{Handle: Handle{Segment: 77, Offset: uint64(i) * 5000, Length: 4900, Raw: 4900, CRC: rng.Uint32()}, Len: 4900}}),
		}
	}
	return recs
}

func BenchmarkMemlayerAdd(b *testing.B) {
	recs := objectRecords(200_000)
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
	b.ReportAllocs()
	var m *Memlayer
	i := len(recs)
	for b.Loop() {
		if i == len(recs) {
			m, i = NewMemlayer(), 0
		}
		m.Add(&recs[i])
		i++
	}
}

func BenchmarkMemlayerGet(b *testing.B) {
	recs := objectRecords(200_000)
	m := NewMemlayer()
	for i := range recs {
		m.Add(&recs[i])
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		rng := rand.New(rand.NewPCG(rand.Uint64(), 4))
		for pb.Next() {
			if _, ok := m.Get(recs[rng.IntN(len(recs))].Key, wal.MaxLSN); !ok {
				b.Fail()
			}
		}
	})
}

func BenchmarkMemlayerNext(b *testing.B) {
	recs := objectRecords(200_000)
	m := NewMemlayer()
	for i := range recs {
		m.Add(&recs[i])
	}
	b.ReportAllocs()
	it := m.NewIter()
	for b.Loop() {
		if !it.Next() {
			it.First()
		}
	}
}

// benchLayer writes recs to a file of the real disk.
func benchLayer(b testing.TB, recs []Record, c *BlockCache) *Layer {
	b.Helper()
	dir := b.TempDir()
	w, err := NewLayerWriter(vfs.Default, dir, 7, WriterOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for i := range recs {
		if err := w.Add(&recs[i]); err != nil {
			b.Fatal(err)
		}
	}
	d, err := w.Finish()
	if err != nil {
		b.Fatal(err)
	}
	l, err := OpenLayer(vfs.Default, dir, d, c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

func BenchmarkLayerGet(b *testing.B) {
	recs := objectRecords(200_000)
	for _, c := range []struct {
		name  string
		cache int64
		key   func(i int) Key
		found bool
	}{
		{"hit/cached", 256 << 20, func(i int) Key { return recs[i].Key }, true},
		{"hit/uncached", 0, func(i int) Key { return recs[i].Key }, true},
		{"miss/cached", 256 << 20, func(i int) Key { return append(recs[i].Key[:len(recs[i].Key):len(recs[i].Key)], 'x') }, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := benchLayer(b, recs, NewBlockCache(c.cache))
			for i := range recs {
				if i%50 == 0 {
					l.Get(recs[i].Key, wal.MaxLSN, nil)
				}
			}
			rng := rand.New(rand.NewPCG(5, 6))
			var buf GetBuf
			b.ReportAllocs()
			for b.Loop() {
				if _, ok, err := l.Get(c.key(rng.IntN(len(recs))), wal.MaxLSN, &buf); ok != c.found || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkLayerMayContain(b *testing.B) {
	recs := objectRecords(200_000)
	l := benchLayer(b, recs, NewBlockCache(64<<20))
	b.ReportAllocs()
	var n uint64
	for b.Loop() {
		n += 0x9e3779b97f4a7c15
		if _, err := l.MayContain(n); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLayerIter(b *testing.B) {
	recs := objectRecords(200_000)
	for _, dir := range []string{"next", "prev", "seek"} {
		b.Run(dir, func(b *testing.B) {
			l := benchLayer(b, recs, NewBlockCache(256<<20))
			it := l.NewIter(IterOptions{FillCache: true})
			move, start := it.Next, it.First
			rng := rand.New(rand.NewPCG(5, 6))
			switch dir {
			case "prev":
				move, start = it.Prev, it.Last
			case "seek":
				move = func() bool { return it.SeekGE(recs[rng.IntN(len(recs))].Key, wal.MaxLSN) }
			}
			for ok := start(); ok && dir != "seek"; {
				ok = move()
			}
			b.ReportAllocs()
			for b.Loop() {
				if !move() && !start() {
					b.Fatal(it.Err())
				}
			}
		})
	}
}

func BenchmarkLayerWriter(b *testing.B) {
	recs := objectRecords(200_000)
	b.ReportAllocs()
	dir := b.TempDir()
	var raw, stored int64
	for b.Loop() {
		w, err := NewLayerWriter(vfs.Default, dir, 7, WriterOptions{})
		if err != nil {
			b.Fatal(err)
		}
		for i := range recs {
			if err := w.Add(&recs[i]); err != nil {
				b.Fatal(err)
			}
		}
		d, err := w.Finish()
		if err != nil {
			b.Fatal(err)
		}
		raw, stored = int64(d.RawBytes), d.Bytes
	}
	b.SetBytes(raw)
	b.ReportMetric(float64(raw)/float64(stored), "raw/stored")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(recs)), "ns/record")
}

func BenchmarkLayerVerify(b *testing.B) {
	recs := objectRecords(200_000)
	l := benchLayer(b, recs, nil)
	for b.Loop() {
		if err := l.Verify(); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(l.desc.Bytes)
}
