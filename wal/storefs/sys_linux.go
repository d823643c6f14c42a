package storefs

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// aligned reports whether p starts at an address that direct I/O accepts.
func aligned(p []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(p)))%BlockSize == 0
}

// setDirect switches O_DIRECT of an open file. It does what an open with the
// flag does, and lets vfs open the file.
func setDirect(fd uintptr, on bool) error {
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	flags &^= unix.O_DIRECT
	if on {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(fd, unix.F_SETFL, flags)
	return os.NewSyscallError("fcntl", err)
}

// punchHole deallocates [off, off+n) of the named file.
func punchHole(name string, off, n int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fallocate(f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n); err != nil {
		return &os.PathError{Op: "punch hole", Path: name, Err: err}
	}
	return nil
}

// allocate makes f at least size bytes long, with all its blocks allocated.
func allocate(f *os.File, size int64) error {
	if err := fallocate(f, 0, 0, size); err != nil {
		return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
	}
	return nil
}

func fallocate(f *os.File, mode uint32, off, n int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), mode, off, n)
		if err != unix.EINTR {
			return err
		}
	}
}

// allocated returns how many bytes from the start of f count as held: its size,
// or less when it has holes.
func allocated(f *os.File) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return min(st.Size, st.Blocks*512), nil
}

// statBlocks returns the blocks of 512 bytes that a file takes; sys is the
// system's part of its FileInfo.
func statBlocks(sys any) (blocks int64, ok bool) {
	st, ok := sys.(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Blocks, true
}
