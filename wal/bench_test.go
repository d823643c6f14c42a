package wal

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"stemma/wal/storefs"
)

// BenchmarkCommit is Append and Wait of 4 KiB on the production file system, by
// a number of committers at once.
func BenchmarkCommit(b *testing.B) {
	const size = 4 << 10
	for _, committers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("committers=%d", committers), func(b *testing.B) {
			fs, dir := onDisk(b, b.TempDir())
			l, _, _ := mustOpen(b, Options{FS: fs, Dir: dir, Logger: testLogger(b),
				Apply: func([]*Commit) {}})
			payload := payloadOf(1, size)
			b.SetBytes(size)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(b.N))
			for range committers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for left.Add(-1) >= 0 {
						c := Commit{Payload: payload}
						if err := l.Append(context.Background(), &c); err != nil {
							b.Error(err)
							return
						}
						if err := l.Wait(&c); err != nil {
							b.Error(err)
							return
						}
						if c.LSN%4000 == 0 {
							l.Release(c.LSN - 1000)
						}
					}
				}()
			}
			wg.Wait()
			b.StopTimer()
			m := l.Metrics()
			b.ReportMetric(float64(m.Commits)/float64(m.Groups), "commits/group")
			b.ReportMetric(float64(m.SyncTime.Microseconds()+m.WriteTime.Microseconds())/float64(m.Groups), "io-us/group")
		})
	}
}

// BenchmarkRawSync is what the disk does at the group sizes of BenchmarkCommit:
// write and sync of overwritten blocks, without a log.
func BenchmarkRawSync(b *testing.B) {
	for _, size := range []int{8 << 10, 40 << 10, 132 << 10, 260 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			fs, dir := onDisk(b, b.TempDir())
			if err := makeDir(fs, dir); err != nil {
				b.Fatal(err)
			}
			s, err := directory{fs: fs, path: dir}.make(1, defaultSegmentBytes, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.closeFile()
			p := storefs.AlignedBlock(size)
			b.SetBytes(int64(size))
			off := int64(0)
			for b.Loop() {
				if off+int64(size) > s.size {
					off = 0
				}
				if err := writeAll(s, p, off); err != nil {
					b.Fatal(err)
				}
				if err := s.file.SyncData(); err != nil {
					b.Fatal(err)
				}
				off += int64(size)
			}
		})
	}
}

// BenchmarkAppend is Append alone, without waiting, of commits of 100 bytes.
func BenchmarkAppend(b *testing.B) {
	fs, dir := onDisk(b, b.TempDir())
	l, _, _ := mustOpen(b, Options{FS: fs, Dir: dir, Logger: testLogger(b)})
	payload := payloadOf(1, 100)
	commits := make([]Commit, 4096)
	b.SetBytes(100)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		c := &commits[i%len(commits)]
		if c.group != nil {
			if err := l.Wait(c); err != nil {
				b.Fatal(err)
			}
		}
		*c = Commit{Payload: payload}
		if err := l.Append(context.Background(), c); err != nil {
			b.Fatal(err)
		}
		if i++; i%100000 == 0 {
			l.Release(l.Visible())
		}
	}
}

// BenchmarkOpen recovers a log of 512 MiB, without a clean end, into a replay
// that looks at nothing.
func BenchmarkOpen(b *testing.B) {
	const logBytes = 512 << 20
	for _, size := range []int{100, 4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("payload=%d", size), func(b *testing.B) {
			fs, dir := onDisk(b, b.TempDir())
			o := Options{FS: fs, Dir: dir, Logger: testLogger(b)}
			l, _, _ := mustOpen(b, o)
			payload := payloadOf(1, size)
			var last Commit
			for l.Size() < logBytes {
				last = Commit{Payload: payload}
				if err := l.Append(context.Background(), &last); err != nil {
					b.Fatal(err)
				}
			}
			mustClose(b, l)
			b.SetBytes(logBytes)
			commits := 0
			for b.Loop() {
				rec, err := readOnly(o)
				if err != nil {
					b.Fatal(err)
				}
				commits = rec.Commits
			}
			b.ReportMetric(float64(commits), "commits")
		})
	}
}

// readOnly does the reading part of Open.
func readOnly(o Options) (Recovery, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Recovery{}, err
	}
	r := recovery{o: o, open: openDirect(o.FS), replay: func(LSN, []byte) error { return nil }}
	err = r.run()
	return r.result, err
}
