package layers

import (
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// BenchmarkLargeGet measures what the parts of a large get cost at least: pieces of 512 KiB of
// a file in the page cache are read or mapped, summed, and sent over the loopback. It is what
// a get of verified bytes is compared with (docs/performance.md).
func BenchmarkLargeGet(b *testing.B) {
	const size, piece = 256 << 20, pieceBytes
	path := filepath.Join(b.TempDir(), "values")
	buf := make([]byte, piece)
	for i := range buf {
		buf[i] = byte(i * 7)
	}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for range size / piece {
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	mapped, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_POPULATE)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(mapped) }()
	conn := drained(b)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	sum := func(p []byte) { crc32.Update(0, castagnoli, p) }
	read := func(off int64) []byte {
		if _, err := f.ReadAt(buf, off); err != nil {
			b.Fatal(err)
		}
		return buf
	}
	send := func(p []byte) {
		if _, err := conn.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		run  func(off int64)
	}{
		{"read", func(off int64) { read(off) }},
		{"read+sum", func(off int64) { sum(read(off)) }},
		{"mapped+sum", func(off int64) { sum(mapped[off : off+piece]) }},
		{"send", func(int64) { send(buf) }},
		{"read+sum+send", func(off int64) { p := read(off); sum(p); send(p) }},
		{"mapped+sum+send", func(off int64) { p := mapped[off : off+piece]; sum(p); send(p) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(piece)
			var off int64
			before := cpuTime(b)
			for b.Loop() {
				c.run(off)
				off = (off + piece) % size
			}
			b.ReportMetric((cpuTime(b)-before)/1e3/float64(b.N)*(1<<20)/piece, "cpu-us/MiB")
		})
	}
}

// drained returns a connection over the loopback whose other end throws away what comes.
func drained(b *testing.B) net.Conn {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		peer, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{peer}, make([]byte, 1<<20))
		peer.Close()
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		conn.Close()
		ln.Close()
		<-done
	})
	return conn
}

// cpuTime returns the user and system time of the process, in nanoseconds. It counts both
// ends of a connection.
func cpuTime(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano() + u.Stime.Nano())
}
