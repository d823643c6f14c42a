package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"stemma/pageserver"
)

// TestUserCommands makes users and keys on a server, and uses them over a restart.
func TestUserCommands(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	ctx := t.Context()
	run := func(args ...string) string {
		t.Helper()
		out, stderr, err := p.stemma(ctx, args...)
		if err != nil {
			t.Fatalf("stemma %s: %v: %s", strings.Join(args, " "), err, stderr)
		}
		return out
	}
	fails := func(want string, args ...string) {
		t.Helper()
		if _, stderr, err := p.stemma(ctx, args...); err == nil || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("stemma %s: %v, %q; want %q", strings.Join(args, " "), err, stderr, want)
		}
	}
	const secret = "h7GhxuBLTrlhVUyxSPUKUV8r/2EI4ngqJxD7iBdBYLhwluN30JaT3Q=="
	out := run("user", "create", "main", "--id", "testid", "--display-name", "M. Tester", "--email", "tester@example.com",
		"--access-key", "0555b35654ad1656d804", "--secret-key", secret)
	if !strings.Contains(out, "id          testid\n") || !strings.Contains(out, "secret key  "+secret) {
		t.Errorf("user create:\n%s", out)
	}
	run("user", "create", "bob", "--policy", "readwrite")
	fails("AlreadyExists", "user", "create", "main")
	fails("NoSuchPolicy", "user", "create", "x", "--policy", "none")
	fails("come together", "user", "create", "x", "--access-key", "abc")
	if out := run("user", "list"); !strings.Contains(out, "main") || !strings.Contains(out, "(owner)") || !strings.Contains(out, "readwrite") {
		t.Errorf("user list:\n%s", out)
	}
	doc := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(doc, []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	run("policy", "put", "team", doc)
	run("user", "policy", "bob", "--attach", "team")
	run("user", "policy", "bob", doc, "--put", "mine")
	run("user", "policy", "bob", "--detach", "readwrite")
	fails("want one of", "user", "policy", "bob")
	fails("InUse", "policy", "delete", "team")
	var u pageserver.User
	if err := json.Unmarshal([]byte(run("user", "show", "bob")), &u); err != nil || len(u.Attached) != 1 || u.Attached[0] != "team" || u.Inline["mine"] == "" {
		t.Errorf("user show: %+v, %v", u, err)
	}
	run("user", "set", "bob", "--display-name", "Bob")
	fails("NoSuchUser", "user", "show", "none")

	run("bucket", "create", "data")
	out = run("key", "create", "--bucket", "data", "--description", "agent 7")
	key := strings.Fields(out)[2]
	if out := run("key", "list"); !strings.Contains(out, key) || !strings.Contains(out, "agent 7") || !strings.Contains(out, "data") || strings.Contains(out, secret) {
		t.Errorf("key list:\n%s", out)
	}
	run("key", "disable", key)
	run("key", "enable", key)
	run("key", "scope", key, "--read-only-bucket", "data")
	if again := run("key", "rotate", key); again == out || !strings.Contains(again, key) {
		t.Errorf("key rotate:\n%s", again)
	}
	fails("want --user", "key", "create")
	fails("NoSuchBucket", "key", "create", "--bucket", "none")
	fails("NoSuchBucket", "bucket", "retention", ".stemma")

	p.stop(t)
	p = start(t, dir)
	list, err := p.client().ListBuckets(ctx, &s3.ListBucketsInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list.Buckets {
		if strings.HasPrefix(aws.ToString(b.Name), ".") {
			t.Errorf("bucket %s is listed", *b.Name)
		}
	}
	run("key", "delete", key)
	run("user", "delete", "bob", "--force")
	run("policy", "delete", "team")
	if out := run("user", "list", "--json"); strings.Contains(out, "bob") {
		t.Errorf("user list:\n%s", out)
	}
	p.stop(t)
}
