package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func newNBD() *cobra.Command {
	var f adminFlags
	var d nbdDevice
	var listen string
	var size byteSize
	cmd := &cobra.Command{
		Use:   "nbd",
		Short: "Serve an object as a network block device",
		Long: "Nbd serves one object to NBD clients (fixed newstyle), on a unix socket or a loopback address, until it is\n" +
			"interrupted. Writes wait in memory, up to 4 MiB, and a flush commits them at once: it, and a write with FUA,\n" +
			"returns when they are durable. Trims take space away. There is no authentication: who can connect can write.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := &d.object
			if o.bucket == "" || o.key == "" {
				return usagef("nbd wants --bucket and --key")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal ends the process
			var err error
			if o.c, err = f.who.nativeClient(f.endpoint); err != nil {
				return err
			}
			defer o.close()
			if err := d.open(ctx, uint64(size)); err != nil {
				return fmt.Errorf("open %s/%s: %w", o.bucket, o.key, err)
			}
			ln, err := nbdListen(listen)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "serving %d bytes on %s\n", d.size, ln.Addr())
			return serveNBD(ctx, ln, &d, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&d.object.bucket, "bucket", "", "bucket of the object")
	fl.StringVar(&d.object.key, "key", "", "key of the object")
	fl.StringVar(&listen, "listen", "127.0.0.1:10809", "loopback address, or unix:PATH")
	fl.Var(&size, "size", "make the object, or grow it, to so many bytes, such as 10GiB")
	fl.DurationVar(&d.object.patience, "patience", 30*time.Second, "for how long a request is repeated while the server is away or overloaded")
	return cmd
}

func nbdListen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return net.Listen("unix", path)
	}
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, usagef("--listen %q: want a loopback address or unix:PATH", address)
	}
	return net.Listen("tcp", address)
}

// nbdMaxConns is how many clients are served at once; others wait.
const nbdMaxConns = 16

// serveNBD serves clients until ctx ends, then commits what waits.
func serveNBD(ctx context.Context, ln net.Listener, d *nbdDevice, log *slog.Logger) error {
	var conns sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for slots := make(chan struct{}, nbdMaxConns); ; {
		slots <- struct{}{}
		conn, err := ln.Accept()
		if err != nil {
			conns.Wait()
			if ctx.Err() != nil {
				err = nil
			}
			return errors.Join(err, d.flush(context.WithoutCancel(ctx)))
		}
		conns.Go(func() {
			defer func() { <-slots }()
			end := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer end()
			defer conn.Close()
			c := nbdConn{Conn: conn, d: d, ctx: context.WithoutCancel(ctx), log: log}
			_ = c.serve() // a client that goes away, or is none
		})
	}
}
