package mount

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"stemma/client"
)

// errnoOf returns what a program sees of an error of the server.
func errnoOf(err error) syscall.Errno {
	var e *client.Error
	var no syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &no) && !errors.As(err, new(*net.OpError)):
		return no
	case !errors.As(err, &e):
		return syscall.EIO // the server cannot be reached
	}
	switch e.Code {
	case "NoSuchKey", "NoSuchBucket", "NoSuchSnapshot":
		return syscall.ENOENT
	case "AccessDenied", "BucketProtected":
		return syscall.EACCES
	case "BucketReadOnly":
		return syscall.EROFS
	case "StorageFull":
		return syscall.ENOSPC
	case "QuotaExceeded":
		return syscall.EDQUOT
	case "RequestTooLarge":
		return syscall.EFBIG
	case "InvalidRequest":
		return syscall.EOPNOTSUPP
	case "PreconditionFailed":
		return syscall.EEXIST
	}
	return syscall.EIO
}

// retry carries out a request again while the server refuses it for its load, or cannot be reached, up to the mount's
// patience. One that is not the same if it is done twice is repeated only where it was surely not done.
func (m *FS) retry(repeatable bool, request func(ctx context.Context) error) error {
	wait, until := 10*time.Millisecond, time.Now().Add(m.o.Patience)
	for {
		m.requests.Add(1)
		err := request(m.ctx)
		if err == nil || !passing(err, repeatable) || time.Now().Add(wait).After(until) {
			return err
		}
		select {
		case <-m.ctx.Done():
			return err
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Second)
	}
}

func passing(err error, repeatable bool) bool {
	if e := new(client.Error); errors.As(err, &e) {
		return e.Code == "SlowDown" || e.Code == "ServiceUnavailable"
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	return repeatable && !errors.Is(err, context.Canceled)
}
