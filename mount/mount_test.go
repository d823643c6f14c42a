package mount

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"stemma/client"
	"stemma/pageserver"
	"stemma/pageserver/auth"
	"stemma/pageserver/keyring"
	"stemma/wal/storefs"
)

// childEnv has the test binary be a mount, or use mapped memory, which must not be done by the process that the server is in.
const childEnv = "STEMMA_TEST_MOUNT"

// childConfig says what the child does.
type childConfig struct {
	Endpoint, Dir string
	Options       Options
	Map           string // file to be changed through mapped memory; else it mounts
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		var c childConfig
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			panic(err)
		}
		if err := c.run(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func (c *childConfig) run() error {
	if c.Map != "" {
		return changeMapped(c.Map)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	through := http.DefaultTransport.(*http.Transport).Clone()
	through.MaxIdleConnsPerHost = 16
	api, err := client.New(client.Options{Endpoint: c.Endpoint, AccessKey: "demo", SecretKey: "demo-secret", HTTP: &http.Client{Transport: through}})
	if err != nil {
		return err
	}
	c.Options.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	m, err := Mount(ctx, api, c.Dir, c.Options)
	if err != nil {
		return err
	}
	fmt.Println("mounted")
	stopping := context.AfterFunc(ctx, func() {
		if err := m.Unmount(c.Dir, false); err != nil {
			fmt.Fprintln(os.Stderr, "unmount:", err)
			_ = m.Unmount(c.Dir, true)
		}
	})
	defer stopping()
	err = m.Wait()
	fmt.Fprintln(os.Stderr, "requests:", m.Stats().Requests)
	return err
}

// changeMapped changes bytes of a file through mapped memory, and reads them back.
func changeMapped(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := syscall.Mmap(int(f.Fd()), 0, 100_000, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(p[50_000:], "through memory")
	for i := range p[:10] {
		p[i]++
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syscall.Munmap(p)
}

// served is a server in memory, which can be stopped and started again.
type served struct {
	*client.Client
	t            *testing.T
	endpoint, s3 string
	options      pageserver.Options
	server       *pageserver.Server
}

// serve starts a server with an empty bucket "data". The test is skipped where nothing can be mounted.
func serve(t *testing.T) *served {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip("nothing can be mounted here: ", err)
	}
	f.Close()
	master, err := keyring.New(keyring.NewKey("master"))
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, options: pageserver.Options{
		Dir: "data", FS: storefs.NewMem(), Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", MasterKeys: master,
		RootKey: auth.Key{ID: "demo", Secret: "demo-secret"}, Logger: slog.New(slog.DiscardHandler),
	}}
	s.options.Store.WALSegmentBytes = 16 << 20 // the least that takes the largest commits
	s.start()
	t.Cleanup(s.stop)
	if s.Client, err = client.New(client.Options{Endpoint: s.endpoint, AccessKey: "demo", SecretKey: "demo-secret"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateBucket(t.Context(), client.NewBucket{Name: "data"}); err != nil {
		t.Fatal(err)
	}
	return s
}

// start starts the server, again at the addresses that it had.
func (s *served) start() {
	s.t.Helper()
	var err error
	if s.server, err = pageserver.Start(s.options); err != nil {
		s.t.Fatal(err)
	}
	s.options.Listen, s.options.AdminListen = s.server.Addr().String(), s.server.AdminAddr().String()
	s.s3, s.endpoint = s.options.Listen, "http://"+s.options.AdminListen
}

func (s *served) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		s.t.Error(err)
	}
}

// mounted is a mount that another process serves.
type mounted struct {
	t    *testing.T
	cmd  *exec.Cmd
	dir  string
	logs bytes.Buffer
	over bool
}

// mount mounts a bucket, in a process of its own, until the test ends.
func (s *served) mount(o Options) *mounted {
	s.t.Helper()
	m := &mounted{t: s.t, dir: s.t.TempDir()}
	m.start(s, o)
	return m
}

// start starts the process that serves m.
func (m *mounted) start(s *served, o Options) {
	m.t.Helper()
	if o.Bucket == "" {
		o.Bucket = "data"
	}
	config, err := json.Marshal(childConfig{Endpoint: s.endpoint, Dir: m.dir, Options: o})
	if err != nil {
		m.t.Fatal(err)
	}
	m.cmd, m.over = exec.Command(os.Args[0]), false
	m.cmd.Env = append(os.Environ(), childEnv+"="+string(config))
	m.cmd.Stderr = &m.logs
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	line := make([]byte, 8)
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "mounted\n" {
		rest, _ := io.ReadAll(out)
		_ = m.cmd.Wait()
		if text := string(line) + string(rest); strings.Contains(text, "operation not permitted") || strings.Contains(text, "executable file not found") {
			m.t.Skip("nothing can be mounted here: ", text)
		} else {
			m.t.Fatalf("%s%s", text, m.logs.String())
		}
	}
	m.t.Cleanup(func() {
		switch {
		case m.over:
		case m.t.Failed(): // files may be open
			m.kill()
			m.t.Log(m.logs.String())
		default:
			m.unmount()
		}
	})
}

// unmount ends the mount as a user does: it must write everything back.
func (m *mounted) unmount() {
	m.t.Helper()
	m.over = true
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		m.t.Error(err)
	}
	if err := m.cmd.Wait(); err != nil || strings.Contains(m.logs.String(), "unmount:") {
		m.t.Errorf("%v\n%s", err, m.logs.String())
		_ = syscall.Unmount(m.dir, syscall.MNT_DETACH)
	}
}

// requests returns how many requests the mount has made that was unmounted last.
func (m *mounted) requests() (n int) {
	m.t.Helper()
	all := m.logs.String()
	if _, err := fmt.Sscanf(all[strings.LastIndex(all, "requests:"):], "requests: %d", &n); err != nil {
		m.t.Fatal(err)
	}
	return n
}

// kill kills the process of the mount.
func (m *mounted) kill() {
	m.t.Helper()
	m.over = true
	if err := m.cmd.Process.Kill(); err != nil {
		m.t.Error(err)
	}
	_ = m.cmd.Wait()
	if err := syscall.Unmount(m.dir, syscall.MNT_DETACH); err != nil {
		m.t.Error(err)
	}
}

func (m *mounted) path(names ...string) string {
	return filepath.Join(append([]string{m.dir}, names...)...)
}

func (m *mounted) write(name, text string) {
	m.t.Helper()
	m.ok(os.WriteFile(m.path(name), []byte(text), 0o644))
}

func (m *mounted) has(name, want string) {
	m.t.Helper()
	if p, err := os.ReadFile(m.path(name)); err != nil || string(p) != want {
		same := 0
		for same < min(len(p), len(want)) && p[same] == want[same] {
			same++
		}
		m.t.Errorf("%s: %d bytes %.50q, %v, want %d bytes %.50q; they differ from %d on", name, len(p), p, err, len(want), want, same)
	}
}

func (m *mounted) ok(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *mounted) fails(err error, want syscall.Errno) {
	m.t.Helper()
	if !errors.Is(err, want) {
		m.t.Errorf("%v, want %v", err, want)
	}
}

// names returns what a directory lists.
func (m *mounted) names(dir string) string {
	m.t.Helper()
	list, err := os.ReadDir(m.path(dir))
	m.ok(err)
	var names []string
	for _, e := range list {
		name := e.Name()
		if e.IsDir() {
			name += "/"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// keys returns all keys of a bucket.
func (s *served) keys(bucket string) string {
	s.t.Helper()
	page, err := s.Objects(s.t.Context(), bucket, client.ObjectListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	var keys []string
	for _, o := range page.Objects {
		keys = append(keys, o.Key)
	}
	return strings.Join(keys, " ")
}

// put puts an object as an S3 client does.
func (s *served) put(key, text string) {
	s.t.Helper()
	if _, err := s.Commit(s.t.Context(), "data", client.CommitRequest{Operations: []client.CommitOperation{{Op: "put", Key: key, Data: []byte(text)}}}); err != nil {
		s.t.Fatal(err)
	}
}
