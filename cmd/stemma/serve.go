package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"stemma/pageserver"
)

const (
	defaultRegion = "us-east-1"
	defaultData   = "./stemma-data"

	defaultAdminListen = "127.0.0.1:9001"
)

// serveFlags are the flags of stemma serve.
type serveFlags struct {
	data, listen, adminListen string
	websiteListen             string
	websiteDomains            []string
	region                    string
	domains                   []string
	logLevel                  slog.Level
	logFormat                 string
	shutdownTimeout           time.Duration
	window                    string
	undoTime                  time.Duration
	backgroundShare           int
	abortUploadsAfter         time.Duration
	lifecycleDay              time.Duration
	accessLog                 string
	accessLogFormat           string
	bucketLogsEvery           time.Duration
	masterKeyFile             string
	encryption                encryptionFlags
	tls                       tlsFlags

	cacheBytes, memlayerBytes                    byteSize
	walSegmentBytes, walFlushBytes, walStopBytes byteSize
	ballastBytes                                 byteSize
}

func newServe() *cobra.Command {
	f := serveFlags{
		cacheBytes: 128 << 20, memlayerBytes: 64 << 20,
		walSegmentBytes: 32 << 20, walFlushBytes: 256 << 20, walStopBytes: 512 << 20,
	}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: "Serve opens the store in the data directory, which is made if need be, recovers it, and serves S3 until\n" +
			"SIGTERM or SIGINT. Root keys come from STEMMA_ROOT_ACCESS_KEY and STEMMA_ROOT_SECRET_KEY (or MINIO_ROOT_USER\n" +
			"and MINIO_ROOT_PASSWORD); without them a pair is made, stored in the data directory and shown once.\n" +
			"GOMEMLIMIT and GOGC are honoured as by any Go program.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.serve(cmd.Context(), cmd.ErrOrStderr()) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.data, "data", defaultData, "data directory")
	fl.StringVar(&f.listen, "listen", "127.0.0.1:9000", "address of S3")
	fl.StringVar(&f.adminListen, "admin-listen", defaultAdminListen, "address of health, metrics and administration")
	fl.StringVar(&f.websiteListen, "website-listen", "", "address of buckets as websites, such as 127.0.0.1:9002; empty: there are none")
	fl.StringSliceVar(&f.websiteDomains, "website-domain", nil, "host names below which websites are named by their bucket (default those of --domain); any other host name is that of a bucket")
	fl.StringVar(&f.region, "region", defaultRegion, "region that GetBucketLocation answers; requests may name any")
	fl.StringSliceVar(&f.domains, "domain", nil, "host names below which buckets are host names (default localhost, s3.localhost)")
	fl.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "least level that is logged: debug, info, warn, error")
	fl.StringVar(&f.logFormat, "log-format", "text", "form of the log on standard error: text, json")
	fl.DurationVar(&f.shutdownTimeout, "shutdown-timeout", 30*time.Second, "how long requests under way may take to end after SIGTERM")
	fl.DurationVar(&f.abortUploadsAfter, "abort-uploads-after", 7*24*time.Hour, "age at which multipart uploads that were not completed are aborted; 0: never")
	fl.DurationVar(&f.lifecycleDay, "lifecycle-day", 24*time.Hour, "how long a day of a lifecycle rule is; shorter ones are for tests")
	fl.StringVar(&f.accessLog, "access-log", "", "file to record requests in; SIGHUP has it opened again")
	fl.StringVar(&f.accessLogFormat, "access-log-format", "s3", "form of the access log: s3 (server access log), json")
	fl.DurationVar(&f.bucketLogsEvery, "bucket-logs-every", 0, "for how long the records of a bucket with logging wait until they are delivered; 0: 5m, or half of a shorter --lifecycle-day")
	fl.StringVar(&f.window, "window", "24h", "how far back new root buckets can be read at every moment: a duration, or forever")
	fl.DurationVar(&f.undoTime, "undo-time", 24*time.Hour, "how long a deleted root bucket can be undeleted; 0: not at all")
	f.encryption.add(fl)
	f.tls.add(fl)
	fl.StringVar(&f.masterKeyFile, "master-key-file", "", "file of the keys that seal secrets, unless "+masterKeyVar+" holds them (default: "+masterKeyFile+" in the data directory)")
	fl.IntVar(&f.backgroundShare, "background-share", 50, "percent of one processor's time that compaction and collection may take")
	fl.Var(&f.cacheBytes, "cache-bytes", "block cache")
	fl.Var(&f.memlayerBytes, "memlayer-bytes", "size at which the memlayer is flushed")
	fl.Var(&f.walSegmentBytes, "wal-segment-bytes", "size of a log segment, a multiple of 4 KiB")
	fl.Var(&f.walFlushBytes, "wal-flush-bytes", "log since the last flush at which the next one starts")
	fl.Var(&f.walStopBytes, "wal-stop-bytes", "log since the last flush at which writes are answered with SlowDown")
	fl.Var(&f.ballastBytes, "ballast-bytes", "reserve on disk for flush and catalog when the disk is full; 0: 1 GiB or 2 % of the disk, whichever is less")
	return cmd
}

// validate refuses what is wrong before anything is touched.
func (f *serveFlags) validate() error {
	for _, a := range []struct{ flag, addr string }{{"listen", f.listen}, {"admin-listen", f.adminListen}, {"website-listen", f.websiteListen}} {
		if _, err := net.ResolveTCPAddr("tcp", a.addr); err != nil {
			return usagef("--%s %q: %w", a.flag, a.addr, err)
		}
	}
	if err := f.tls.validate(); err != nil {
		return err
	}
	if _, err := pageserver.ParseWindow(f.window); err != nil {
		return usagef("--window: %w", err)
	}
	switch {
	case f.undoTime < 0:
		return usagef("--undo-time %v is negative", f.undoTime)
	case f.backgroundShare < 1 || f.backgroundShare > 100:
		return usagef("--background-share %d: want 1 to 100", f.backgroundShare)
	case f.data == "":
		return usagef("--data is empty")
	case f.logFormat != "text" && f.logFormat != "json":
		return usagef("--log-format %q: want text or json", f.logFormat)
	case f.abortUploadsAfter < 0:
		return usagef("--abort-uploads-after %v: want a duration such as 168h, or 0 for never", f.abortUploadsAfter)
	case f.lifecycleDay <= 0:
		return usagef("--lifecycle-day %v: want a duration such as 24h", f.lifecycleDay)
	case f.accessLogFormat != "s3" && f.accessLogFormat != "json":
		return usagef("--access-log-format %q: want s3 or json", f.accessLogFormat)
	case f.bucketLogsEvery < 0:
		return usagef("--bucket-logs-every %v: want a duration such as 5m", f.bucketLogsEvery)
	case f.walSegmentBytes%4096 != 0 || f.walSegmentBytes < 16<<10:
		return usagef("--wal-segment-bytes %s: want a multiple of 4 KiB, at least 16 KiB", &f.walSegmentBytes)
	case f.walFlushBytes > f.walStopBytes:
		return usagef("--wal-flush-bytes %s is above --wal-stop-bytes %s", &f.walFlushBytes, &f.walStopBytes)
	}
	return nil
}

func (f *serveFlags) logger(out io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: f.logLevel}
	if f.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(out, o))
	}
	return slog.New(slog.NewTextHandler(out, o))
}

// serve runs the server until ctx ends or a listener fails.
func (f *serveFlags) serve(ctx context.Context, stderr io.Writer) error {
	if err := f.validate(); err != nil {
		return err
	}
	key, err := rootKeys(f.data, os.LookupEnv, stderr)
	if err != nil {
		return err
	}
	ring, err := masterKeys(f.data, f.masterKeyFile, os.LookupEnv)
	if err != nil {
		return err
	}
	log := f.logger(stderr)
	o := pageserver.Options{
		Dir: f.data, RootKey: key, MasterKeys: ring, Listen: f.listen, AdminListen: f.adminListen, WebsiteListen: f.websiteListen, Logger: log, BallastBytes: int64(f.ballastBytes),
		AbortUploadsAfter: f.abortUploadsAfter, LifecycleDay: f.lifecycleDay,
		AccessLog: f.accessLogOptions(), LogsEvery: f.bucketLogsEvery,
	}
	if err := f.encryption.apply(&o); err != nil {
		return err
	}
	if err := f.tls.apply(&o, log); err != nil {
		return err
	}
	if o.Store.Window, err = pageserver.ParseWindow(f.window); err != nil {
		return err
	}
	o.Store.UndoTime, o.Store.BackgroundShare = f.undoTime, f.backgroundShare
	if o.Store.Window == 0 { // zero means the default there
		o.Store.Window = -1
	}
	if o.Store.UndoTime == 0 {
		o.Store.UndoTime = -1
	}
	o.Store.CacheBytes = int64(f.cacheBytes)
	o.Store.MemlayerBytes = int64(f.memlayerBytes)
	o.Store.WALSegmentBytes = int64(f.walSegmentBytes)
	o.Store.WALFlushBytes = int64(f.walFlushBytes)
	o.Store.WALStopBytes = int64(f.walStopBytes)
	o.S3.Domains, o.S3.WebsiteDomains, o.S3.Region = f.domains, f.websiteDomains, f.region
	if err := testHooks(&o.Store, os.LookupEnv, log); err != nil {
		return err
	}
	srv, err := pageserver.Start(o)
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for running := true; running; {
		select {
		case <-hup:
			srv.ReopenLogs()
		case <-ctx.Done():
			running = false
		case <-srv.Failed():
			running = false
		}
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.shutdownTimeout)
	defer cancel()
	return errors.Join(srv.Err(), srv.Shutdown(drain))
}

// accessLogOptions says where requests are recorded.
func (f *serveFlags) accessLogOptions() pageserver.AccessLogOptions {
	o := pageserver.AccessLogOptions{JSON: f.accessLogFormat == "json"}
	if f.accessLog != "" {
		o.Open = func() (pageserver.AccessFile, error) {
			return os.OpenFile(f.accessLog, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		}
	}
	return o
}

// byteSize is a flag value such as 64MiB.
type byteSize int64

// Set implements pflag.Value.
func (b *byteSize) Set(s string) error {
	n, err := humanize.ParseBytes(s)
	if err != nil || n > math.MaxInt64 {
		return fmt.Errorf("want a size such as 64MiB")
	}
	*b = byteSize(n)
	return nil
}

// String implements pflag.Value.
func (b *byteSize) String() string {
	for _, u := range []struct {
		bytes byteSize
		name  string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if *b != 0 && *b%u.bytes == 0 {
			return fmt.Sprintf("%d%s", *b/u.bytes, u.name)
		}
	}
	return fmt.Sprint(int64(*b))
}

// Type implements pflag.Value.
func (b *byteSize) Type() string { return "size" }
