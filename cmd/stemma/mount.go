package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"stemma/mount"
)

func newMount() *cobra.Command {
	var f adminFlags
	var o mount.Options
	var dirtyMiB int64
	cmd := &cobra.Command{
		Use:   "mount BUCKET DIR",
		Short: "Mount a bucket or fork as a directory",
		Long: "Mount serves a bucket as a POSIX directory by FUSE, until it is interrupted or DIR is unmounted. Closing a file\n" +
			"commits what was written to it, and fsync does at once: what it has returned for is durable. DIR/.snapshot/POINT is\n" +
			"the bucket at a point in time. An interrupt writes everything back and unmounts; what is open then works on until\n" +
			"it is closed. Wants /dev/fuse, and root or fusermount3.",
		Args: exactArgs("BUCKET", "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.who.nativeClient(f.endpoint)
			if err != nil {
				return err
			}
			through, err := f.who.transport()
			if err != nil {
				return err
			}
			through.MaxIdleConnsPerHost, through.IdleConnTimeout = 64, 5*time.Second // the server waits for 10
			o.Bucket, o.MaxDirtyBytes = args[0], dirtyMiB<<20
			o.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			m, err := mount.Mount(cmd.Context(), c, args[1], o)
			if err != nil {
				return mountError(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "mounted %s at %s\n", args[0], args[1])
			return serveMount(cmd.Context(), m, args[1], o.Log)
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&o.At, "at", "", "mount the bucket read-only as it was: an LSN, an RFC 3339 time, how long ago, such as -5m, or the name of a snapshot")
	fl.BoolVar(&o.ReadOnly, "read-only", false, "refuse writes")
	fl.BoolVar(&o.AllowOther, "allow-other", false, "let other users in")
	fl.DurationVar(&o.TTL, "ttl", time.Second, "for how long names and attributes are believed without asking the server")
	fl.Int64Var(&dirtyMiB, "dirty-mib", 32, "MiB of changes that may wait in memory")
	fl.DurationVar(&o.WriteBackAfter, "write-back-after", 5*time.Second, "for how long changes wait, unless fsync or close write them back")
	fl.DurationVar(&o.Patience, "patience", 30*time.Second, "for how long a request is repeated while the server is away or overloaded")
	return cmd
}

// mountError says what to do about an error of the kernel.
func mountError(err error) error {
	var path *os.PathError
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return fmt.Errorf("%w; a mount that was killed is there: umount it first", err)
	case errors.Is(err, os.ErrNotExist) && errors.As(err, &path) && path.Op == "stat":
		return fmt.Errorf("%w; make the directory first", err)
	case errors.Is(err, os.ErrPermission), errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w; mounting wants /dev/fuse, and root or fusermount3", err)
	}
	return err
}

// serveMount waits until nothing is mounted any more, which the end of ctx brings about.
func serveMount(ctx context.Context, m *mount.FS, dir string, log *slog.Logger) error {
	stop := context.AfterFunc(ctx, func() {
		err := m.Unmount(dir, false)
		if errors.Is(err, syscall.EBUSY) {
			log.Warn("files are open: the mount ends when they are closed", "dir", dir)
			err = m.Unmount(dir, true)
		}
		if err != nil {
			log.Error("cannot unmount", "dir", dir, "err", err)
		}
	})
	defer stop()
	err := m.Wait()
	s := m.Stats()
	log.Info("unmounted", "dir", dir, "requests", s.Requests, "commits", s.Commits, "bytes_written", s.BytesWritten)
	return err
}
