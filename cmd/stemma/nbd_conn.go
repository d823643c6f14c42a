package main

import (
	"bufio"
	"context"
	wire "encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"

	"stemma/client"
)

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
	nbdBlockBytes                      = 4096 // of a page, unless the bucket says otherwise
)

// nbdConn is one client. It names whatever export it likes: there is one.
type nbdConn struct {
	net.Conn
	d        *nbdDevice
	ctx      context.Context
	log      *slog.Logger
	noZeroes bool

	answering sync.Mutex // held by who writes an answer
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
		for _, n := range []uint32{1, nbdBlockBytes, nbdMaxBytes} {
			blocks = wire.BigEndian.AppendUint32(blocks, n)
		}
		err = errors.Join(c.optReply(option, nbdRepInfo, export), c.optReply(option, nbdRepInfo, blocks), c.optReply(option, nbdRepAck, nil))
		return option == nbdOptGo, err
	}
	return false, c.optReply(option, nbdRepUnsupported, nil)
}

// nbdCommand is the head of a request.
type nbdCommand struct {
	Magic       uint32
	Flags, Kind uint16
	Cookie, Off uint64
	Len         uint32
}

// transmit takes requests. Changes get their places in the order in which they come; reads and flushes are carried out side by side, and
// answered as they are done.
func (c *nbdConn) transmit() error {
	var work sync.WaitGroup
	defer work.Wait()
	for in := bufio.NewReaderSize(c.Conn, 64<<10); ; {
		var r nbdCommand
		if err := wire.Read(in, wire.BigEndian, &r); err != nil {
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
			if _, err := io.ReadFull(in, data); err != nil {
				return err
			}
		}
		if r.Kind == nbdCmdDisconnect {
			work.Wait()
			return c.d.flush(c.ctx)
		}
		rest, err := c.begin(&r, data)
		if rest == nil {
			if err := c.answer(&r, nil, err); err != nil {
				return err
			}
			continue
		}
		if err := c.d.room.Acquire(c.ctx, r.room()); err != nil {
			return err
		}
		work.Go(func() {
			defer c.d.room.Release(r.room())
			answer, err := rest()
			if c.answer(&r, answer, err) != nil {
				_ = c.Close() // the reader ends
			}
		})
	}
}

// room is what counts of a request while it is under way.
func (r *nbdCommand) room() int64 {
	if r.Kind != nbdCmdRead {
		return nbdReadLeast
	}
	return max(int64(r.Len), nbdReadLeast)
}

// Errors of the protocol.
var (
	errNBDInvalid = errors.New("nbd: invalid request")
	errNBDNoSpace = errors.New("nbd: behind the end")
)

// begin carries out a request as far as that is done in the order of requests, and returns the rest of it, if there is one.
func (c *nbdConn) begin(r *nbdCommand, data []byte) (rest func() ([]byte, error), err error) {
	outside := r.Off > c.d.size || uint64(r.Len) > c.d.size-r.Off
	flush := func() ([]byte, error) { return nil, c.d.flush(c.ctx) }
	change := client.PageOp{Off: r.Off}
	switch r.Kind {
	case nbdCmdFlush:
		return flush, nil
	case nbdCmdRead:
		if outside || r.Len > nbdMaxBytes {
			return nil, errNBDInvalid
		} else if r.Len == 0 {
			return nil, nil
		}
		return func() ([]byte, error) { return c.d.read(c.ctx, r.Off, int(r.Len)) }, nil
	case nbdCmdWrite:
		change.Kind, change.Data = client.PageWrite, data
	case nbdCmdTrim, nbdCmdZeroes:
		change.Kind, change.Len = client.PageZero, uint64(r.Len)
	default:
		return nil, errNBDInvalid
	}
	if outside {
		return nil, errNBDNoSpace
	}
	if r.Len > 0 {
		err = c.d.add(c.ctx, change)
	}
	if err != nil || r.Flags&nbdFUA == 0 {
		return nil, err
	}
	return flush, nil
}

// answer answers a request.
func (c *nbdConn) answer(r *nbdCommand, data []byte, err error) error {
	head := wire.BigEndian.AppendUint32(make([]byte, 0, 16), nbdReply)
	head = wire.BigEndian.AppendUint32(head, c.code(err))
	head = wire.BigEndian.AppendUint64(head, r.Cookie)
	c.answering.Lock()
	defer c.answering.Unlock()
	out := net.Buffers{head, data}
	_, err = out.WriteTo(c.Conn)
	return err
}

// code returns the protocol's number of an error.
func (c *nbdConn) code(err error) uint32 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errNBDInvalid):
		return nbdInvalid
	case errors.Is(err, errNBDNoSpace):
		return nbdNoSpace
	}
	c.log.Error("request failed", "err", err)
	if client.IsCode(err, "QuotaExceeded", "StorageFull") {
		return nbdNoSpace
	}
	return nbdIOError
}
