package main

import (
	"bufio"
	"bytes"
	wire "encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"stemma/client"
	"stemma/internal/seeds"
)

// Shape of TestCrashNBD.
const (
	diskRegions     = 3
	diskRegionBytes = 96 << 10
	diskBytes       = diskRegions * diskRegionBytes
	diskInFlight    = 16
)

// TestCrashNBD writes, trims, flushes and reads a device at random, over one connection or several that have requests under way, and
// kills it, the server, or both, with SIGKILL. Each connection has a region of its own, so its requests are a sequence. Wherever the
// object is looked at - after the crash, in the past, in a fork that was made meanwhile - each region is as some beginning of its sequence
// left it, which has all that was flushed, and no region has what began after something ended that another one lacks. While only the
// server dies, nothing is lost. STEMMA_CRASH_ROUNDS is the number of kills.
func TestCrashNBD(t *testing.T) {
	rounds := uint64(6)
	envUint(t, "STEMMA_CRASH_ROUNDS", &rounds)
	if testing.Short() {
		rounds = min(rounds, 4)
	}
	d := &diskTest{t: t, rng: rand.New(rand.NewPCG(seeds.For(t), 0)), dir: t.TempDir(), bucket: "disk", socket: filepath.Join(t.TempDir(), "s")}
	d.serve()
	if _, err := d.api.CreateBucket(t.Context(), client.NewBucket{Name: d.bucket}); err != nil {
		t.Fatal(err)
	}
	d.attach()
	state := make([]byte, diskBytes)
	for round := range rounds {
		state = d.round(int(round), state)
		if t.Failed() {
			return
		}
	}
	d.p.stop(t)
}

// diskTest is a server and a device.
type diskTest struct {
	t      *testing.T
	rng    *rand.Rand
	dir    string
	args   []string // of the server, from its second start on
	p      *process
	api    *client.Client
	bucket string
	socket string
	nbd    *exec.Cmd
}

// serve starts the server, at the address that it had.
func (d *diskTest) serve() {
	d.t.Helper()
	d.p = start(d.t, d.dir, d.args...)
	d.args = []string{"--admin-listen", strings.TrimPrefix(d.p.admin, "http://")}
	var err error
	if d.api, err = client.New(client.Options{Endpoint: d.p.admin, AccessKey: testAccess, SecretKey: testSecret}); err != nil {
		d.t.Fatal(err)
	}
}

// attach starts the device.
func (d *diskTest) attach() {
	d.t.Helper()
	d.nbd = startNBD(d.t, d.p, d.socket, "--bucket", d.bucket, "--key", "disk.img", "--size", fmt.Sprint(diskBytes))
}

// startNBD starts stemma nbd at a socket, and waits until it serves. It is killed at the end of the test if it runs then.
func startNBD(t *testing.T, p *process, socket string, args ...string) *exec.Cmd {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) { // of one that was killed
		t.Fatal(err)
	}
	cmd := exec.Command(bin, append([]string{"nbd", "--listen", "unix:" + socket}, args...)...)
	cmd.Env = environment("STEMMA_ADMIN_ENDPOINT="+p.admin, "STEMMA_ROOT_ACCESS_KEY="+testAccess, "STEMMA_ROOT_SECRET_KEY="+testSecret)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("stemma nbd says %q, %v", line, err)
	}
	return cmd
}

// end sends the device a signal and waits until it is gone.
func (d *diskTest) end(s syscall.Signal) {
	d.t.Helper()
	if err := d.nbd.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
	if err := d.nbd.Wait(); s == syscall.SIGTERM && err != nil {
		d.t.Error(err)
	}
}

// tip returns the newest LSN of the bucket.
func (d *diskTest) tip() client.LSN {
	d.t.Helper()
	l, err := d.api.Objects(d.t.Context(), d.bucket, client.ObjectListOptions{Limit: 1})
	if err != nil {
		d.t.Fatal(err)
	}
	return l.LSN
}

// image reads the object of a bucket as of an LSN.
func (d *diskTest) image(bucket string, at client.LSN) []byte {
	d.t.Helper()
	p, err := d.api.ReadRange(d.t.Context(), bucket, "disk.img", at, 0, diskBytes)
	if err != nil || len(p) != diskBytes {
		d.t.Fatalf("%d bytes, %v", len(p), err)
	}
	return p
}

// round loads the device, forks its bucket, has something die, and looks at everything. It returns what the device has then.
func (d *diskTest) round(round int, state []byte) []byte {
	t, rng := d.t, d.rng
	conns := 1 + rng.IntN(diskRegions)
	l := newDiskLoad(state, conns, rng.Uint64(), uint64(round))
	first := d.tip()
	for _, r := range l.regions {
		c := dialNBD(t, &net.UnixAddr{Net: "unix", Name: d.socket})
		l.work.Go(func() { l.run(t, c.conn, r) })
	}
	time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
	fork := fmt.Sprintf("fork-%d", round)
	forkAtLeast := l.flushed()
	if _, err := d.api.Fork(t.Context(), d.bucket, client.ForkRequest{Names: []string{fork}}); err != nil {
		t.Fatal(err)
	}
	forkAtMost := l.sent()
	time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)

	what := []string{"device", "server", "both", "nothing"}[round%4]
	atLeast := func() []int { return l.flushed() }
	switch what {
	case "device":
		d.end(syscall.SIGKILL)
	case "server":
		d.p.kill()
		d.serve()
		time.Sleep(50 * time.Millisecond)
		l.finish()
		atLeast = l.sent
	case "both":
		d.p.kill()
		time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond) // the device tries again meanwhile
		d.end(syscall.SIGKILL)
		d.serve()
	case "nothing":
		l.finish()
		d.end(syscall.SIGTERM)
		atLeast = l.sent
	}
	l.work.Wait()
	if what != "server" {
		d.attach()
	}
	c := dialNBD(t, &net.UnixAddr{Net: "unix", Name: d.socket})
	got := make([]byte, diskBytes)
	if code := c.do(nbdCmdRead, 0, 0, diskBytes, nil, got); code != 0 {
		t.Fatalf("error %d", code)
	}
	if code := c.do(nbdCmdFlush, 0, 0, 0, nil, nil); code != 0 {
		t.Fatalf("error %d", code)
	}
	c.conn.Close()
	if !bytes.Equal(got, d.image(d.bucket, 0)) {
		t.Error("the object is not what the device reads")
	}
	found, err := l.check(got, atLeast(), l.sent())
	if err != nil {
		t.Errorf("round %d, after the end of %s: %v", round, what, err)
	}
	t.Logf("round %d: %s ends; %d connections; sent %v, flushed %v, found %v, %d reads", round, what, conns, l.sent(), l.flushed(), found, l.reads.Load())
	if _, err := l.check(d.image(fork, 0), forkAtLeast, forkAtMost); err != nil {
		t.Errorf("round %d: a fork, made while %v to %v were written: %v", round, forkAtLeast, forkAtMost, err)
	}
	past := make([]int, conns)
	last := d.tip()
	for i := range 8 {
		at := first + (last-first)*client.LSN(i)/8
		if past, err = l.check(d.image(d.bucket, at), past, l.sent()); err != nil {
			t.Errorf("round %d: at LSN %d: %v", round, at, err)
			break
		}
	}
	if rng.IntN(2) == 0 { // go on with the fork
		d.end(syscall.SIGTERM)
		d.bucket = fork
		got = d.image(fork, 0)
		d.attach()
	}
	return got
}

// diskOp is a request that changes something.
type diskOp struct {
	kind        uint16
	off, n      int
	data        []byte
	sent, acked uint64 // when, by diskLoad.clock; zero: never
}

// apply makes the change to a region.
func (o *diskOp) apply(p []byte) {
	if o.kind == nbdCmdWrite {
		copy(p[o.off:], o.data)
	} else {
		clear(p[o.off : o.off+o.n])
	}
}

// diskRegion is the part of the device that one connection uses. The mutex of its load guards it.
type diskRegion struct {
	off   int    // of the device
	base  []byte // what it had before
	now   []byte // after all of ops
	ops   []diskOp
	acked int // behind the newest of ops that is acknowledged
	least int // of ops that are durable
	rng   *rand.Rand
}

// diskLoad is what connections do at once.
type diskLoad struct {
	regions []*diskRegion
	work    sync.WaitGroup
	reads   atomic.Int64
	ending  atomic.Bool
	stamp   atomic.Uint64

	mu    sync.Mutex
	clock uint64
}

func newDiskLoad(state []byte, conns int, seed, round uint64) *diskLoad {
	l := &diskLoad{}
	l.stamp.Store(round << 32)
	for i := range conns {
		p := state[i*diskRegionBytes : (i+1)*diskRegionBytes]
		l.regions = append(l.regions, &diskRegion{
			off: i * diskRegionBytes, base: bytes.Clone(p), now: bytes.Clone(p), rng: rand.New(rand.NewPCG(seed, uint64(i))),
		})
	}
	return l
}

// finish lets what is under way end, and begins no more.
func (l *diskLoad) finish() {
	l.ending.Store(true)
	l.work.Wait()
}

// each returns a number of each region.
func (l *diskLoad) each(number func(r *diskRegion) int) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]int, len(l.regions))
	for i, r := range l.regions {
		all[i] = number(r)
	}
	return all
}

func (l *diskLoad) flushed() []int { return l.each(func(r *diskRegion) int { return r.least }) }
func (l *diskLoad) sent() []int    { return l.each(func(r *diskRegion) int { return len(r.ops) }) }
func (l *diskLoad) acked() []int   { return l.each(func(r *diskRegion) int { return r.acked }) }

// request is what is under way on a connection.
type request struct {
	op           int   // of the region's changes, with kind write, trim or zeroes
	promised     []int // what is durable when it is answered; nil: nothing new
	read         bool
	from, off, n int // of a read: it must have so many changes at least
}

// run makes requests of one connection until it breaks, or finish is called.
func (l *diskLoad) run(t *testing.T, conn net.Conn, r *diskRegion) {
	defer conn.Close()
	under := make(chan *request, diskInFlight) // as many as may be under way
	var mu sync.Mutex
	asked := make(map[uint64]*request)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			var h struct {
				Magic, Code uint32
				Cookie      uint64
			}
			if wire.Read(conn, wire.BigEndian, &h) != nil {
				return
			}
			mu.Lock()
			q := asked[h.Cookie]
			delete(asked, h.Cookie)
			mu.Unlock()
			if q == nil || h.Code != 0 {
				t.Errorf("answer %+v", h)
				return
			}
			var data []byte
			if q.read {
				if data = make([]byte, q.n); readAll(conn, data) != nil {
					return
				}
			}
			if err := l.answered(r, q, data); err != nil {
				t.Error(err)
			}
			<-under
		}
	}()
	send := func(kind, flags uint16, off, n int, data []byte, q *request) bool {
		select {
		case under <- q:
		case <-ended:
			return false
		}
		mu.Lock()
		cookie := r.rng.Uint64()
		asked[cookie] = q
		mu.Unlock()
		head, err := wire.Append(nil, wire.BigEndian, struct {
			Magic       uint32
			Flags, Kind uint16
			Cookie, Off uint64
			Len         uint32
		}{nbdRequest, flags, kind, cookie, uint64(r.off + off), uint32(n)})
		if err != nil {
			panic(err)
		}
		_, err = conn.Write(append(head, data...))
		return err == nil
	}
	for !l.ending.Load() && l.one(r, send) {
	}
	for range diskInFlight { // waits for what is under way
		select {
		case under <- nil:
		case <-ended:
			return
		}
	}
	conn.Close()
	<-ended
}

func readAll(conn net.Conn, p []byte) error {
	_, err := io.ReadFull(conn, p)
	return err
}

// one makes one request, or a few.
func (l *diskLoad) one(r *diskRegion, send func(kind, flags uint16, off, n int, data []byte, q *request) bool) bool {
	change := func(kind, flags uint16, off int, data []byte, n int) bool {
		q := &request{}
		if flags&nbdFUA != 0 {
			q.promised = l.acked()
		}
		l.mu.Lock()
		l.clock++
		op := diskOp{kind: kind, off: off, n: n, data: data, sent: l.clock}
		op.apply(r.now)
		q.op = len(r.ops)
		r.ops = append(r.ops, op)
		l.mu.Unlock()
		return send(kind, flags, off, n, data, q)
	}
	write := func(off, n int, flags uint16) bool {
		stamp := rand.New(rand.NewPCG(l.stamp.Add(1), 7))
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(1 + stamp.Uint64N(255))
		}
		return change(nbdCmdWrite, flags, off, data, n)
	}
	// The first bytes of the region are written only, so that no two states of it are alike.
	const marked = 8
	off := marked + r.rng.IntN(diskRegionBytes-marked)
	n := 1 + r.rng.IntN(20_000)
	if r.rng.IntN(2) == 0 {
		off, n = max(off&^4095, marked), 4096*(1+r.rng.IntN(3))
	}
	n = min(n, diskRegionBytes-off)
	var fua uint16
	if r.rng.IntN(20) == 0 {
		fua = nbdFUA
	}
	switch k := r.rng.IntN(20); {
	case k < 10:
		return write(off, n, fua)
	case k < 14: // a trim changes something, and is between two writes
		if r.now[off] == 0 {
			return true
		}
		kind := uint16(nbdCmdTrim)
		if k%2 == 0 {
			kind = nbdCmdZeroes
		}
		return write(0, marked, 0) && change(kind, fua, off, nil, n) && write(0, marked, 0)
	case k < 15:
		return send(nbdCmdFlush, 0, -r.off, 0, nil, &request{op: -1, promised: l.acked()})
	default:
		l.mu.Lock()
		q := &request{op: -1, read: true, from: r.acked, off: off, n: n}
		l.mu.Unlock()
		return send(nbdCmdRead, 0, off, n, nil, q)
	}
}

// answered takes note of an answer. The error says what a read should have found.
func (l *diskLoad) answered(r *diskRegion, q *request, data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	if q.op >= 0 {
		r.ops[q.op].acked = l.clock
		r.acked = max(r.acked, q.op+1)
	}
	for i, n := range q.promised {
		l.regions[i].least = max(l.regions[i].least, n)
	}
	if q.promised != nil && q.op >= 0 { // FUA
		r.least = max(r.least, q.op+1)
	}
	if !q.read {
		return nil
	}
	l.reads.Add(1)
	for p, k := bytes.Clone(r.base), 0; ; k++ {
		if k >= q.from && bytes.Equal(p[q.off:q.off+q.n], data) {
			return nil
		} else if k == len(r.ops) {
			return fmt.Errorf("read of %d bytes at %d: not as %d to %d changes left them", q.n, r.off+q.off, q.from, k)
		}
		r.ops[k].apply(p)
	}
}

// check returns how many changes of each region an image has. The error says that it is not as one moment left the device, or that there
// are less or more than there must be.
func (l *diskLoad) check(image []byte, atLeast, atMost []int) ([]int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := make([]int, len(l.regions))
	var began uint64             // when the newest change was sent that is there
	var lacks uint64 = 1<<64 - 1 // when the first change was acknowledged that is not
	for i, r := range l.regions {
		got := image[r.off : r.off+diskRegionBytes]
		p, k := bytes.Clone(r.base), 0
		for ; !bytes.Equal(p, got); k++ {
			if k == len(r.ops) {
				return nil, fmt.Errorf("region %d is as no beginning of its %d changes left it", i, k)
			}
			r.ops[k].apply(p)
		}
		if k < atLeast[i] || k > atMost[i] {
			return nil, fmt.Errorf("region %d has %d changes, want %d to %d", i, k, atLeast[i], atMost[i])
		}
		if found[i] = k; k > 0 {
			began = max(began, r.ops[k-1].sent)
		}
		for _, o := range r.ops[k:] {
			if o.acked != 0 {
				lacks = min(lacks, o.acked)
			}
		}
	}
	if lacks < began {
		return nil, fmt.Errorf("of %v changes one is missing that had ended before another began", found)
	}
	return found, nil
}

// The checks of TestCrashNBD find a lost change, one that was flushed, and one that overtook another.
func TestCrashNBDFindsLoss(t *testing.T) {
	l := newDiskLoad(make([]byte, diskBytes), 2, 1, 0)
	now := bytes.Repeat([]byte{0}, diskBytes)
	var states [][]byte
	for range 6 {
		states = append(states, bytes.Clone(now))
		for _, r := range l.regions {
			send := func(kind, _ uint16, off, n int, data []byte, q *request) bool {
				if q.op < 0 {
					return true
				}
				(&diskOp{kind: kind, off: r.off + off, n: n, data: data}).apply(now)
				if err := l.answered(r, q, nil); err != nil {
					t.Error(err)
				}
				return true
			}
			for before := len(r.ops); len(r.ops) == before; {
				l.one(r, send)
			}
		}
	}
	none, all := []int{0, 0}, l.sent()
	if found, err := l.check(now, all, all); err != nil {
		t.Errorf("%v, %v", found, err)
	}
	if found, err := l.check(states[3], none, all); err != nil {
		t.Errorf("%v, %v", found, err)
	}
	if _, err := l.check(states[3], all, all); err == nil {
		t.Error("a flushed change was lost, and not missed")
	}
	torn := bytes.Clone(states[5])
	copy(torn[:diskRegionBytes], states[2])
	if found, err := l.check(torn, none, all); err == nil {
		t.Errorf("the second region is newer than the first, and that is fine: %v", found)
	}
	l.regions[0].ops = l.regions[0].ops[1:]
	if found, err := l.check(now, none, all); err == nil {
		t.Errorf("a change is there that was never made: %v", found)
	}
}
