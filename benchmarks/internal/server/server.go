// Package server runs the real program for a benchmark and watches its memory.
package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// The root keys of every server.
const AccessKey, SecretKey = "benchmark", "benchmark-secret"

// Server is a running stemma serve.
type Server struct {
	// S3 is a client of it that signs.
	S3 *minio.Client
	// Endpoint is the URL of S3.
	Endpoint string
	// Admin is the URL of health and metrics.
	Admin string
	cmd   *exec.Cmd
	out   io.ReadCloser
}

// TempDir makes a directory below dir, or below the default one if dir is
// empty, and returns it with what removes it.
func TempDir(dir string) (string, func(), error) {
	d, err := os.MkdirTemp(dir, "stemma-benchmark")
	if err != nil {
		return "", nil, err
	}
	return d, func() {
		if err := os.RemoveAll(d); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}, nil
}

// Build builds the program into dir and returns its path.
func Build(dir string) (string, error) {
	bin := filepath.Join(dir, "stemma")
	cmd := exec.Command("go", "build", "-o", bin, "stemma/cmd/stemma")
	cmd.Stderr = os.Stderr
	return bin, cmd.Run()
}

// Start runs bin on the data directory with its defaults, at free ports of the
// loopback, and waits until it serves.
func Start(bin, data string, args ...string) (*Server, error) {
	return StartWith(nil, bin, data, args...)
}

// StartWith is Start with more variables in the environment.
func StartWith(env []string, bin, data string, args ...string) (*Server, error) {
	s := &Server{cmd: exec.Command(bin, append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0",
		"--admin-listen", "127.0.0.1:0", "--log-format", "json"}, args...)...)}
	s.cmd.Env = append(append(os.Environ(), "STEMMA_ROOT_ACCESS_KEY="+AccessKey, "STEMMA_ROOT_SECRET_KEY="+SecretKey), env...)
	var err error
	if s.out, err = s.cmd.StderrPipe(); err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(s.out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct{ Msg, S3, Admin string }
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.Msg == "serving" {
			go func() { // ends with the process
				for lines.Scan() {
					relay(lines.Bytes())
				}
			}()
			s.Endpoint, s.Admin = "http://"+l.S3, "http://"+l.Admin
			s.S3, err = minio.New(l.S3, &minio.Options{Creds: credentials.NewStaticV4(AccessKey, SecretKey, ""), Region: "us-east-1",
				Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}})
			return s, err
		}
		relay(lines.Bytes())
	}
	return nil, fmt.Errorf("server ended: %w", s.cmd.Wait())
}

// relay shows a line of the server's log, if it is more than information.
func relay(line []byte) {
	if !bytes.Contains(line, []byte(`"level":"INFO"`)) {
		fmt.Fprintf(os.Stderr, "%s\n", line)
	}
}

// Pid is the number of its process.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Stop ends the server cleanly.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.cmd.Wait()
}

// Kill ends the server at once, with SIGKILL.
func (s *Server) Kill() error {
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	if err := s.cmd.Wait(); err == nil {
		return errors.New("server: it ended by itself")
	}
	return nil
}

// Pause stops the process where it is, until Resume.
func (s *Server) Pause() error { return s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on.
func (s *Server) Resume() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

// Fork makes bucket name a fork of source.
func (s *Server) Fork(ctx context.Context, bin, source, name string) error {
	return s.Command(ctx, bin, "fork", source, name)
}

// Command runs a command of the program against the server.
func (s *Server) Command(ctx context.Context, bin string, args ...string) error {
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), "STEMMA_ENDPOINT="+s.S3.EndpointURL().String(), "STEMMA_ROOT_ACCESS_KEY="+AccessKey, "STEMMA_ROOT_SECRET_KEY="+SecretKey)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// Counters returns the counters of the store: metrics that begin with stemma_ and
// have no label.
func (s *Server) Counters(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	all := make(map[string]float64)
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil && strings.HasPrefix(name, "stemma_") && !strings.Contains(name, "{") {
			all[name] = n
		}
	}
	return all, lines.Err()
}

// PresignedPut returns a URL that writes an object for a day without a signature
// to compute.
func (s *Server) PresignedPut(ctx context.Context, bucket, key string) (string, error) {
	u, err := s.S3.PresignedPutObject(ctx, bucket, key, 24*time.Hour)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// PresignedGet returns a URL that reads an object for a day without a signature
// to compute.
func (s *Server) PresignedGet(ctx context.Context, bucket, key string) (string, error) {
	u, err := s.S3.PresignedGetObject(ctx, bucket, key, 24*time.Hour, nil)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}
