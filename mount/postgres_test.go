package mount

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"stemma/client"
)

// postgres runs the programs of PostgreSQL, which refuse to be run by the root.
type postgres struct {
	t    *testing.T
	bin  string
	who  *syscall.Credential
	sock string // directory of the socket, another one for each start: locks of who was killed are in the way
}

func newPostgres(t *testing.T) *postgres {
	t.Helper()
	p := &postgres{t: t}
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); err == nil && len(found) > 0 {
		slices.Sort(found)
		p.bin = filepath.Dir(found[len(found)-1])
	} else if path, err := exec.LookPath("initdb"); err == nil {
		p.bin = filepath.Dir(path)
	} else {
		t.Skip("PostgreSQL is not installed")
	}
	for _, name := range []string{"pgbench", "pg_amcheck"} {
		if _, err := os.Stat(filepath.Join(p.bin, name)); err != nil {
			t.Skip(err)
		}
	}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			u, err = user.Lookup("nobody")
		}
		if err != nil {
			t.Skip("there is nobody who could run PostgreSQL: ", err)
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		p.who = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chmod(filepath.Dir(t.TempDir()), 0o711); err != nil { // mounts are below it
			t.Fatal(err)
		}
	}
	p.sock = p.dir()
	return p
}

// dir returns a new directory of who runs the programs.
func (p *postgres) dir() string {
	p.t.Helper()
	dir := p.t.TempDir()
	if p.who != nil {
		if err := os.Chown(dir, int(p.who.Uid), int(p.who.Gid)); err != nil {
			p.t.Fatal(err)
		}
	}
	return dir
}

func (p *postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(p.t.Context(), filepath.Join(p.bin, name), args...)
	cmd.Dir = p.sock
	cmd.Env = append(os.Environ(), "PGHOST="+p.sock, "PGUSER=pg", "PGDATABASE=postgres", "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.who}
	return cmd
}

// run runs a program and returns what it says.
func (p *postgres) run(name string, args ...string) string {
	p.t.Helper()
	out, err := p.command(name, args...).Output()
	if err != nil {
		text := ""
		if e, ok := err.(*exec.ExitError); ok {
			text = string(e.Stderr)
		}
		p.t.Fatalf("%s %q: %v\n%s%s", name, args, err, out, text)
	}
	return strings.TrimSpace(string(out))
}

func (p *postgres) sql(text string) string {
	p.t.Helper()
	return p.run("psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", text)
}

// database is one on a mount.
type database struct {
	postgres
	data string
	log  string
}

// on returns the database of a mount, whose directory it makes if there is none.
func (p *postgres) on(m *mounted) *database {
	p.t.Helper()
	d := &database{*p, m.path("db"), filepath.Join(p.dir(), "log")}
	if err := os.Mkdir(d.data, 0o700); err == nil && p.who != nil {
		m.ok(os.Chown(d.data, int(p.who.Uid), int(p.who.Gid)))
	}
	return d
}

// start starts the server, which recovers if it has to. It is killed at the end of the test if it runs then.
func (d *database) start() {
	d.t.Helper()
	// What is mounted is of a crash, or a fork of what runs: the process that its lock names does not use it.
	if err := os.Remove(filepath.Join(d.data, "postmaster.pid")); err != nil && !os.IsNotExist(err) {
		d.t.Fatal(err)
	}
	d.sock = d.dir()
	cmd := d.command("pg_ctl", "start", "-w", "-t", "120", "-D", d.data, "-l", d.log, "-o", "-c listen_addresses='' -c shared_buffers=8MB -c fsync=on -k "+d.sock)
	if out, err := cmd.CombinedOutput(); err != nil {
		log, _ := os.ReadFile(d.log)
		d.t.Fatalf("%v\n%s\n%s", err, out, log)
	}
	d.t.Cleanup(d.kill)
}

// recover starts a server that was not stopped.
func (d *database) recover() {
	d.t.Helper()
	d.start()
	if log, err := os.ReadFile(d.log); err != nil || !strings.Contains(string(log), "automatic recovery in progress") {
		d.t.Errorf("it did not recover: %v\n%s", err, log)
	}
}

// kill kills the server; its processes follow.
func (d *database) kill() {
	text, err := os.ReadFile(filepath.Join(d.data, "postmaster.pid"))
	if err != nil {
		return
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if pid, err := strconv.Atoi(first); err == nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func (d *database) stop() {
	d.t.Helper()
	d.run("pg_ctl", "stop", "-w", "-m", "fast", "-D", d.data)
}

// whole checks tables, indexes and what pgbench keeps in balance, and returns how many transactions there are.
func (d *database) whole() int {
	d.t.Helper()
	d.run("pg_amcheck", "--all", "--install-missing", "--heapallindexed", "--parent-check")
	sums := d.sql("select count(*), coalesce(sum(delta), 0) from pgbench_history union all select count(*), sum(abalance) from pgbench_accounts " +
		"union all select count(*), sum(bbalance) from pgbench_branches union all select count(*), sum(tbalance) from pgbench_tellers")
	lines := strings.Split(sums, "\n")
	n, sum, _ := strings.Cut(lines[0], "|")
	for i, want := range []string{"100000|" + sum, "1|" + sum, "10|" + sum} {
		if len(lines) != 4 || lines[i+1] != want {
			d.t.Errorf("balances: %q", lines)
			break
		}
	}
	count, err := strconv.Atoi(n)
	if err != nil {
		d.t.Error(err)
	}
	return count
}

// PostgreSQL runs on a mount of a fork. What it has committed is there when the mount was killed under it, in a fork that was made of it
// while it ran, and in one that was made of a moment afterwards; each is recovered on a mount of its own.
func TestPostgres(t *testing.T) {
	if os.Getenv("STEMMA_TEST_POSTGRES") == "" {
		t.Skip("takes half a minute; STEMMA_TEST_POSTGRES=1 runs it")
	}
	p := newPostgres(t)
	s := serve(t)
	unchanged := s.fork("base")
	options := Options{Bucket: "base", AllowOther: true}
	m := s.mount(options)
	d := p.on(m)
	began := time.Now()
	lap := func(what string) {
		t.Helper()
		t.Logf("%s: %v", what, time.Since(began).Round(100*time.Millisecond))
		began = time.Now()
	}
	d.run("initdb", "-D", d.data, "-U", "pg", "-A", "trust", "--data-checksums")
	lap("initdb")
	d.start()
	d.run("pgbench", "-i", "-q", "-s", "1")
	lap("pgbench -i")
	load := d.command("pgbench", "-n", "-c", "4", "-T", "6")
	out := make(chan string, 1)
	go func() {
		text, err := load.CombinedOutput()
		out <- fmt.Sprintf("%v\n%s", err, text)
	}()
	time.Sleep(1500 * time.Millisecond)
	early := d.sql("select count(*) from pgbench_history")
	moment, err := s.Objects(t.Context(), "base", client.ObjectListOptions{Limit: 1})
	m.ok(err)
	time.Sleep(1500 * time.Millisecond)
	late := d.sql("select count(*) from pgbench_history")
	fork := func(name string, at string) {
		t.Helper()
		if _, err := s.Fork(t.Context(), "base", client.ForkRequest{Names: []string{name}, At: at}); err != nil {
			t.Fatal(err)
		}
	}
	fork("now", "")
	said := <-out
	if !strings.HasPrefix(said, "<nil>") {
		t.Fatal(said)
	}
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "tps") || strings.HasPrefix(line, "latency average") {
			t.Log(strings.TrimSpace(line))
		}
	}
	lap("pgbench -c 4")
	fork("early", moment.LSN.String())
	done := d.whole()

	// The mount is killed under transactions.
	load = d.command("pgbench", "-n", "-c", "4", "-T", "60")
	m.ok(load.Start())
	time.Sleep(500 * time.Millisecond)
	more := d.sql("select count(*) from pgbench_history")
	d.kill()
	m.kill()
	_ = load.Wait()
	m.start(s, options)
	began = time.Now()
	d.recover()
	lap("recovery after kill -9 of the mount")
	atLeast := func(what string, got int, committed string) {
		t.Helper()
		if want, err := strconv.Atoi(committed); err != nil || got < want || want == 0 {
			t.Errorf("%s: %d transactions, %q were committed", what, got, committed)
		}
	}
	atLeast("killed", d.whole(), more)
	d.stop()
	m.unmount()
	for name, committed := range map[string]string{"now": late, "early": early} {
		m := s.mount(Options{Bucket: name, AllowOther: true})
		d := p.on(m)
		began = time.Now()
		d.recover()
		lap("recovery of " + name)
		n := d.whole()
		if atLeast(name, n, committed); n > done {
			t.Errorf("%s has %d transactions, of %d that there were later", name, n, done)
		}
		d.run("pgbench", "-n", "-t", "50")
		d.stop()
		m.unmount()
	}
	unchanged()
}
