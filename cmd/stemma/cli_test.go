package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"stemma/pageserver/auth"
	"stemma/wal"
)

// runCLI runs one command line in this process.
func runCLI(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

// clearEnv unsets what would configure the commands.
func clearEnv(t *testing.T) {
	t.Helper()
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "STEMMA_") || strings.HasPrefix(name, "MINIO_") || strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
}

func TestUsageErrors(t *testing.T) {
	clearEnv(t)
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		want string // in the one line on stderr
	}{
		{[]string{"frob"}, `unknown command "frob"`},
		{[]string{"tool", "frob"}, `unknown command "frob"`},
		{[]string{"bucket", "frob"}, `unknown command "frob"`},
		{[]string{"serve", "--frob"}, "unknown flag: --frob"},
		{[]string{"serve", "extra"}, `takes no argument, got "extra"`},
		{[]string{"serve", "--data", dir, "--cache-bytes", "lots"}, "cache-bytes"},
		{[]string{"serve", "--data", dir, "--log-level", "loud"}, "log-level"},
		{[]string{"serve", "--data", dir, "--listen", "nowhere"}, "listen"},
		{[]string{"version", "1"}, "takes no argument"},
		{[]string{"bench", "frob"}, `unknown command "frob"`},
		{[]string{"bench", "s3", "--endpoint", "http://192.0.2.1:9000"}, "add --allow-remote"},
		{[]string{"bench", "s3", "--size", "4KiB,much"}, "size"},
		{[]string{"bench", "s3", "--ops", "fly"}, `no operation "fly"`},
		{[]string{"bench", "s3", "--payload", "trusted"}, "signed, unsigned or streaming"},
		{[]string{"bench", "ab", "--a", "http://127.0.0.1:1", "--a-binary", "x"}, "either --a or --a-binary"},
		{[]string{"bench", "limits", "--rounds", "0"}, "at least one size, client and round"},
		{[]string{"bench", "chain", "--rounds", "0"}, "at least one"},
		{[]string{"bench", "forks", "--objects", "1,none"}, "numbers above zero"},
		{[]string{"nbd", "--bucket", "b", "--key", "k", "--size", "-1"}, "want a size such as 64MiB"},
		{[]string{"fork", "a"}, "wants SOURCE NAME, got 1"},
		{[]string{"ls", "--data", dir, "b"}, "no keys"},
		{[]string{"cat", "--data", dir, "--endpoint", "ftp://x", "b/k"}, "want http://host:port"},
	} {
		code, stdout, stderr := runCLI(t, c.args...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("stemma %s: exit %d, stdout %q, stderr %q; want exit 2 and %q", strings.Join(c.args, " "), code, stdout, stderr, c.want)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("a refused command left %v (%v) in the data directory", entries, err)
	}
}

// TestFlagsFromEnv: a variable sets a flag, the command line wins, and what is
// wrong with a variable is a usage error that names it.
func TestFlagsFromEnv(t *testing.T) {
	parse := func(env map[string]string, args ...string) (listen string, n int, err error) {
		fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
		fs.StringVar(&listen, "admin-listen", "default", "")
		fs.IntVar(&n, "n", 1, "")
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		err = setFromEnv(fs, func(k string) (string, bool) { v, ok := env[k]; return v, ok })
		return listen, n, err
	}
	if l, n, err := parse(map[string]string{"STEMMA_ADMIN_LISTEN": "a:1", "STEMMA_N": ""}); l != "a:1" || n != 1 || err != nil {
		t.Errorf("got %q, %d, %v", l, n, err)
	}
	if l, _, err := parse(map[string]string{"STEMMA_ADMIN_LISTEN": "a:1"}, "--admin-listen=b:2"); l != "b:2" || err != nil {
		t.Errorf("got %q, %v; the command line must win", l, err)
	}
	if _, _, err := parse(map[string]string{"STEMMA_N": "x"}); err == nil || !strings.Contains(err.Error(), `STEMMA_N="x"`) {
		t.Errorf("got %v", err)
	}
}

// TestHelpNamesVariables: the help of every flag names its variable.
func TestHelpNamesVariables(t *testing.T) {
	var check func(c *cobra.Command)
	check = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if hasEnv(f) && !strings.Contains(f.Usage, "$"+envName(f.Name)) {
				t.Errorf("%s --%s: %q", c.CommandPath(), f.Name, f.Usage)
			}
		})
		if c.Short == "" {
			t.Errorf("%s has no description", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			check(sub)
		}
	}
	check(newRoot())
}

func TestRootKeys(t *testing.T) {
	env := func(kv ...string) func(string) (string, bool) {
		return func(k string) (string, bool) {
			i := slices.Index(kv, k)
			if i < 0 {
				return "", false
			}
			return kv[i+1], true
		}
	}
	for _, c := range []struct {
		env  []string
		want auth.Key
		err  string
	}{
		{[]string{"STEMMA_ROOT_ACCESS_KEY", "abc", "STEMMA_ROOT_SECRET_KEY", "12345678"}, auth.Key{ID: "abc", Secret: "12345678", Root: true}, ""},
		{[]string{"MINIO_ROOT_USER", "min", "MINIO_ROOT_PASSWORD", "12345678"}, auth.Key{ID: "min", Secret: "12345678", Root: true}, ""},
		{[]string{"STEMMA_ROOT_ACCESS_KEY", "abc", "STEMMA_ROOT_SECRET_KEY", "12345678", "MINIO_ROOT_USER", "min", "MINIO_ROOT_PASSWORD", "87654321"},
			auth.Key{ID: "abc", Secret: "12345678", Root: true}, ""},
		{[]string{"STEMMA_ROOT_ACCESS_KEY", "abc"}, auth.Key{}, "STEMMA_ROOT_SECRET_KEY is not"},
		{[]string{"STEMMA_ROOT_SECRET_KEY", "12345678"}, auth.Key{}, "STEMMA_ROOT_ACCESS_KEY is not"},
		{[]string{"MINIO_ROOT_USER", "abc"}, auth.Key{}, "MINIO_ROOT_PASSWORD is not"},
		{[]string{"STEMMA_ROOT_ACCESS_KEY", "abc", "STEMMA_ROOT_SECRET_KEY", "1234567"}, auth.Key{}, "secret key has 7 characters"},
		{[]string{"STEMMA_ROOT_ACCESS_KEY", "a/c", "STEMMA_ROOT_SECRET_KEY", "12345678"}, auth.Key{}, "access key must not hold"},
		{[]string{"STEMMA_ROOT_ACCESS_KEY", "ac", "STEMMA_ROOT_SECRET_KEY", "12345678"}, auth.Key{}, "access key has 2 characters"},
	} {
		dir := t.TempDir()
		var said bytes.Buffer
		got, err := rootKeys(dir, env(c.env...), &said)
		if got != c.want || (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%q: %+v, %v; want %+v, %q", c.env, got, err, c.want, c.err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 || said.Len() != 0 {
			t.Errorf("%q: left %v (%v), said %q", c.env, entries, err, &said)
		}
	}
}

// TestGeneratedKeys: made once, readable by the owner only, shown once, then
// read back for ever; a broken file is refused and not replaced.
func TestGeneratedKeys(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	dir := filepath.Join(t.TempDir(), "made", "by us")
	var said bytes.Buffer
	first, err := rootKeys(dir, none, &said)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Validate(); err != nil || len(first.ID) != 20 || len(first.Secret) != 40 {
		t.Errorf("made %+v: %v", first, err)
	}
	for _, want := range []string{"export AWS_ACCESS_KEY_ID=" + first.ID + "\n", "export AWS_SECRET_ACCESS_KEY=" + first.Secret + "\n"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("said %q, want %q in it", &said, want)
		}
	}
	path := filepath.Join(dir, credentialsFile)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", st, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("directory holds %v (%v), want one file", entries, err)
	}
	said.Reset()
	if again, err := rootKeys(dir, none, &said); err != nil || again != first || said.Len() != 0 {
		t.Errorf("second time: %+v, %v, said %q", again, err, &said)
	}
	if other, err := rootKeys(t.TempDir(), none, &said); err != nil || other == first {
		t.Errorf("another directory: %+v, %v", other, err)
	}
	broken := "[default]\naws_access_key_id = x\n"
	if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := rootKeys(dir, none, &said); err == nil {
		t.Error("a broken file is accepted")
	}
	if p, err := os.ReadFile(path); err != nil || string(p) != broken {
		t.Errorf("the broken file now holds %q (%v)", p, err)
	}
}

func TestParseAt(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
	for in, want := range map[string]wal.LSN{
		"1751631910196672425":            1751631910196672425,
		"2026-03-04T05:06:07.000000008Z": wal.LSNFromTime(now),
		"2026-03-04T06:06:07+01:00":      wal.LSNFromTime(now) - 8,
		"-5m":                            wal.LSNFromTime(now.Add(-5 * time.Minute)),
		"0":                              0, "5m": 0, "": 0, "yesterday": 0, "-99999999h": 0, "1960-01-01T00:00:00Z": 0, "9223372036854775808": 0,
	} {
		got, err := parseAt(in, now)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
}

func TestVersionLine(t *testing.T) {
	info := &debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc123"}, {Key: "vcs.modified", Value: "true"}}}
	if got := versionLine(info, true); !strings.Contains(got, "commit abc123+changes go1.") {
		t.Errorf("%q", got)
	}
	if got := versionLine(nil, false); !strings.Contains(got, "commit unknown") {
		t.Errorf("%q", got)
	}
	if code, out, _ := runCLI(t, "version"); code != 0 || !strings.HasPrefix(out, "stemma ") {
		t.Errorf("exit %d, %q", code, out)
	}
}

// TestServeTwice: a second process on a data directory ends at once, with one
// line that says why, and the first goes on.
func TestServeTwice(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	second := spawn(t, dir)
	<-second.exited
	if code := second.cmd.ProcessState.ExitCode(); code != exitFail {
		t.Errorf("exit code %d, want 1", code)
	}
	if out := second.output(); strings.Count(out, "\n") != 1 || !strings.Contains(out, "another process") {
		t.Errorf("said %q, want one line about another process", out)
	}
	if code := first.status("/health/ready"); code != 200 {
		t.Errorf("first server: ready is %d", code)
	}
	first.stop(t)
	start(t, dir).stop(t)
}

// TestServeMakesKeys starts the server as the quick start does, with no
// configuration, and uses the keys that it shows.
func TestServeMakesKeys(t *testing.T) {
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	for round := range 2 {
		p := &process{serving: make(chan struct{}), exited: make(chan struct{})}
		p.cmd = exec.Command(bin, "serve")
		p.cmd.Env = environment("STEMMA_DATA="+dir, "STEMMA_LISTEN=127.0.0.1:0", "STEMMA_ADMIN_LISTEN=127.0.0.1:0", "STEMMA_LOG_FORMAT=json", "STEMMA_BALLAST_BYTES=1MiB")
		p.launch(t)
		<-p.serving
		shown := strings.Contains(p.output(), "export AWS_SECRET_ACCESS_KEY=")
		if shown != (round == 0) {
			t.Errorf("round %d: keys shown: %v\n%s", round, shown, p.output())
		}
		k, err := readKeys(filepath.Join(dir, credentialsFile))
		if err != nil {
			t.Fatal(err)
		}
		if shown && !strings.Contains(p.output(), "export AWS_SECRET_ACCESS_KEY="+k.Secret+"\n") {
			t.Errorf("shown is not what is stored: %s", p.output())
		}
		clearEnv(t)
		t.Setenv("STEMMA_ENDPOINT", p.s3)
		t.Setenv("STEMMA_DATA", dir)
		if round == 0 {
			if code, _, stderr := runCLI(t, "bucket", "create", "books"); code != 0 {
				t.Errorf("bucket create: %s", stderr)
			}
		}
		if code, out, stderr := runCLI(t, "bucket", "list"); code != 0 || !strings.HasSuffix(out, "  books\n") {
			t.Errorf("bucket list: %q %s", out, stderr)
		}
		t.Setenv("AWS_ACCESS_KEY_ID", k.ID)
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
		if code, _, stderr := runCLI(t, "bucket", "list"); code != exitFail || strings.Count(stderr, "\n") != 1 {
			t.Errorf("bucket list with a wrong secret: exit %d, %q", code, stderr)
		}
		p.stop(t)
	}
}

// TestReadCommands runs ls, cat and get against a server.
func TestReadCommands(t *testing.T) {
	p := start(t, t.TempDir())
	ctx, sdk := t.Context(), p.client()
	must := func(out string, stderr string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatalf("%v: %s", err, stderr)
		}
		return out
	}
	must(p.stemma(ctx, "bucket", "create", "books"))
	put := func(key, body string) wal.LSN {
		t.Helper()
		out, err := sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("books"), Key: &key, Body: strings.NewReader(body)})
		if err != nil {
			t.Fatal(err)
		}
		lsn, err := lsnOf(out.ResultMetadata)
		if err != nil {
			t.Fatal(err)
		}
		return lsn
	}
	put("dir/a", "one")
	old := put("dir/sub/b", "two")
	put("dir/a", "three")
	put("top", "four")

	keys := func(out string) (ks []string) {
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			ks = append(ks, strings.Join(f[max(0, len(f)-2):], " "))
		}
		return ks
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"ls", "books"}, []string{"4 top", "dir/"}},
		{[]string{"ls", "s3://books/dir/"}, []string{"5 dir/a", "dir/sub/"}},
		{[]string{"ls", "-r", "books"}, []string{"5 dir/a", "3 dir/sub/b", "4 top"}},
		{[]string{"ls", "-r", "books", "--at", old.String()}, []string{"3 dir/a", "3 dir/sub/b"}},
		{[]string{"ls", "-r", "books", "--at", old.Time().Format(time.RFC3339Nano)}, []string{"3 dir/a", "3 dir/sub/b"}},
	} {
		if got := keys(must(p.stemma(ctx, c.args...))); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.args, got, c.want)
		}
	}
	if out := must(p.stemma(ctx, "cat", "books/dir/a")); out != "three" {
		t.Errorf("cat: %q", out)
	}
	if out := must(p.stemma(ctx, "cat", "books/dir/a", "--at", old.String())); out != "one" {
		t.Errorf("cat in the past: %q", out)
	}
	if _, stderr, err := p.stemma(ctx, "cat", "books/top", "--at", old.String()); err == nil || !strings.Contains(stderr, "does not exist") {
		t.Errorf("cat of what was not there yet: %v, %q", err, stderr)
	}

	dir := t.TempDir()
	must(p.stemma(ctx, "get", "books/dir/", dir))
	if got := files(t, dir); !slices.Equal(got, []string{"a", "sub/b"}) {
		t.Errorf("get made %q", got)
	}

	// A key that would lead out of the directory is refused.
	put("../evil", "x")
	dir = t.TempDir()
	if _, stderr, err := p.stemma(ctx, "get", "books", filepath.Join(dir, "in")); err == nil || !strings.Contains(stderr, "evil") {
		t.Errorf("get of ../evil: %v, %q", err, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "evil")); err == nil {
		t.Error("get wrote outside of the directory")
	}
	p.stop(t)
}
