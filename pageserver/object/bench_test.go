package object

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

func BenchmarkPut(b *testing.B) {
	for _, n := range []int{100, 4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
			h := start(b)
			body := random(1, n)
			var r bytes.Reader
			in := &PutInput{Body: &r, Size: int64(n), Headers: Headers{ContentType: "application/octet-stream"}}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(body)
				if _, err := h.Put(h.ctx, "home", "some/key/of/usual-length", in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReceive is what a put costs before the commit: sums and buffers.
func BenchmarkReceive(b *testing.B) {
	for _, n := range []int{100, 16 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
			h := start(b)
			body := random(1, n)
			var r bytes.Reader
			in := &incoming{body: &r, size: int64(n), maximum: 1 << 30, expect: &Expect{}, algorithm: CRC64NVME, inlineBelow: 32 << 10}
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(body)
				sc := getScratch()
				if _, err := h.receive(h.ctx, sc, nil, in); err != nil {
					b.Fatal(err)
				}
				sc.put()
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{100, 4 << 10, 1 << 20} {
		for _, flushed := range []bool{false, true} {
			b.Run(fmt.Sprintf("bytes=%d/flushed=%t", n, flushed), func(b *testing.B) {
				h := start(b)
				h.put("home", "some/key/of/usual-length", random(1, n))
				if flushed {
					h.flush()
				}
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					o, err := h.Get(h.ctx, "home", "some/key/of/usual-length", &GetInput{})
					if err != nil {
						b.Fatal(err)
					}
					if _, err := o.Body.WriteTo(io.Discard); err != nil {
						b.Fatal(err)
					}
					o.Body.Close()
				}
			})
		}
	}
}

func BenchmarkList(b *testing.B) {
	h := start(b)
	for i := range 3000 {
		h.put("home", fmt.Sprintf("dir-%03d/some-file-%05d", i/10, i), nil)
	}
	h.flush()
	for _, delimiter := range []string{"", "/"} {
		b.Run("delimiter="+delimiter, func(b *testing.B) {
			b.ReportAllocs()
			items := 0
			for b.Loop() {
				l, err := h.List(h.ctx, "home", &ListInput{Delimiter: delimiter, MaxKeys: 1000})
				if err != nil {
					b.Fatal(err)
				}
				items = len(l.Entries) + len(l.Prefixes)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*items), "ns/item")
		})
	}
}
