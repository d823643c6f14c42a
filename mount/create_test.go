package mount

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"stemma/client"
)

// commits returns how many commits made a key what it is.
func (s *served) commits(key string) int {
	s.t.Helper()
	h, err := s.History(s.t.Context(), "data", key, "", 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return len(h.Entries)
}

// A small new file is one commit, at its close, unless it is made exclusively. Until then its mount knows it like any other, and has it
// made before its key counts.
func TestNewFiles(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{WriteBackAfter: time.Hour, TTL: time.Millisecond})
	other := s.mount(Options{TTL: time.Millisecond})
	create := func(name string, flags int) *os.File {
		t.Helper()
		f, err := os.OpenFile(m.path(name), os.O_CREATE|os.O_RDWR|flags, 0o640)
		m.ok(err)
		return f
	}
	say := func(f *os.File, text string) {
		t.Helper()
		_, err := f.WriteString(text)
		m.ok(err)
	}
	there := func(name string, want bool) {
		t.Helper()
		if _, err := os.Stat(other.path(name)); (err == nil) != want {
			t.Errorf("another mount on %s: %v", name, err)
		}
	}
	m.ok(os.Mkdir(m.path("d"), 0o755)) // files may be made at the root, as is known from now on
	m.write("d/first", "")

	f := create("d/waits", os.O_TRUNC)
	say(f, "text")
	there("d/waits", false)
	if i, err := os.Stat(m.path("d/waits")); err != nil || i.Size() != 4 || i.Mode().Perm() != 0o640 {
		t.Errorf("%+v, %v", i, err)
	}
	m.has("d/waits", "text")
	m.ok(f.Chmod(0o600))
	m.ok(f.Close())
	there("d/waits", true)
	other.has("d/waits", "text")
	if n := s.commits("d/waits"); n != 1 {
		t.Errorf("%d commits", n)
	}
	if i, err := os.Stat(other.path("d/waits")); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%+v, %v", i, err)
	}

	for name, flags := range map[string]int{"d/exclusive": os.O_EXCL | os.O_TRUNC, "d/appended": os.O_APPEND} {
		f := create(name, flags)
		there(name, true)
		_, err := os.OpenFile(other.path(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		other.fails(err, syscall.EEXIST)
		m.ok(f.Close())
	}

	for name, do := range map[string]func(name string) error{
		"listed": func(string) error { _, err := os.ReadDir(m.path("d")); return err },
		"synced": func(name string) error { return f.Sync() },
		"held by its directory": func(string) error {
			d, err := os.Open(m.path("d"))
			if err != nil {
				return err
			}
			defer d.Close()
			return d.Sync()
		},
		"renamed": func(name string) error { return os.Rename(m.path(name), m.path("d/elsewhere")) },
		"carried": func(string) error { return os.Rename(m.path("d"), m.path("e")) },
		"kept": func(string) error {
			if err := os.Remove(m.path("d")); err == nil || !strings.Contains(err.Error(), "not empty") {
				t.Errorf("a directory with a new file is removed: %v", err)
			}
			return nil
		},
	} {
		f = create("d/"+name, os.O_TRUNC)
		say(f, name)
		there("d/"+name, false)
		m.ok(do("d/" + name))
		is := map[string]string{"renamed": "d/elsewhere", "carried": "e/carried"}[name]
		if is == "" {
			is = "d/" + name
		}
		there(is, true)
		say(f, "!")
		m.ok(f.Close())
		m.has(is, name+"!")
		other.has(is, name+"!")
		if name == "carried" {
			m.ok(os.Rename(m.path("e"), m.path("d")))
		}
	}

	f = create("d/removed", os.O_TRUNC)
	say(f, "text")
	m.ok(os.Remove(m.path("d/removed")))
	say(f, " more")
	if i, err := f.Stat(); err != nil || i.Size() != 9 {
		t.Errorf("%+v, %v", i, err)
	}
	m.ok(f.Close())
	there("d/removed", false)

	f = create("d/twice", os.O_TRUNC)
	say(f, "mine")
	s.put("d/twice", "of another client, and longer")
	m.ok(f.Close())
	other.has("d/twice", "mine")
	m.has("d/twice", "mine")

	large := strings.Repeat("0123456789abcdef", 20_000)
	f = create("d/large", os.O_TRUNC)
	say(f, large)
	m.ok(f.Close())
	other.has("d/large", large)

	f = create("d/fsynced", os.O_TRUNC)
	say(f, "kept")
	m.ok(f.Sync())
	lost := create("d/lost", os.O_TRUNC)
	say(lost, "lost")
	m.kill()
	_, _ = f.Close(), lost.Close()
	other.has("d/fsynced", "kept")
	there("d/lost", false)
	other.unmount()
}

// Who may not make files is told when it tries to, and not when it closes them.
func TestNewFilesRefused(t *testing.T) {
	s := serve(t)
	m := s.mount(Options{WriteBackAfter: time.Hour, TTL: time.Millisecond})
	m.write("before", "")
	yes := true
	if _, err := s.ChangeBucket(t.Context(), "data", client.BucketChange{ReadOnly: &yes}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(m.path("first")) // nobody knows yet
	m.ok(err)
	m.fails(f.Close(), syscall.EROFS)
	time.Sleep(20 * time.Millisecond) // the kernel believes a name for some ticks
	_, err = os.Stat(m.path("first"))
	m.fails(err, syscall.ENOENT)
	_, err = os.Create(m.path("second"))
	m.fails(err, syscall.EROFS)
}
