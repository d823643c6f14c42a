package pageserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/pageserver/auth"
	"stemma/pageserver/iam"
	"stemma/pageserver/identity"
	"stemma/pageserver/keyring"
	"stemma/pageserver/object"
	"stemma/pageserver/s3api"
	"stemma/timeline"
	"stemma/wal/storefs"
)

// Options of a server. Zero values take the defaults named.
type Options struct {
	// Dir is the data directory; it is made if it does not exist. Required.
	Dir string
	// RootKey may do everything. Required.
	RootKey auth.Key
	// MasterKeys seal the secrets that the store holds. Required.
	MasterKeys *keyring.Ring
	// Listen is the address of S3. Default 127.0.0.1:9000.
	Listen string
	// AdminListen is the address of health, metrics and administration. Default 127.0.0.1:9001.
	AdminListen string
	// WebsiteListen is the address of buckets as websites. Empty: there is none.
	WebsiteListen string
	// TLS encrypts the connections of all listeners. Nil: they are in the clear.
	TLS *tls.Config
	// AbortUploadsAfter is how long after its beginning a multipart upload that was
	// not completed is aborted. Zero: never.
	AbortUploadsAfter time.Duration
	// LifecycleDay is how long a day of a lifecycle rule is. Default 24 h; tests shorten it.
	LifecycleDay time.Duration
	// AccessLog is the server's own record of requests.
	AccessLog AccessLogOptions
	// LogsEvery is for how long the records of a bucket with logging wait until they are delivered. Default 5 min, or half
	// of a shorter LifecycleDay.
	LogsEvery time.Duration
	// Logger receives what an operator should see. Default slog.Default.
	Logger *slog.Logger

	// FS holds the data directory. Default: the operating system's, with a
	// ballast of BallastBytes (see storefs.Options).
	FS           vfs.FS
	BallastBytes int64
	// Store tunes the store; FS, Dir and Logger of it are set by Start.
	Store timeline.Options
	// Object tunes the objects; Keys of it are set by Start.
	Object object.Options
	// S3 tunes the S3 listener; Objects, Verifier, Logger, Metrics and TLS of it are set by Start.
	S3 s3api.Options
	// Now is the wall clock. Default time.Now.
	Now func() time.Time
}

func (o *Options) setDefaults() error {
	if o.Dir == "" {
		return errors.New("pageserver: options need Dir")
	}
	if o.MasterKeys == nil {
		return errors.New("pageserver: options need MasterKeys")
	}
	o.RootKey.Root = true
	if err := o.RootKey.Validate(); err != nil {
		return fmt.Errorf("root key: %w", err)
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:9000"
	}
	if o.AdminListen == "" {
		o.AdminListen = "127.0.0.1:9001"
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LifecycleDay <= 0 {
		o.LifecycleDay = 24 * time.Hour
	}
	if o.LogsEvery <= 0 {
		o.LogsEvery = min(logsEvery, o.LifecycleDay/2)
	}
	return nil
}

// adminShutdown bounds how long a client may keep the admin listener from closing.
const adminShutdown = 2 * time.Second

// Server is a running server.
type Server struct {
	o     Options
	log   *slog.Logger
	fs    *storefs.FS // nil when Options.FS was given
	disk  vfs.FS      // that the store lies on
	store *timeline.Store
	s3    *s3api.Server
	admin *admin

	objects *object.Service
	keys    *lateKeys
	uploads uploadCounters

	lifecycle lifecycleCounters
	schedules scheduleCounters
	logs      *bucketLogs
	access    *access
	book      *jobBook
	jobs      *jobs // what works on the store besides s3

	s3Addr, adminAddr net.Addr
	websiteAddr       net.Addr // nil: there are none

	state   atomic.Pointer[string] // why the server is not ready; nil when it is
	serving sync.WaitGroup         // the listeners

	failOnce sync.Once
	failed   chan struct{}
	err      error // why; before failed is closed
}

// Start opens the store, recovers it, and serves. On return the server is
// ready. It fails when an address is taken, another process has the data
// directory, or the store cannot be recovered.
func Start(o Options) (*Server, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{o: o, log: o.Logger, failed: make(chan struct{}), jobs: newJobs()}
	s.notReady("starting")
	s3Listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for S3: %w", err)
	}
	adminListener, err := net.Listen("tcp", o.AdminListen)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for admin: %w", err), s3Listener.Close())
	}
	var websites net.Listener
	if o.WebsiteListen != "" {
		if websites, err = net.Listen("tcp", o.WebsiteListen); err != nil {
			return nil, errors.Join(fmt.Errorf("listen for websites: %w", err), s3Listener.Close(), adminListener.Close())
		}
		s.websiteAddr = websites.Addr()
	}
	s.s3Addr, s.adminAddr = s3Listener.Addr(), adminListener.Addr()
	if o.TLS != nil {
		adminListener = tls.NewListener(adminListener, o.TLS)
	}
	set := metrics.NewSet()
	s.keys = newLateKeys(s.o.RootKey)
	verifier := auth.NewVerifier(s.keys, s.o.Now)
	s.admin = newAdmin(s, adminListener, set, verifier)
	s.run("admin", s.admin.serve)
	if err := s.open(set, verifier); err != nil {
		if websites != nil {
			err = errors.Join(err, websites.Close())
		}
		return nil, errors.Join(err, s3Listener.Close(), s.close())
	}
	s.run("s3", func() error { return s.s3.Serve(s3Listener) })
	if websites != nil {
		s.run("websites", func() error { return s.s3.ServeWebsites(websites) })
		s.log.Info("serving websites", "websites", s.websiteAddr.String())
	}
	s.state.Store(nil)
	s.log.Info("serving", "s3", s.s3Addr.String(), "admin", s.adminAddr.String(), "data", o.Dir, "tls", o.TLS != nil)
	return s, nil
}

// open opens file system, store and services.
func (s *Server) open(set *metrics.Set, verifier *auth.Verifier) error {
	fs := s.o.FS
	if fs == nil {
		var err error
		if s.fs, err = storefs.New(storefs.Options{Dir: s.o.Dir, BallastBytes: s.o.BallastBytes, Logger: s.log}); err != nil {
			return fmt.Errorf("open data directory: %w", err)
		}
		fs = s.fs
	}
	s.disk = fs
	so := s.o.Store
	so.FS, so.Dir, so.Logger = fs, s.o.Dir, s.log
	so.RefuseExpiry, so.MarkAttributes, so.ObjectBytes = object.RefuseExpiry, object.HasSnapshotRules, object.RecordedSize
	if so.Now == nil {
		so.Now = s.o.Now
	}
	store, err := timeline.Open(so)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	s.store = store
	users, err := identity.Open(s.jobs.ctx, identity.Options{Store: store, Ring: s.o.MasterKeys, Root: s.o.RootKey, Now: s.o.Now})
	if err != nil {
		return err
	}
	s.keys.users.Store(users)
	oo := s.o.Object
	oo.Keys = s.o.MasterKeys
	s.objects = object.New(store, oo)
	set.RegisterMetricsWriter(s.writeMetrics)
	region := s.o.S3.Region
	if region == "" {
		region = "us-east-1"
	}
	s.logs = newBucketLogs(s.objects, s.log, region, func() time.Time { return store.Now().Time() }, s.o.LogsEvery)
	if s.access, err = newAccess(s.o.AccessLog, s.logs, func(err error) { s.log.Warn("access log", "err", err) }); err != nil {
		return err
	}
	set.RegisterMetricsWriter(s.writeAccessMetrics)
	if s.book, err = newJobBook(s.jobs, fs, s.o.Dir, s.o.Now, func(err error) { s.log.Warn("jobs", "err", err) }); err != nil {
		return err
	}
	api := s.o.S3
	api.Access, api.Accounts, api.IAM, api.Writers = s.access, users, iam.New(users, s.o.Now), users
	api.TLS = s.o.TLS
	api.Objects, api.Verifier, api.Logger, api.Metrics = s.objects, verifier, s.log, set
	if s.s3, err = s3api.New(api); err != nil {
		return err
	}
	if s.o.AbortUploadsAfter > 0 && s.jobs.begin() {
		go s.abortUploads()
	}
	if s.jobs.begin() {
		go s.followLifecycles()
	}
	if s.jobs.begin() {
		go s.followSchedules()
	}
	if s.jobs.begin() {
		go s.deliverLogs()
	}
	if s.jobs.begin() {
		go s.sweepKeys()
	}
	return nil
}

// run serves a listener in a goroutine that Shutdown waits for.
func (s *Server) run(name string, serve func() error) {
	s.serving.Go(func() {
		if err := serve(); err != nil {
			s.fail(fmt.Errorf("%s listener: %w", name, err))
		}
	})
}

func (s *Server) fail(err error) {
	s.failOnce.Do(func() {
		s.err = err
		s.notReady(err.Error())
		close(s.failed)
	})
}

func (s *Server) notReady(why string) { s.state.Store(&why) }

// ready returns nil when S3 is served and writes are taken.
func (s *Server) ready() error {
	if why := s.state.Load(); why != nil {
		return errors.New(*why)
	}
	if err := s.store.Err(); err != nil {
		return fmt.Errorf("the store is read-only: %w", err)
	}
	return nil
}

// Addr returns the address of S3.
func (s *Server) Addr() net.Addr { return s.s3Addr }

// AdminAddr returns the address of health, metrics and administration.
func (s *Server) AdminAddr() net.Addr { return s.adminAddr }

// WebsiteAddr returns the address of buckets as websites; nil: there is none.
func (s *Server) WebsiteAddr() net.Addr { return s.websiteAddr }

// ReopenLogs has the access log opened again, after it was moved away.
func (s *Server) ReopenLogs() { s.access.reopen() }

// Failed is closed when a listener has failed; Err then says why. The caller
// should shut the server down.
func (s *Server) Failed() <-chan struct{} { return s.failed }

// Err returns why Failed is closed, nil before.
func (s *Server) Err() error {
	select {
	case <-s.failed:
		return s.err
	default:
		return nil
	}
}

// Shutdown takes no more requests, lets those under way end, and closes the
// store cleanly. When ctx ends first, requests are broken off; the store is
// closed cleanly all the same, and no error is returned for that. Call it once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.notReady("shutting down")
	s.log.Info("shutting down")
	s.admin.streams.stop()
	if err := s.s3.Shutdown(ctx); err != nil {
		s.log.Info("requests were broken off", "err", err)
	}
	s.admin.streams.wait(ctx)
	err := s.close()
	s.log.Info("closed", "err", err)
	return err
}

// close closes what is open, but not the S3 listener.
func (s *Server) close() error {
	var errs []error
	s.jobs.close()
	if s.access != nil {
		s.access.close()
	}
	if s.objects != nil {
		s.objects.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close store: %w", err))
		}
	}
	if s.fs != nil {
		if err := s.fs.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close data directory: %w", err))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminShutdown)
	defer cancel()
	s.admin.shutdown(ctx)
	s.serving.Wait()
	return errors.Join(errs...)
}
