package mount

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/sse"
	"golang.org/x/sys/unix"

	"stemma/client"
	"stemma/wal/storefs"
)

// Files and directories are made, written, renamed and removed as POSIX has it, and are objects meanwhile.
func TestPOSIX(t *testing.T) {
	s := serve(t)
	s.put("from/s3.txt", "an object")
	m := s.mount(Options{})
	m.has("from/s3.txt", "an object")
	m.write("a", "hello")
	m.has("a", "hello")
	m.ok(os.Mkdir(m.path("d"), 0o750))
	m.fails(os.Mkdir(m.path("d"), 0o750), syscall.EEXIST)
	m.ok(os.Rename(m.path("a"), m.path("d/b")))
	m.write("d/c", "")
	m.fails(os.Remove(m.path("d")), syscall.ENOTEMPTY)
	if got := m.names("d"); got != "b c" {
		t.Error(got)
	}
	if got, want := s.keys("data"), "d/ d/b d/c from/s3.txt"; got != want {
		t.Errorf("keys %s, want %s", got, want)
	}
	m.ok(os.Rename(m.path("d"), m.path("e")))
	m.ok(os.Mkdir(m.path("f"), 0o700))
	m.ok(syscall.Rename(m.path("e"), m.path("f"))) // an empty directory is replaced
	m.has("f/b", "hello")
	m.fails(syscall.Rename(m.path("f"), m.path("from/s3.txt")), syscall.ENOTDIR)
	m.fails(syscall.Rename(m.path("f/b"), m.path("from")), syscall.EISDIR)
	m.fails(syscall.Rename(m.path("f"), m.path("from")), syscall.ENOTEMPTY)
	m.fails(unix.Renameat2(unix.AT_FDCWD, m.path("f/b"), unix.AT_FDCWD, m.path("f/c"), unix.RENAME_NOREPLACE), syscall.EEXIST)
	m.ok(unix.Renameat2(unix.AT_FDCWD, m.path("f/b"), unix.AT_FDCWD, m.path("f/c"), unix.RENAME_EXCHANGE))
	m.has("f/c", "hello")
	m.has("f/b", "")
	m.ok(unix.Renameat2(unix.AT_FDCWD, m.path("f"), unix.AT_FDCWD, m.path("from"), unix.RENAME_EXCHANGE))
	m.has("from/c", "hello")
	m.has("f/s3.txt", "an object")
	m.ok(os.Remove(m.path("f/s3.txt"))) // the directory stays, though it had no object
	if got := m.names("."); got != "f/ from/" {
		t.Error(got)
	}
	m.ok(os.Remove(m.path("f")))
	m.fails(os.Link(m.path("from/c"), m.path("hard")), syscall.EPERM)
	m.ok(os.Symlink("from/c", m.path("soft")))
	if to, err := os.Readlink(m.path("soft")); err != nil || to != "from/c" {
		t.Error(to, err)
	}
	m.has("soft", "hello")
	m.ok(syscall.Mkfifo(m.path("pipe"), 0o600))
	m.fails(os.WriteFile(m.path(strings.Repeat("n", 256)), nil, 0o600), syscall.ENAMETOOLONG)
	m.fails(os.WriteFile(m.path("bad\xff"), nil, 0o600), syscall.EILSEQ)
	m.fails(os.Mkdir(m.path(".snapshot"), 0o700), syscall.EEXIST)
	m.fails(os.Mkdir(m.path(".stemma-open"), 0o700), syscall.EPERM)
	m.fails(os.Remove(m.path("none")), syscall.ENOENT)
	deep := m.path("from")
	var err error
	for range 10 {
		deep += "/" + strings.Repeat("d", 150)
		if err = os.Mkdir(deep, 0o700); err != nil {
			break
		}
	}
	m.fails(err, syscall.ENAMETOOLONG) // of the key
	m.ok(os.RemoveAll(m.path("from/" + strings.Repeat("d", 150))))
	dir, err := os.Open(m.dir)
	m.ok(err)
	m.ok(dir.Sync())
	m.ok(dir.Close())
	var st syscall.Statfs_t
	if m.ok(syscall.Statfs(m.dir, &st)); st.Bavail == 0 || st.Namelen != 255 {
		t.Errorf("%+v", st)
	}
	m.unmount()
	m.start(s, Options{})
	if got := m.names("."); got != "from/ pipe soft" {
		t.Error(got)
	}
	m.has("soft", "hello")
	if info, err := os.Lstat(m.path("pipe")); err != nil || info.Mode() != os.ModeNamedPipe|0o600 {
		t.Error(info.Mode(), err)
	}
}

// A directory of several pages is listed once each, from the start again too, while it changes; and removed.
func TestLargeDirectory(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{})
	const n = 2500
	var r client.CommitRequest
	for i := range n {
		key := fmt.Sprintf("d/f%04d", i)
		if i%10 == 0 {
			key += "/x"
		}
		r.Operations = append(r.Operations, client.CommitOperation{Op: "put", Key: key})
	}
	_, err := s.Commit(t.Context(), "data", r)
	m.ok(err)
	d, err := os.Open(m.path("d"))
	m.ok(err)
	defer d.Close()
	for range 2 {
		seen := map[string]bool{}
		for {
			entries, err := d.ReadDir(700)
			for _, e := range entries {
				if seen[e.Name()] || e.IsDir() != strings.HasSuffix(e.Name(), "0") {
					t.Fatalf("%s, again: %t", e, seen[e.Name()])
				}
				seen[e.Name()] = true
			}
			if err == io.EOF {
				break
			}
			m.ok(err)
			m.write(fmt.Sprintf("d/other%dx", len(seen)), "")
		}
		if len(seen) < n {
			t.Errorf("%d entries, want %d", len(seen), n)
		}
		if _, err := d.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
	}
	m.ok(os.Rename(m.path("d"), m.path("e")))
	if got := len(strings.Fields(m.names("e"))); got < n {
		t.Error(got)
	}
	m.ok(os.RemoveAll(m.path("e/f0010")))
	_, err = os.Stat(m.path("e/f0010"))
	m.fails(err, syscall.ENOENT)
}

// What is written at any offset, cut, grown, appended and punched is what is read, by this mount and the next one.
func TestBytes(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{})
	f, err := os.OpenFile(m.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
	m.ok(err)
	defer f.Close()
	at := func(off int64, text string) {
		t.Helper()
		if _, err := f.WriteAt([]byte(text), off); err != nil {
			t.Fatal(err)
		}
	}
	at(300_000, "end")
	at(0, "begin")
	at(100_000, "middle")
	m.ok(f.Sync())
	at(100_002, "DD")
	m.ok(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
	m.ok(unix.Fallocate(int(f.Fd()), 0, 300_000, 10_000))
	m.ok(f.Truncate(400_000))
	m.ok(f.Truncate(310_000))
	want := make([]byte, 310_000)
	copy(want[100_000:], "miDDle")
	copy(want[300_000:], "end")
	m.has("f", string(want))
	if info, err := f.Stat(); err != nil || info.Size() != 310_000 {
		t.Error(info, err)
	}
	m.ok(f.Close())
	a, err := os.OpenFile(m.path("f"), os.O_WRONLY|os.O_APPEND, 0)
	m.ok(err)
	_, err = a.WriteString("appended")
	m.ok(err)
	m.ok(a.Close())
	want = append(want, "appended"...)
	m.has("f", string(want))
	m.ok(os.Truncate(m.path("f"), 310_001))
	want = want[:310_001]
	m.unmount()
	m.start(s, Options{})
	m.has("f", string(want))
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/2) // 24 MiB: several commits
	m.ok(os.WriteFile(m.path("big"), big, 0o600))
	m.has("big", string(big))
	m.write("f", "short")
	m.has("f", "short")
}

// Mode, owner, times and attributes are kept, as metadata that S3 clients see, and read what s3fs and rclone write.
func TestAttributes(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{})
	m.write("f", "text")
	when := time.Unix(1_600_000_000, 120_000_000)
	m.ok(os.Chmod(m.path("f"), 0o640))
	m.ok(os.Chown(m.path("f"), 12, 34))
	m.ok(os.Chtimes(m.path("f"), when, when))
	m.ok(unix.Setxattr(m.path("f"), "user.color", []byte("blue"), 0))
	m.fails(unix.Setxattr(m.path("f"), "user.color", []byte("red"), unix.XATTR_CREATE), syscall.EEXIST)
	m.fails(unix.Setxattr(m.path("f"), "user.none", []byte("red"), unix.XATTR_REPLACE), syscall.ENODATA)
	m.fails(unix.Setxattr(m.path("f"), "user.bytes", []byte{0, 1}, 0), syscall.EINVAL)
	m.fails(unix.Setxattr(m.path("f"), "user.mode", []byte("1"), 0), syscall.EOPNOTSUPP)
	m.fails(unix.Setxattr(m.path("f"), "user.long", []byte(strings.Repeat("x", 3000)), 0), syscall.ENOSPC)
	m.ok(unix.Setxattr(m.path("f"), "user.gone", []byte("x"), 0))
	m.ok(unix.Removexattr(m.path("f"), "user.gone"))
	m.ok(os.Mkdir(m.path("d"), 0o700))
	m.ok(os.Chmod(m.path("d"), 0o711))
	m.unmount()
	l, err := s.Look(t.Context(), "data", "", "f", "d/")
	m.ok(err)
	for k, want := range map[string]string{"mode": "33184", "uid": "12", "gid": "34", "mtime": "1600000000.12", "color": "blue", "gone": ""} {
		if got := l.Keys[0].Object.Metadata[k]; got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	if o := l.Keys[0].Object; o.File != "" || o.Size != 4 {
		t.Errorf("%+v", o)
	}
	if got := l.Keys[1].Object.Metadata["mode"]; got != "16841" { // 040711
		t.Error(got)
	}
	put := client.CommitOperation{Op: "put", Key: "rclone", Metadata: map[string]string{"mode": "100600", "mtime": "1600000000.500000000"}}
	_, err = s.Commit(t.Context(), "data", client.CommitRequest{Operations: []client.CommitOperation{put}})
	m.ok(err)
	m.start(s, Options{})
	var st syscall.Stat_t
	m.ok(syscall.Stat(m.path("f"), &st))
	if st.Mode != syscall.S_IFREG|0o640 || st.Uid != 12 || st.Gid != 34 || st.Mtim.Sec != 1_600_000_000 || st.Mtim.Nsec != 120_000_000 {
		t.Errorf("%+v", st)
	}
	m.ok(syscall.Stat(m.path("rclone"), &st))
	if st.Mode != syscall.S_IFREG|0o600 || st.Mtim.Nsec != 500_000_000 {
		t.Errorf("%+v", st)
	}
	p := make([]byte, 1000)
	n, err := unix.Listxattr(m.path("f"), p)
	if m.ok(err); string(p[:n]) != "user.color\x00user.stemma.etag\x00user.stemma.lsn\x00" {
		t.Errorf("%q", p[:n])
	}
	before := time.Now()
	m.write("f", "anew")
	if info, err := os.Stat(m.path("f")); err != nil || info.ModTime().Before(before.Add(-time.Second)) || info.Mode() != 0o640 {
		t.Error(info, err)
	}
}

// What is open works on when it is unlinked or replaced, and goes when it is closed.
func TestOpenUnlinked(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{})
	open := func(name string) *os.File {
		t.Helper()
		m.write(name, "0123456789")
		f, err := os.OpenFile(m.path(name), os.O_RDWR, 0)
		m.ok(err)
		return f
	}
	f, g := open("f"), open("g")
	_, err := f.WriteAt([]byte("wait"), 2)
	m.ok(err)
	m.ok(os.Remove(m.path("f")))
	m.write("h", "new")
	m.ok(os.Rename(m.path("h"), m.path("g")))
	if got := m.names("."); got != "g" {
		t.Error(got)
	}
	for file, want := range map[*os.File]string{f: "01wait6789", g: "0123456789"} {
		p := make([]byte, 20)
		if n, _ := file.ReadAt(p, 0); string(p[:n]) != want {
			t.Errorf("%q, want %q", p[:n], want)
		}
		_, err := file.WriteAt(make([]byte, 200_000), 5)
		m.ok(err)
		m.ok(file.Sync())
		if n, _ := file.ReadAt(p, 0); string(p[:n]) != want[:5]+string(make([]byte, 15)) {
			t.Errorf("%q", p[:n])
		}
		m.ok(file.Close())
	}
	m.has("g", "new")
	for range 100 {
		if s.keys("data") == "g" {
			return
		}
		time.Sleep(20 * time.Millisecond) // the kernel tells of the last close later
	}
	t.Error(s.keys("data"))
}

// What is closed at one mount is read by who opens it then at another one, and by other clients; and the other way round.
func TestCloseToOpen(t *testing.T) {
	s := serve(t)
	a, b := s.mount(Options{TTL: time.Hour}), s.mount(Options{TTL: time.Hour})
	for i, size := range []int{10, 500_000, 500_000, 20, 300_000} {
		text := strings.Repeat(string(rune('a'+i)), size)
		a.write("f", text)
		b.has("f", text)
		g, err := os.OpenFile(b.path("f"), os.O_WRONLY, 0)
		b.ok(err)
		_, err = g.WriteAt([]byte("from b"), 2)
		b.ok(err)
		b.ok(g.Close())
		a.has("f", text[:2]+"from b"+text[8:])
	}
	s.put("f", "from a client")
	a.has("f", "from a client")
	b.has("f", "from a client")
	s.put("g", "appears")
	a.has("g", "appears")
	a.ok(os.Rename(a.path("g"), a.path("h")))
	b.has("h", "appears")
	_, err := os.ReadFile(b.path("g"))
	b.fails(err, syscall.ENOENT)
	a.write("h2", "replaces")
	a.ok(os.Rename(a.path("h2"), a.path("h")))
	b.has("h", "replaces")
	// Exclusive creation is exclusive among mounts.
	made, err := os.OpenFile(b.path("h2"), os.O_CREATE|os.O_EXCL, 0o600)
	b.ok(err)
	b.ok(made.Close())
	_, err = os.OpenFile(a.path("h2"), os.O_CREATE|os.O_EXCL, 0o600)
	a.fails(err, syscall.EEXIST)
	// What one has open and another removes is stale.
	f, err := os.OpenFile(a.path("h"), os.O_RDWR, 0)
	a.ok(err)
	b.ok(os.Remove(b.path("h")))
	_, err = f.Write([]byte("x"))
	a.ok(err)
	a.fails(f.Sync(), syscall.ESTALE)
	_ = f.Close()
}

// The past is mounted read-only, and is in .snapshot.
func TestPast(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{})
	m.ok(os.Mkdir(m.path("d"), 0o755))
	m.write("d/f", "old")
	m.write("d/gone", "")
	snap, err := s.Snapshot(t.Context(), "data", client.NewSnapshot{Name: "first"})
	m.ok(err)
	m.write("d/f", "new")
	m.ok(os.Remove(m.path("d/gone")))
	if got := m.names("."); got != "d/" {
		t.Error(got)
	}
	if got := m.names(".snapshot"); got != "first/" {
		t.Error(got)
	}
	for _, point := range []string{"first", snap.LSN.String(), snap.Time.Format(time.RFC3339Nano)} {
		m.has(".snapshot/"+point+"/d/f", "old")
		if got := m.names(".snapshot/" + point + "/d"); got != "f gone" {
			t.Errorf("%s: %s", point, got)
		}
	}
	m.fails(os.WriteFile(m.path(".snapshot/first/d/f"), nil, 0), syscall.EROFS)
	m.fails(os.Remove(m.path(".snapshot/first/d/f")), syscall.EROFS)
	m.fails(os.Rename(m.path("d/f"), m.path(".snapshot/first/g")), syscall.EROFS)
	_, err = os.Stat(m.path(".snapshot/none"))
	m.fails(err, syscall.ENOENT)
	old, only := s.mount(Options{At: "first"}), s.mount(Options{ReadOnly: true})
	old.has("d/f", "old")
	only.has("d/f", "new")
	for _, ro := range []*mounted{old, only} {
		ro.fails(os.WriteFile(ro.path("x"), nil, 0o600), syscall.EROFS)
		ro.fails(os.Chmod(ro.path("d"), 0o700), syscall.EROFS)
	}
	yes := true
	_, err = s.ChangeBucket(t.Context(), "data", client.BucketChange{ReadOnly: &yes})
	m.ok(err)
	m.fails(os.WriteFile(m.path("x"), nil, 0o600), syscall.EROFS)
	s.mount(Options{}).has("d/f", "new")
}

// A bucket that is restored below a mount is what it was, for who opens its files then.
func TestRestored(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{})
	m.write("f", "old")
	m.write("big", strings.Repeat("old", 100_000))
	snap, err := s.Snapshot(t.Context(), "data", client.NewSnapshot{Name: "first"})
	m.ok(err)
	m.write("f", "newer")
	m.write("big", strings.Repeat("newer", 100_000))
	_, _, err = s.Restore(t.Context(), "data", client.RestoreRequest{At: snap.LSN.String()})
	m.ok(err)
	m.has("f", "old")
	m.has("big", strings.Repeat("old", 100_000))
	m.write("f", "after")
	m.has("f", "after")
}

// Where a bucket keeps versions, what was written in place is renamed and unlinked, too.
func TestVersions(t *testing.T) {
	s := serve(t)
	api, err := minio.New(s.s3, &minio.Options{Creds: credentials.NewStaticV4("demo", "demo-secret", ""), BucketLookup: minio.BucketLookupPath})
	if err != nil {
		t.Fatal(err)
	}
	if err := api.EnableVersioning(t.Context(), "data"); err != nil {
		t.Fatal(err)
	}
	m := s.mount(Options{})
	text := strings.Repeat("0123456789", 50_000)
	m.write("f", text)
	m.write("g", text[1:])
	f, err := os.Open(m.path("f"))
	m.ok(err)
	defer f.Close()
	m.ok(os.Rename(m.path("g"), m.path("f")))
	m.has("f", text[1:])
	p := make([]byte, len(text))
	if n, err := f.ReadAt(p, 0); err != nil || string(p[:n]) != text {
		t.Errorf("what was replaced has %d bytes, %v", n, err)
	}
	g, err := os.Open(m.path("f"))
	m.ok(err)
	defer g.Close()
	m.ok(os.Remove(m.path("f")))
	if got := m.names("."); got != "" {
		t.Error(got)
	}
	if n, _ := g.ReadAt(p, 0); string(p[:n]) != text[1:] {
		t.Errorf("what was unlinked has %d bytes", n)
	}
	// What is open is the same file after renames, also of a directory above it, and is written on by other clients, too.
	m.ok(os.MkdirAll(m.path("d/e"), 0o755))
	m.write("d/e/h", text)
	w, err := os.OpenFile(m.path("d/e/h"), os.O_RDWR, 0)
	m.ok(err)
	defer w.Close()
	m.ok(os.Rename(m.path("d/e"), m.path("d/x")))
	m.ok(os.Rename(m.path("d"), m.path("y")))
	_, err = w.WriteAt([]byte("after"), 100_000)
	m.ok(err)
	m.ok(w.Sync())
	m.ok(os.Rename(m.path("y/x/h"), m.path("k")))
	_, err = s.WritePages(t.Context(), "data", "k", []client.PageOp{{Kind: client.PageWrite, Off: 200_000, Data: []byte("other")}}, client.PagesOptions{})
	m.ok(err)
	time.Sleep(1200 * time.Millisecond) // the kernel believes names for a second
	want := text[:100_000] + "after" + text[100_005:200_000] + "other" + text[200_005:]
	m.has("k", want)
	if n, err := w.ReadAt(p, 0); err != nil || string(p[:n]) != want {
		t.Errorf("what was renamed has %d bytes, %v", n, err)
	}
	_, err = w.WriteAt([]byte("more"), 0)
	m.ok(err)
	m.ok(w.Close())
	m.has("k", "more"+want[4:])
}

// While the server is away requests wait; when it stays away for long they fail, and what was written waits on.
func TestServerAway(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{Patience: 300 * time.Millisecond, WriteBackAfter: time.Hour})
	f, err := os.Create(m.path("f"))
	m.ok(err)
	defer f.Close()
	_, err = f.WriteString("kept")
	m.ok(err)
	s.stop()
	m.fails(f.Sync(), syscall.EIO)
	m.fails(os.Mkdir(m.path("d"), 0o700), syscall.EIO)
	s.start()
	m.ok(f.Sync())
	m.ok(f.Close())
	m.has("f", "kept")
	m.unmount()
	m.start(s, Options{})
	m.has("f", "kept")
	f, err = os.OpenFile(m.path("f"), os.O_WRONLY, 0)
	m.ok(err)
	_, err = f.WriteString("meanwhile")
	m.ok(err)
	s.stop()
	done := make(chan error)
	go func() { done <- f.Sync() }()
	time.Sleep(200 * time.Millisecond)
	s.start()
	m.ok(<-done)
	m.ok(f.Close())
	m.has("f", "meanwhile")
}

// Memory that a file is mapped to is the file.
func TestMapped(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{})
	text := bytes.Repeat([]byte("abcdefghij"), 10_000)
	m.write("f", string(text))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+`={"Map":"`+m.path("f")+`"}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	copy(text[50_000:], "through memory")
	copy(text, "bcdefghijk")
	m.has("f", string(text))
	m.unmount()
	m.start(s, Options{})
	m.has("f", string(text))
}

// encrypt gives the bucket default encryption.
func (s *served) encrypt() {
	s.t.Helper()
	if err := s.s3Client().SetBucketEncryption(s.t.Context(), "data", sse.NewConfigurationSSES3()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *served) s3Client() *minio.Client {
	s.t.Helper()
	api, err := minio.New(s.s3, &minio.Options{Creds: credentials.NewStaticV4("demo", "demo-secret", ""), BucketLookup: minio.BucketLookupPath})
	if err != nil {
		s.t.Fatal(err)
	}
	return api
}

// Where the bucket encrypts, files of all sizes are written as elsewhere; those that were in the clear before become encrypted.
func TestEncrypted(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{})
	sizes := map[string]int{"small": 100, "medium": 3 << 20, "large": 20 << 20}
	for name, size := range sizes {
		m.write("old "+name, strings.Repeat("0123456789", size/10))
	}
	s.encrypt()
	for name, size := range sizes {
		text := strings.Repeat("0123456789", size/10)
		m.write(name, text)
		for _, name := range []string{name, "old " + name} {
			m.has(name, text)
			f, err := os.OpenFile(m.path(name), os.O_WRONLY, 0)
			m.ok(err)
			_, err = f.WriteAt([]byte("within"), 50)
			m.ok(err)
			m.ok(f.Sync())
			_, err = f.WriteAt([]byte("again"), 60)
			m.ok(err)
			m.ok(f.Close())
			m.has(name, text[:50]+"within"+text[56:60]+"again"+text[65:])
			m.ok(os.Chmod(m.path(name), 0o600))
		}
	}
	m.ok(os.Truncate(m.path("small"), 20<<20))
	m.ok(os.Rename(m.path("large"), m.path("moved")))
	m.unmount()
	m.start(s, Options{})
	for name, size := range sizes {
		text := strings.Repeat("0123456789", size/10)
		text = text[:50] + "within" + text[56:60] + "again" + text[65:]
		m.has("old "+name, text)
		switch name {
		case "small":
			text += strings.Repeat("\x00", 20<<20-len(text))
		case "large":
			name = "moved"
		}
		m.has(name, text)
	}
	for _, key := range []string{"small", "medium", "moved", "old small", "old medium", "old large"} {
		o, err := s.s3Client().StatObject(t.Context(), "data", key, minio.StatObjectOptions{})
		if err != nil || o.Metadata.Get("X-Amz-Server-Side-Encryption") != "AES256" {
			t.Errorf("%s: %v, %v", key, o.Metadata, err)
		}
	}
}

// Of two who change one file at a time each keeps what it wrote, where the file is small, too.
func TestBothWrite(t *testing.T) {
	s := serve(t)
	a, b := s.mount(Options{}), s.mount(Options{})
	for _, size := range []int{1000, 300_000} {
		text := strings.Repeat("x", size)
		a.write("f", text)
		f, err := os.OpenFile(a.path("f"), os.O_RDWR, 0)
		a.ok(err)
		g, err := os.OpenFile(b.path("f"), os.O_RDWR, 0)
		b.ok(err)
		_, err = f.WriteAt([]byte("from a"), 10)
		a.ok(err)
		_, err = g.WriteAt([]byte("from b"), 500)
		b.ok(err)
		a.ok(f.Close())
		b.ok(g.Close())
		want := text[:10] + "from a" + text[16:500] + "from b" + text[506:]
		a.has("f", want)
		b.has("f", want)
	}
}

// What is written in a mount of a fork is merged into its parent, files of every size, and read there by S3; what is changed in
// them after that is merged again, and the other way.
func TestMergeOfMount(t *testing.T) {
	s := serve(t)
	api, err := minio.New(s.s3, &minio.Options{Creds: credentials.NewStaticV4("demo", "demo-secret", ""), BucketLookup: minio.BucketLookupPath})
	if err != nil {
		t.Fatal(err)
	}
	parent := s.mount(Options{})
	text := strings.Repeat("0123456789", 60_000)
	parent.write("db", text)
	_, err = s.Fork(t.Context(), "data", client.ForkRequest{Names: []string{"dev"}})
	if err != nil {
		t.Fatal(err)
	}
	m := s.mount(Options{Bucket: "dev"})
	want := map[string]string{"db": text[:300_000] + "changed" + text[300_007:], "new/large": text[1:], "new/small": "small"}
	change := func(m *mounted, name, what string, at int64) {
		t.Helper()
		f, err := os.OpenFile(m.path(name), os.O_RDWR, 0)
		m.ok(err)
		_, err = f.WriteAt([]byte(what), at)
		m.ok(err)
		m.ok(f.Close())
	}
	change(m, "db", "changed", 300_000)
	m.ok(os.Mkdir(m.path("new"), 0o755))
	m.write("new/large", want["new/large"])
	m.write("new/small", want["new/small"])
	merge := func() {
		t.Helper()
		rep, err := s.Merge(t.Context(), "data", client.MergeRequest{Source: "dev"})
		if err != nil || !rep.Committed || rep.Conflicts != 0 {
			t.Fatalf("%+v, %v", rep, err)
		}
		for key, body := range want {
			o, err := api.GetObject(t.Context(), "data", key, minio.GetObjectOptions{})
			m.ok(err)
			got, err := io.ReadAll(o)
			if err != nil || string(got) != body {
				t.Errorf("%s has %d bytes, %v", key, len(got), err)
			}
		}
	}
	merge()
	change(m, "new/large", "again", 500_000)
	want["new/large"] = text[1:500_001] + "again" + text[500_006:]
	merge()
	time.Sleep(1200 * time.Millisecond) // the kernel believes names for a second
	for name, body := range want {
		parent.has(name, body)
	}
}

// A file that is read from its beginning to its end is asked for by the MiB, where the mount may have the kernel do that.
func TestReadAhead(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{})
	var dir unix.Stat_t
	m.ok(unix.Stat(m.dir, &dir))
	knob := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(dir.Dev), unix.Minor(dir.Dev))
	if err := unix.Access(knob, unix.W_OK); err != nil {
		t.Skip(knob, ": ", err)
	}
	const size = 16 << 20
	m.write("f", strings.Repeat("x", size))
	m.unmount()
	m.start(s, Options{})
	if p, err := os.ReadFile(m.path("f")); err != nil || len(p) != size {
		t.Errorf("%d bytes, %v", len(p), err)
	}
	m.unmount()
	if n := m.requests(); n > size/(1<<20)+16 {
		t.Errorf("%d requests", n)
	}
}

// statfs shows the disk, or the quota of the bucket and what is left of it.
func TestStatfs(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{TTL: time.Millisecond})
	shows := func(bytes, free, freeFiles uint64) {
		t.Helper()
		time.Sleep(5 * time.Millisecond)
		var st unix.Statfs_t
		m.ok(unix.Statfs(m.dir, &st))
		if size := uint64(st.Bsize); st.Blocks*size != bytes || st.Bfree*size != free || st.Bavail*size != free || st.Ffree != freeFiles {
			t.Errorf("%d bytes, %d free, %d files free, want %d, %d, %d", st.Blocks*size, st.Bfree*size, st.Ffree, bytes, free, freeFiles)
		}
	}
	shows(1<<50, 1<<50, 1<<30) // memory does not say
	s.options.FS.(*storefs.MemFS).TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 3 << 20, TotalBytes: 8 << 20, UsedBytes: 5 << 20})
	shows(8<<20, 3<<20, 1<<30)
	bytes, objects := int64(1<<20), int64(10)
	if _, err := s.ChangeBucket(t.Context(), "data", client.BucketChange{QuotaBytes: &bytes, QuotaObjects: &objects}); err != nil {
		t.Fatal(err)
	}
	shows(1<<20, 1<<20, 10)
	m.write("f", strings.Repeat("x", 960<<10))
	shows(1<<20, 64<<10, 9)
	for name, size := range map[string]int{"large": 1 << 20, "small": 100 << 10} { // of which one is not even made
		m.fails(os.WriteFile(m.path(name), make([]byte, size), 0o600), syscall.EDQUOT)
		if got := m.names(""); !strings.HasPrefix(got, "f") {
			t.Error(got)
		}
		m.ok(os.Remove(m.path(name)))
	}
	bytes = 16 << 10 // less than there is
	if _, err := s.ChangeBucket(t.Context(), "data", client.BucketChange{QuotaBytes: &bytes}); err != nil {
		t.Fatal(err)
	}
	shows(16<<10, 0, 9)
}
