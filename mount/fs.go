package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"stemma/client"
)

// Options say what to mount and how. Zero values take the defaults named.
type Options struct {
	Bucket string
	// At is a point in time, which is mounted read-only; empty: the tip.
	At       string
	ReadOnly bool
	// AllowOther lets other users in than who mounts.
	AllowOther bool
	// TTL is for how long names and attributes are believed without asking. Default a second.
	TTL time.Duration
	// MaxDirtyBytes bounds what waits to be written back. Default 32 MiB.
	MaxDirtyBytes int64
	// WriteBackAfter is for how long at most changes wait. Default 5 s.
	WriteBackAfter time.Duration
	// Patience is for how long a request is repeated while the server is overloaded or away. Default 30 s.
	Patience time.Duration
	// Log defaults to slog.Default().
	Log *slog.Logger
	// FuseOptions are further options of the mount.
	FuseOptions []string
}

func (o *Options) fill() {
	or := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	or(&o.TTL, time.Second)
	or(&o.WriteBackAfter, 5*time.Second)
	or(&o.Patience, 30*time.Second)
	if o.MaxDirtyBytes <= 0 {
		o.MaxDirtyBytes = 32 << 20
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
}

// FS is a mounted bucket. Safe for concurrent use.
type FS struct {
	c      *client.Client
	o      Options
	root   *node
	server *fuse.Server
	// hidden is the prefix of what was unlinked while it was open.
	hidden      string
	hiddenCount atomic.Uint64
	inodes      atomic.Uint64
	uid, gid    uint32
	started     time.Time

	ctx    context.Context // of requests; ends after the last write back
	cancel context.CancelFunc
	worker sync.WaitGroup
	stop   chan struct{} // ends the worker

	requests, commits, written atomic.Int64
	room                       room

	// tree orders who uses keys (shared) and who renames.
	tree sync.RWMutex

	mu struct {
		sync.Mutex
		dirty map[*node]time.Time // since when
		bytes int64               // that wait in all of them
	}
}

// Stats count what a mount did.
type Stats struct {
	Requests, Commits, BytesWritten int64
	DirtyBytes                      int64
}

// Stats returns the counts so far.
func (m *FS) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Stats{Requests: m.requests.Load(), Commits: m.commits.Load(), BytesWritten: m.written.Load(), DirtyBytes: m.mu.bytes}
}

// Mount mounts a bucket at dir, which exists, and serves it until Unmount, or until it is unmounted from outside; Wait
// waits for that. Errors: those of the server, and what the kernel says.
func Mount(ctx context.Context, c *client.Client, dir string, o Options) (*FS, error) {
	o.fill()
	if info, err := os.Stat(dir); err != nil { // the kernel would mount on a file, too
		return nil, fmt.Errorf("mount: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("mount %s: %w", dir, syscall.ENOTDIR)
	}
	m := &FS{c: c, o: o, stop: make(chan struct{}), uid: uint32(os.Getuid()), gid: uint32(os.Getgid()), started: time.Now()}
	m.mu.dirty = make(map[*node]time.Time)
	m.ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	m.hidden = hiddenPrefix()
	at, err := m.resolve(ctx)
	if err != nil {
		m.cancel()
		return nil, err
	}
	m.root = &node{m: m, dir: true, at: at}
	options := &fs.Options{
		EntryTimeout: &m.o.TTL, AttrTimeout: &m.o.TTL, NullPermissions: true,
		MountOptions: fuse.MountOptions{
			FsName: o.Bucket, Name: "stemma", DirectMount: true, AllowOther: o.AllowOther, MaxWrite: 1 << 20, MaxReadAhead: readAheadBytes,
			IgnoreSecurityLabels: true, ExplicitDataCacheControl: true, EnableSymlinkCaching: true,
			Options: append([]string{"default_permissions"}, o.FuseOptions...),
		},
	}
	if m.frozen() {
		options.DirectMountFlags = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_RDONLY
	} else if err := m.clean(); err != nil {
		m.o.Log.Warn("what was unlinked while it was open stays", "err", err)
	}
	if m.server, err = fs.Mount(dir, m.root, options); err != nil {
		m.cancel()
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	if err := readAhead(dir); err != nil {
		m.o.Log.Debug("files are read ahead as far as the kernel does by itself", "err", err)
	}
	m.worker.Go(m.writeBackOld)
	return m, nil
}

// readAheadBytes is how far ahead of who reads a file from its beginning to its end the kernel asks for it.
const readAheadBytes = 1 << 20

// readAhead has the kernel read ahead. It does by itself what a disk needs, an eighth of that; only root may change it.
func readAhead(dir string) error {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return err
	}
	name := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(s.Dev), unix.Minor(s.Dev))
	return os.WriteFile(name, []byte(strconv.Itoa(readAheadBytes>>10)), 0)
}

// frozen reports whether nothing can be written.
func (m *FS) frozen() bool { return m.o.ReadOnly || m.root.at != 0 }

// resolve finds the bucket, and the LSN that is to be mounted.
func (m *FS) resolve(ctx context.Context) (client.LSN, error) {
	b, err := m.c.Bucket(ctx, m.o.Bucket)
	if err != nil {
		return 0, err
	}
	m.o.ReadOnly = m.o.ReadOnly || b.ReadOnly
	if m.o.At == "" {
		return 0, nil
	}
	return m.lsnOf(ctx, m.o.At)
}

// lsnOf returns the LSN of a point in time.
func (m *FS) lsnOf(ctx context.Context, point string) (client.LSN, error) {
	l, err := m.c.Objects(ctx, m.o.Bucket, client.ObjectListOptions{At: point, Limit: 1})
	if err != nil {
		return 0, err
	}
	return l.LSN, nil
}

// WriteBack writes back all that waits. The error is of those that could not be.
func (m *FS) WriteBack() error {
	var all []error
	for _, n := range m.dirtySince(time.Now()) {
		if err := n.flush(); err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// Unmount writes everything back and unmounts. While files are open it is syscall.EBUSY; with lazy the directory is gone at
// once, and what is open works on until it is closed: Wait tells.
func (m *FS) Unmount(dir string, lazy bool) error {
	if err := m.WriteBack(); err != nil {
		m.o.Log.Error("changes could not be written back", "err", err)
	}
	if lazy {
		err := syscall.Unmount(dir, syscall.MNT_DETACH)
		if err == syscall.EPERM {
			err = exec.Command("fusermount3", "-u", "-z", dir).Run()
		}
		return err
	}
	err := syscall.Unmount(dir, 0)
	for wait := time.Millisecond; err == syscall.EBUSY && wait < 200*time.Millisecond; wait *= 2 { // files that were closed just now
		time.Sleep(wait)
		err = syscall.Unmount(dir, 0)
	}
	if err == syscall.EPERM {
		return m.server.Unmount() // by fusermount
	}
	return err
}

// Wait waits until nothing is mounted any more, and writes back what was left. Call it once.
func (m *FS) Wait() error {
	m.server.Wait()
	close(m.stop)
	m.worker.Wait()
	err := m.WriteBack()
	m.cancel()
	return err
}

// writeBackOld writes back what has waited for long. It is the mount's one goroutine.
func (m *FS) writeBackOld() {
	tick := time.NewTicker(max(m.o.WriteBackAfter/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			return
		case now := <-tick.C:
			for _, n := range m.dirtySince(now.Add(-m.o.WriteBackAfter)) {
				if err := n.flush(); err != nil {
					m.o.Log.Warn("changes could not be written back, and wait on", "err", err)
				}
			}
		}
	}
}

// dirtySince returns the nodes that have changes from before a time.
func (m *FS) dirtySince(t time.Time) (nodes []*node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, since := range m.mu.dirty {
		if !since.After(t) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// hiddenDir is where objects are that were unlinked while they were open. No listing of a mount shows it.
const hiddenDir = ".stemma-open"

// hiddenPrefix is one of this process.
func hiddenPrefix() string {
	host, err := os.Hostname()
	if err != nil || host == "" || strings.ContainsAny(host, "/") {
		host = "localhost"
	}
	if ns, err := os.Readlink("/proc/self/ns/pid"); err == nil { // containers of one host have processes of their own
		host += "-" + strings.Trim(ns, "pid:[]")
	}
	return fmt.Sprintf("%s/%s/%d/%x/", hiddenDir, host, os.Getpid(), time.Now().UnixNano())
}

// clean removes what mounts of this host left that were killed.
func (m *FS) clean() error {
	parts := strings.Split(m.hidden, "/")
	mine := parts[0] + "/" + parts[1] + "/"
	l, err := m.c.Objects(m.ctx, m.o.Bucket, client.ObjectListOptions{Prefix: mine, Delimiter: "/"})
	if err != nil {
		return err
	}
	for _, p := range l.Prefixes {
		var pid int
		if _, err := fmt.Sscanf(p[len(mine):], "%d/", &pid); err != nil || pid == os.Getpid() || syscall.Kill(pid, 0) != syscall.ESRCH {
			continue
		}
		if _, err := m.c.Commit(m.ctx, m.o.Bucket, client.CommitRequest{Operations: []client.CommitOperation{{Op: "delete-prefix", Key: p}}}); err != nil {
			return err
		}
	}
	return nil
}
