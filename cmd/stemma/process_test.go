package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"stemma/wal"
)

// Root keys of the servers that tests start.
const (
	testAccess = "stemma-test"
	testSecret = "stemma-test-secret"
)

// binary builds the real program, once per run of the tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "stemma-bin")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	args := []string{"build", "-o", filepath.Join(dir, "stemma")}
	if os.Getenv("STEMMA_TEST_RACE_BINARY") != "" {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "stemma/cmd/stemma")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return filepath.Join(dir, "stemma"), nil
})

// binaryDir is what TestMain removes; set by binary.
var binaryDir string

func TestMain(m *testing.M) {
	code := m.Run()
	if binaryDir != "" {
		if err := os.RemoveAll(binaryDir); err != nil {
			log.Print(err)
		}
	}
	os.Exit(code)
}

// process is a running server.
type process struct {
	cmd     *exec.Cmd
	s3      string // URL of the S3 listener
	admin   string // URL of the admin listener
	ready   time.Duration
	serving chan struct{} // closed after s3 and admin are set
	exited  chan struct{} // closed after err is set
	err     error

	mu  sync.Mutex
	log bytes.Buffer // what it wrote to stderr
}

// environment returns this process's environment without what would configure
// a server or an S3 client, and with vars.
func environment(vars ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "STEMMA_") && !strings.HasPrefix(v, "MINIO_") && !strings.HasPrefix(v, "AWS_") {
			env = append(env, v)
		}
	}
	return append(env, vars...)
}

// spawn starts a server on dir at free ports of the loopback; it does not wait.
func spawn(t testing.TB, dir string, args ...string) *process {
	t.Helper()
	return spawnWith(t, nil, dir, args...)
}

// spawnWith is spawn with more variables in the environment.
func spawnWith(t testing.TB, env []string, dir string, args ...string) *process {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{serving: make(chan struct{}), exited: make(chan struct{})}
	p.cmd = exec.Command(bin, append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--log-format", "json", "--ballast-bytes", "1MiB"}, args...)...)
	p.cmd.Env = append(environment("STEMMA_ROOT_ACCESS_KEY="+testAccess, "STEMMA_ROOT_SECRET_KEY="+testSecret), env...)
	p.launch(t)
	return p
}

// launch starts p.cmd. It is killed at the end of the test if it still runs then.
func (p *process) launch(t testing.TB) {
	t.Helper()
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.readLog(stderr)
	t.Cleanup(p.kill)
}

// readLog keeps what the server says, learns its addresses, and waits for its end.
func (p *process) readLog(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.log.Write(append(lines.Bytes(), '\n'))
		p.mu.Unlock()
		var l struct{ Msg, S3, Admin string }
		if err := json.Unmarshal(lines.Bytes(), &l); err == nil && l.Msg == "serving" && p.s3 == "" {
			p.s3, p.admin = "http://"+l.S3, "http://"+l.Admin
			close(p.serving)
		}
	}
	p.err = p.cmd.Wait()
	close(p.exited)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// start is spawn, and waits until the server is ready.
func start(t testing.TB, dir string, args ...string) *process {
	t.Helper()
	p := spawn(t, dir, args...)
	began := time.Now()
	late := time.After(2 * time.Minute)
	select {
	case <-p.serving:
	case <-p.exited:
		t.Fatalf("server ended: %v\n%s", p.err, p.output())
	case <-late:
		t.Fatalf("server does not serve\n%s", p.output())
	}
	for p.status("/health/ready") != http.StatusOK {
		select {
		case <-p.exited:
			t.Fatalf("server ended: %v\n%s", p.err, p.output())
		case <-late:
			t.Fatalf("server is not ready\n%s", p.output())
		case <-time.After(2 * time.Millisecond):
		}
	}
	p.ready = time.Since(began)
	return p
}

// status returns the status code of an admin path, 0 when nobody answers.
func (p *process) status(path string) int {
	res, err := http.Get(p.admin + path)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

// kill ends the server with SIGKILL and waits.
func (p *process) kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(err)
	}
	<-p.exited
}

// stop ends the server with SIGTERM; it must exit with 0 and have logged no
// warning and no error.
func (p *process) stop(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		t.Fatalf("server does not end\n%s", p.output())
	}
	if p.err != nil {
		t.Fatalf("server ended with %v\n%s", p.err, p.output())
	}
	p.checkLog(t)
}

// checkLog fails the test for warnings and errors that the server logged.
func (p *process) checkLog(t testing.TB) {
	t.Helper()
	for line := range strings.Lines(p.output()) {
		bad := strings.Contains(line, `"level":"WARN"`) || strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "DATA RACE")
		if bad && !strings.Contains(line, "O_DIRECT") { // a file system without it gets one warning
			t.Errorf("server logged: %s", line)
		}
	}
}

// client returns an S3 client that never retries.
func (p *process) client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(p.s3),
		Region:       "us-east-1",
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(testAccess, testSecret, ""),
		Retryer:      aws.NopRetryer{},
		HTTPClient:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: time.Minute},
	})
}

// withHeader adds a signed header to one request.
func withHeader(key, value string) func(*s3.Options) {
	return s3.WithAPIOptions(smithyhttp.SetHeaderValue(key, value))
}

// at makes a read see the bucket as of an LSN.
func at(lsn wal.LSN) func(*s3.Options) { return withHeader(headerAt, lsn.String()) }

// rawHeader returns a header of an answer, which the SDK does not know of.
func rawHeader(md middleware.Metadata, name string) string {
	if res, ok := awsmiddleware.GetRawResponse(md).(*smithyhttp.Response); ok {
		return res.Header.Get(name)
	}
	return ""
}

// lsnOf returns the LSN that an answer names.
func lsnOf(md middleware.Metadata) (wal.LSN, error) {
	return wal.ParseLSN(rawHeader(md, "X-Stemma-Lsn"))
}

// stemma runs the program with the server's address and keys in its
// environment and returns what it wrote.
func (p *process) stemma(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	bin, err := binary()
	if err != nil {
		return "", "", err
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = environment("STEMMA_ENDPOINT="+p.s3, "STEMMA_ADMIN_ENDPOINT="+p.admin, "STEMMA_ROOT_ACCESS_KEY="+testAccess, "STEMMA_ROOT_SECRET_KEY="+testSecret)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}
