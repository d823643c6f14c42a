package main

import (
	"context"
	wire "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"stemma/pageserver/object"
)

func newNBD() *cobra.Command {
	var f adminFlags
	var d nbdDevice
	var listen string
	var size int64
	cmd := &cobra.Command{
		Use:   "nbd",
		Short: "Serve an object as a network block device",
		Long: "Nbd serves one object to NBD clients (fixed newstyle), on a unix socket or a loopback address, until it is\n" +
			"interrupted. Writes wait in memory, up to 4 MiB, and a flush commits them at once: it, and a write with FUA,\n" +
			"returns when they are durable. Trims take space away. There is no authentication: who can connect can write.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if d.bucket == "" || d.key == "" || size < 0 {
				return usagef("nbd wants --bucket and --key, and no negative --size")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			d.flags = &f
			if err := d.open(ctx, uint64(size)); err != nil {
				return fmt.Errorf("open %s/%s: %w", d.bucket, d.key, err)
			}
			ln, err := nbdListen(listen)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "serving %d bytes on %s\n", d.size, ln.Addr())
			return serveNBD(ctx, ln, &d)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&d.bucket, "bucket", "", "bucket of the object")
	cmd.Flags().StringVar(&d.key, "key", "", "key of the object")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:10809", "loopback address, or unix:PATH")
	cmd.Flags().Int64Var(&size, "size", 0, "make the object, or grow it, to so many bytes")
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

// serveNBD serves clients until ctx ends, then commits what waits.
func serveNBD(ctx context.Context, ln net.Listener, d *nbdDevice) error {
	var conns sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			conns.Wait()
			if ctx.Err() != nil {
				err = nil
			}
			return errors.Join(err, d.flush(context.WithoutCancel(ctx)))
		}
		conns.Go(func() {
			end := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer end()
			defer conn.Close()
			c := nbdConn{Conn: conn, d: d, ctx: context.WithoutCancel(ctx)}
			_ = c.serve() // a client that goes away, or is none
		})
	}
}

// Numbers of the NBD protocol.
const (
	nbdMagic       = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOptionMagic = 0x49484156454f5054 // "IHAVEOPT"
	nbdOptReply    = 0x3e889045565a9
	nbdRequest     = 0x25609513
	nbdReply       = 0x67446698

	nbdOptExportName, nbdOptAbort, nbdOptList, nbdOptInfo, nbdOptGo = 1, 2, 3, 6, 7

	nbdRepAck, nbdRepServer, nbdRepInfo                   = 1, 2, 3
	nbdRepUnsupported, nbdRepInvalid, nbdRepTooBig uint32 = 1<<31 + 1, 1<<31 + 3, 1<<31 + 9

	nbdCmdRead, nbdCmdWrite, nbdCmdDisconnect, nbdCmdFlush, nbdCmdTrim, nbdCmdZeroes = 0, 1, 2, 3, 4, 6

	nbdFUA = 1
	// HAS_FLAGS, SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES, CAN_MULTI_CONN.
	nbdExportFlags = 1 | 4 | 8 | 32 | 64 | 256

	nbdIOError, nbdInvalid, nbdNoSpace = 5, 22, 28
	nbdMaxOption                       = 8 << 10
)

// nbdConn is one client. It names whatever export it likes: there is one.
type nbdConn struct {
	net.Conn
	d        *nbdDevice
	ctx      context.Context
	noZeroes bool
}

func (c *nbdConn) write(values ...any) error {
	var p []byte
	for _, v := range values {
		var err error
		if p, err = wire.Append(p, wire.BigEndian, v); err != nil {
			return err
		}
	}
	_, err := c.Conn.Write(p)
	return err
}

func (c *nbdConn) read(v any) error { return wire.Read(c.Conn, wire.BigEndian, v) }

func (c *nbdConn) serve() error {
	if err := c.write(uint64(nbdMagic), uint64(nbdOptionMagic), uint16(3)); err != nil {
		return err
	}
	var flags uint32
	if err := c.read(&flags); err != nil {
		return err
	}
	if c.noZeroes = flags&2 != 0; flags&^3 != 0 {
		return errors.New("nbd: unknown flags of a client")
	}
	for {
		var h struct {
			Magic       uint64
			Option, Len uint32
		}
		if err := c.read(&h); err != nil {
			return err
		}
		if h.Magic != nbdOptionMagic || h.Len > nbdMaxOption {
			return errors.New("nbd: bad option")
		}
		data := make([]byte, h.Len)
		if _, err := io.ReadFull(c.Conn, data); err != nil {
			return err
		}
		transmit, err := c.option(h.Option, data)
		if err != nil {
			return err
		}
		if transmit {
			return c.transmit()
		}
	}
}

func (c *nbdConn) optReply(option, kind uint32, data []byte) error {
	return c.write(uint64(nbdOptReply), option, kind, uint32(len(data)), data)
}

// option answers one option, and reports whether the handshake is over.
func (c *nbdConn) option(option uint32, data []byte) (transmit bool, err error) {
	switch option {
	case nbdOptExportName:
		p := make([]byte, 124)
		if c.noZeroes {
			p = nil
		}
		return true, c.write(c.d.size, uint16(nbdExportFlags), p)
	case nbdOptAbort:
		return false, errors.Join(c.optReply(option, nbdRepAck, nil), io.EOF)
	case nbdOptList:
		if len(data) > 0 {
			return false, c.optReply(option, nbdRepInvalid, nil)
		}
		return false, errors.Join(c.optReply(option, nbdRepServer, make([]byte, 4)), c.optReply(option, nbdRepAck, nil))
	case nbdOptInfo, nbdOptGo:
		if len(data) < 6 || uint64(wire.BigEndian.Uint32(data)) > uint64(len(data)-6) {
			return false, c.optReply(option, nbdRepInvalid, nil)
		}
		export := wire.BigEndian.AppendUint64([]byte{0, 0}, c.d.size)
		export = wire.BigEndian.AppendUint16(export, nbdExportFlags)
		blocks := []byte{0, 3}
		for _, n := range []uint32{1, object.DefaultPageBytes, nbdMaxBytes} {
			blocks = wire.BigEndian.AppendUint32(blocks, n)
		}
		err = errors.Join(c.optReply(option, nbdRepInfo, export), c.optReply(option, nbdRepInfo, blocks), c.optReply(option, nbdRepAck, nil))
		return option == nbdOptGo, err
	}
	return false, c.optReply(option, nbdRepUnsupported, nil)
}

// transmit answers requests one after the other.
func (c *nbdConn) transmit() error {
	for {
		var r struct {
			Magic       uint32
			Flags, Kind uint16
			Cookie, Off uint64
			Len         uint32
		}
		if err := c.read(&r); err != nil {
			return err
		}
		if r.Magic != nbdRequest {
			return errors.New("nbd: bad request")
		}
		var data []byte
		if r.Kind == nbdCmdWrite {
			if r.Len > nbdMaxBytes {
				return errors.New("nbd: write too long") // where it ends cannot be trusted
			}
			data = make([]byte, r.Len)
			if _, err := io.ReadFull(c.Conn, data); err != nil {
				return err
			}
		}
		if r.Kind == nbdCmdDisconnect {
			return c.d.flush(c.ctx)
		}
		code, answer := c.carryOut(r.Flags, r.Kind, r.Off, r.Len, data)
		if err := c.write(uint32(nbdReply), code, r.Cookie, answer); err != nil {
			return err
		}
	}
}

// carryOut carries one request out; what it returns is the protocol's error and
// what was read.
func (c *nbdConn) carryOut(flags, kind uint16, off uint64, n uint32, data []byte) (code uint32, answer []byte) {
	var err error
	outside := off > c.d.size || uint64(n) > c.d.size-off
	switch {
	case kind == nbdCmdFlush:
		err = c.d.flush(c.ctx)
	case kind != nbdCmdRead && kind != nbdCmdWrite && kind != nbdCmdTrim && kind != nbdCmdZeroes, kind == nbdCmdRead && (outside || n > nbdMaxBytes):
		return nbdInvalid, nil
	case outside:
		return nbdNoSpace, nil
	case n == 0:
	case kind == nbdCmdRead:
		answer = make([]byte, n)
		err = c.d.read(c.ctx, answer, off)
	case kind == nbdCmdWrite:
		err = c.d.add(c.ctx, object.PageOp{Kind: object.PageWrite, Off: off, Data: data})
	default:
		err = c.d.add(c.ctx, object.PageOp{Kind: object.PageZero, Off: off, Len: uint64(n)})
	}
	if err == nil && flags&nbdFUA != 0 && kind != nbdCmdRead {
		err = c.d.flush(c.ctx)
	}
	if err != nil {
		return nbdIOError, nil
	}
	return 0, answer
}
