package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stemma/client"
)

// TestNativeCommands works with forks, snapshots, commits and merges by the commands, as a person would.
func TestNativeCommands(t *testing.T) {
	p := start(t, t.TempDir())
	clearEnv(t)
	for name, value := range map[string]string{
		"STEMMA_ENDPOINT": p.s3, "STEMMA_ADMIN_ENDPOINT": p.admin, "STEMMA_ROOT_ACCESS_KEY": testAccess, "STEMMA_ROOT_SECRET_KEY": testSecret,
	} {
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	run := func(args ...string) string {
		t.Helper()
		code, out, stderr := runCLI(t, args...)
		if code != 0 {
			t.Fatalf("stemma %s: exit %d: %s", strings.Join(args, " "), code, stderr)
		}
		return out
	}
	says := func(want string, args ...string) {
		t.Helper()
		if out := run(args...); !strings.Contains(out, want) {
			t.Errorf("stemma %s: %q, want %q", strings.Join(args, " "), out, want)
		}
	}
	fails := func(want int, args ...string) {
		t.Helper()
		if code, _, stderr := runCLI(t, args...); code != want || strings.Count(stderr, "\n") != 1 {
			t.Errorf("stemma %s: exit %d, %q; want exit %d", strings.Join(args, " "), code, stderr, want)
		}
	}
	file := filepath.Join(dir, "a.txt")
	if err := os.WriteFile(file, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	run("bucket", "create", "data")
	says("made  ", "bucket", "create", "made", "--quota-bytes", "1MiB", "--snapshots", "hourly:every=1h,keep-last=3", "--key", "readonly")
	says("snapshots  hourly:every=1h,keep-last=3\n", "bucket", "show", "made")
	fails(3, "bucket", "create", "made", "--description", "again")
	run("bucket", "delete", "made")
	run("cp", "-r", dir, "s3://data/in")
	run("snapshot", "create", "data", "--name", "good", "--held")
	says("good", "snapshot", "list", "data")
	run("fork", "data", "--count", "3", "--name-prefix", "agent-", "--label", "run=7", "--expires-in", "1h", "--key", "editor")
	run("fork", "agent-1", "sub-1", "sub-2", "--quota-bytes", "10GiB", "--quota-objects", "7")
	says("0 B of 10 GiB", "bucket", "show", "sub-2")
	says("├─ agent-1  @", "tree", "data")
	says("│  └─ sub-2  @", "tree", "--root", "sub-1")
	run("bucket", "set", "agent-3", "--protected", "--expires-in", "never")
	says("protected  true", "bucket", "show", "agent-3")
	fails(1, "bucket", "delete", "--force", "agent-3")
	run("bucket", "set", "agent-3", "--quota-bytes", "1KiB", "--quota-objects", "2")
	says("quota             0 B of 1.0 KiB\nquota of objects  0 of 2\n", "bucket", "show", "agent-3")
	fails(1, "commit", "agent-3", "--put", "1="+file, "--put", "2="+file, "--put", "3="+file)
	run("commit", "agent-3", "--put", "1="+file)
	says("3 B of 1.0 KiB", "bucket", "show", "agent-3")
	run("bucket", "set", "agent-3", "--quota-bytes", "0")
	says("quota of objects  1 of 2\n", "bucket", "set", "agent-3", "--description", "x")
	run("bucket", "set", "agent-3", "--quota-objects", "0")
	run("bucket", "rename", "agent-3", "kept")
	says("committed 2 operations", "commit", "agent-2", "--put", "out.txt="+file, "--rename", "in/a.txt=in/b.txt")
	if out := run("diff", "agent-2"); out != "> in/a.txt -> in/b.txt\n+ out.txt\n" && out != "- in/a.txt\n+ in/b.txt\n+ out.txt\n" {
		t.Errorf("diff: %q", out)
	}
	says("+ out.txt", "diff", "--job", "agent-2")
	says("diff  agent-2  done", "job", "list")
	fails(2, "diff", "--job", "--summary", "agent-2")
	fails(5, "job", "wait", "none")
	run("fork", "data", "alone")
	says("alone was detached", "detach", "alone")
	says("added          1", "diff", "--summary", "--prefix", "out", "data@good", "agent-2")
	run("commit", "data", "--put", "in/a.txt="+file, "--delete", "none")
	fails(4, "commit", "data", "--if-lsn", "5", "--delete", "in/a.txt")
	fails(3, "merge", "kept", "agent-1")
	says("2 put", "merge", "agent-2", "data", "--source-wins", "in/")
	run("rebase", "agent-1")
	says("one", "cat", "agent-1/out.txt")
	says("deleted", "log", "data/in/a.txt")
	says("delete                    0  -  in/a.txt", "log", "data", "--limit", "5")
	says(`"kind":"put"`, "log", "data", "--oldest", "--prefix", "in/", "--json")
	fails(2, "log", "data/in/a.txt", "--oldest")
	says("put", "cherry-pick", "agent-2", "kept", "out.txt")
	run("commit", "data", "--delete", "out.txt")
	says("out.txt", "undelete", "data", "out.txt")
	says("nothing came back", "undelete", "data", "out.txt")
	says("nothing was committed, as of LSN 1", "merge", "--dry-run", "agent-2", "data")
	says("is another since", "restore", "--at", "good", "data")
	run("reset", "agent-2")
	run("commit", "agent-2", "--put", "won="+file)
	run("promote", "agent-2")
	says("won", "ls", "data/")
	run("swap", "data", "agent-1")
	var c client.Committed
	if err := json.Unmarshal([]byte(run("commit", "agent-1", "--put", "junk="+file, "--json")), &c); err != nil {
		t.Fatal(err)
	}
	says("1 deleted", "revert", "agent-1", "--from", (c.LSN - 1).String())
	run("cp", "s3://agent-1/in/a.txt", filepath.Join(dir, "b.txt"))
	run("cp", "s3://agent-1/in/a.txt", "s3://kept/copies/")
	says("one", "cp", "s3://kept/copies/a.txt", "-")
	fails(5, "bucket", "show", "none")
	fails(5, "ls", "none")
	fails(5, "cat", "kept/none")
	fails(5, "cp", "s3://kept/none", "-")
	fails(5, "fork", "none", "another")
	fails(3, "bucket", "delete", "kept")
	fails(1, "fork", "kept", "An_other")
	fails(2, "diff")
	fails(2, "restore", "data")
	fails(3, "snapshot", "delete", "data", "good")
	run("snapshot", "set", "data", "good", "--held=false", "--name", "better")
	run("snapshot", "delete", "data", "better")

	var b client.Bucket
	if err := json.Unmarshal([]byte(run("bucket", "show", "kept", "--json")), &b); err != nil || b.Labels["run"] != "7" {
		t.Errorf("%+v, %v", b, err)
	}
	says("kept", "__complete", "tree", "ke")
	p.stop(t)
}

// A profile has addresses and keys; what is on the command line goes first.
func TestProfiles(t *testing.T) {
	clearEnv(t)
	path := filepath.Join(t.TempDir(), "profiles.json")
	if err := os.WriteFile(path, []byte(`{"lab":{"endpoint":"http://127.0.0.1:1","admin_endpoint":"http://127.0.0.1:2","access_key":"a-key","secret_key":"a-secret","region":"eu-west-1"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STEMMA_PROFILES", path)
	f := credentialFlags{region: defaultRegion, profile: "lab"}
	k, err := f.keys()
	if err != nil || k.ID != "a-key" || k.Secret != "a-secret" || f.region != "eu-west-1" {
		t.Errorf("%+v, %q, %v", k, f.region, err)
	}
	for _, c := range []struct {
		value string
		admin bool
		want  string
	}{{"default", false, "http://127.0.0.1:1"}, {"default", true, "http://127.0.0.1:2"}, {"other", true, "other"}} {
		if got, err := f.endpoint(c.value, "default", c.admin); got != c.want || err != nil {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
	f.profile = "none"
	if _, err := f.keys(); err == nil {
		t.Error("a profile that there is not")
	}
}
