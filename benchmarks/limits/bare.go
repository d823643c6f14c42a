package limits

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/valyala/fasthttp"
)

// listening is what a bare server says first, before its address.
const listening = "listening on "

// ServeBare answers on a free port of the loopback until ctx ends: gets and heads as
// if every object had size bytes, everything else with success and no body. It
// writes its address to out first.
func ServeBare(ctx context.Context, size int, out io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	body := make([]byte, size)
	rand.NewChaCha8([32]byte{2}).Read(body) //nolint:errcheck // never fails
	srv := &fasthttp.Server{
		Handler: func(ctx *fasthttp.RequestCtx) {
			if ctx.IsGet() || ctx.IsHead() {
				ctx.Response.SetBodyRaw(body)
				return
			}
			if in := ctx.RequestBodyStream(); in != nil {
				_, _ = io.Copy(io.Discard, in)
			}
		},
		StreamRequestBody: true, ReadBufferSize: 16 << 10, NoDefaultContentType: true, CloseOnShutdown: true,
	}
	defer context.AfterFunc(ctx, func() { _ = srv.Shutdown() })()
	if _, err := fmt.Fprintf(out, "%s%s\n", listening, ln.Addr()); err != nil {
		return errors.Join(err, ln.Close())
	}
	return srv.Serve(ln)
}

// Bare is a running bare server.
type Bare struct {
	Endpoint string // URL
	Pid      int
	cmd      *exec.Cmd
}

// StartBare runs command, which calls ServeBare with its standard output and ends on
// SIGTERM, and waits until it listens.
func StartBare(command ...string) (*Bare, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), listening)
	if !ok {
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("the bare server said %q: %w", line, errors.Join(err, cmd.Wait()))
	}
	return &Bare{Endpoint: "http://" + addr, Pid: cmd.Process.Pid, cmd: cmd}, nil
}

// Stop ends the server.
func (b *Bare) Stop() error {
	return errors.Join(b.cmd.Process.Signal(syscall.SIGTERM), b.cmd.Wait())
}
