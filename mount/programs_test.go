package mount

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"stemma/client"
)

// fork makes a fork of "data" among siblings, and returns a check that nothing but the fork has changed.
func (s *served) fork(name string) (unchanged func()) {
	s.t.Helper()
	s.put("parent", "untouched")
	names := []string{name}
	for i := range 10 {
		names = append(names, fmt.Sprintf("sibling-%d", i))
	}
	if _, err := s.Fork(s.t.Context(), "data", client.ForkRequest{Names: names}); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		s.t.Helper()
		for _, b := range append(names[1:], "data") {
			d, err := s.Distance(s.t.Context(), b)
			if err != nil || b != "data" && d.Keys != 0 || s.keys(b) != "parent" {
				s.t.Errorf("%s has %+v, %v: %s", b, d, err, s.keys(b))
			}
		}
	}
}

// run runs a shell script in a directory of the mount, and returns what it says.
func (m *mounted) run(script string) string {
	m.t.Helper()
	cmd := exec.Command("sh", "-c", "cd '"+m.dir+"' || exit; "+script)
	home := m.t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+home, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// needs skips a test where a program is missing.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skip(err)
	}
}

// SQLite works on a mount of a fork in both of its modes, and finds what it has committed when the mount was killed.
func TestSQLite(t *testing.T) { testSQLite(t, false) }

// It does where the bucket encrypts, too.
func TestSQLiteEncrypted(t *testing.T) { testSQLite(t, true) }

func testSQLite(t *testing.T, encrypted bool) {
	needs(t, "sqlite3")
	s := serve(t)
	if encrypted {
		s.encrypt() // the fork, too
	}
	unchanged := s.fork("lite")
	m := s.mount(Options{Bucket: "lite"})
	for _, mode := range []string{"delete", "wal", "truncate"} {
		script := "pragma journal_mode=" + mode + "; create table t(a integer primary key, b blob);"
		for range 40 {
			script += " insert into t(b) values(randomblob(3000));"
		}
		m.run("sqlite3 " + mode + ".db '" + script + " update t set b=randomblob(100) where a%3=0; delete from t where a%5=0; vacuum;'")
		// A transaction is under way when the mount is killed.
		cmd := exec.Command("sqlite3", m.path(mode+".db"))
		in, err := cmd.StdinPipe()
		m.ok(err)
		out, err := cmd.StdoutPipe()
		m.ok(err)
		m.ok(cmd.Start())
		fmt.Fprintln(in, "insert into t values(1000, 'kept'); begin; insert into t values(1001, 'lost'); select 'now';")
		said := make([]byte, 4)
		if _, err := out.Read(said); err != nil {
			t.Fatal(err)
		}
		m.kill()
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		m.start(s, Options{Bucket: "lite"})
		if got := m.run("sqlite3 " + mode + ".db 'pragma integrity_check; select count(*) from t; select b from t where a>=1000'"); got != "ok\n33\nkept\n" {
			t.Errorf("%s: %q", mode, got)
		}
	}
	unchanged()
}

// Git makes, clones, packs and checks repositories on a mount of a fork.
func TestGit(t *testing.T) {
	needs(t, "git")
	s := serve(t)
	unchanged := s.fork("repo")
	m := s.mount(Options{Bucket: "repo"})
	m.run(`set -e
git init -q one; cd one
mkdir -p a/b; for i in 1 2 3 4 5 6 7 8 9; do echo $i > a/b/$i; head -c 20000 /dev/urandom > a/r$i; done
ln -s b/1 a/link; git add .; git commit -qm first
git mv a/b a/c; git commit -qm second; git checkout -qb side HEAD~1; echo x > a/b/1; git commit -qam third; git checkout -q -; git merge -q -m merged side
cd ..; git clone -q one two; cd two; git gc -q --aggressive; git fsck --strict`)
	m.unmount()
	m.start(s, Options{Bucket: "repo"})
	if got := m.run("cd two && git fsck --strict 2>&1 && git status --short && git log --oneline | wc -l && readlink a/link && cat a/c/1"); strings.TrimSpace(got) != "4\nb/1\nx" {
		t.Errorf("%q", got)
	}
	unchanged()
}

// A program is built from sources on a mount of a fork into it, and runs from there.
func TestGoBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles")
	}
	needs(t, "go")
	s := serve(t)
	unchanged := s.fork("code")
	m := s.mount(Options{Bucket: "code"})
	m.ok(os.MkdirAll(m.path("m/p"), 0o755))
	for name, text := range map[string]string{
		"go.mod":  "module m\n\ngo 1.24\n",
		"main.go": "package main\n\nimport \"m/p\"\n\nfunc main() { println(p.Two()) }\n",
		"p/p.go":  "package p\n\nfunc Two() int { return 2 }\n",
	} {
		m.write(filepath.Join("m", name), text)
	}
	if got := m.run("cd m && GOFLAGS= GOCACHE=$PWD/cache go build -o out . && ./out 2>&1 && GOCACHE=$PWD/cache go vet ./..."); got != "2\n" {
		t.Errorf("%q", got)
	}
	unchanged()
}

// fio writes two files at random, in blocks of its own with checksums, and finds them, also when the mount was killed.
func TestFio(t *testing.T) {
	needs(t, "fio")
	s := serve(t)
	unchanged := s.fork("blocks")
	m := s.mount(Options{Bucket: "blocks", MaxDirtyBytes: 4 << 20})
	for name, args := range map[string]string{"unaligned": "--bsrange=4k-64k --bs_unaligned --end_fsync=1", "aligned": "--bs=8k --fsync=64 --iodepth=8 --ioengine=libaio --end_fsync=1"} {
		fio := "fio --name=" + name + " --filename=" + name + " --size=8m --rw=randwrite --verify=crc32c --randseed=3 " + args
		m.run(fio)
		m.kill()
		m.start(s, Options{Bucket: "blocks"})
		m.run(fio + " --verify_only")
	}
	m.run("printf x | dd of=aligned bs=1 seek=5000000 conv=notrunc status=none")
	if out, err := exec.Command("sh", "-c", "cd '"+m.dir+"' && fio --name=aligned --filename=aligned --size=8m --rw=randwrite --bs=8k --verify=crc32c --randseed=3 --verify_only").CombinedOutput(); err == nil {
		t.Errorf("fio does not find a byte that was changed: %s", out)
	}
	unchanged()
}
