package pageserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// certificateEvery is how often the files of a certificate are looked at, at most.
const certificateEvery = time.Second

// Certificate is a certificate with its key, from two files of PEM that may be replaced
// while the server runs: connections that begin later use what is there then. What cannot
// be used is reported once, and the old one serves on. Safe for concurrent use.
type Certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu struct {
		sync.Mutex
		pair   *tls.Certificate
		seen   [2]fileState // what pair was read from, or what failed last
		looked time.Time
	}
}

// fileState tells a file from the one that it was before.
type fileState struct {
	modified time.Time
	size     int64
}

// LoadCertificate reads the files. The certificate's comes with those of the authorities in between, if any.
func LoadCertificate(certFile, keyFile string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log, now: time.Now}
	var err error
	if c.mu.seen, err = c.look(); err == nil {
		err = c.loadLocked()
	}
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c.mu.looked = c.now()
	return c, nil
}

// TLS returns how a listener uses the certificate.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: c.get}
}

func (c *Certificate) look() (s [2]fileState, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := vfs.Default.Stat(name)
		if err != nil {
			return s, err
		}
		s[i] = fileState{info.ModTime(), info.Size()}
	}
	return s, nil
}

func (c *Certificate) loadLocked() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err == nil {
		c.mu.pair = &pair
	}
	return err
}

// get is tls.Config.GetCertificate.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if since := now.Sub(c.mu.looked); since >= 0 && since < certificateEvery {
		return c.mu.pair, nil
	}
	c.mu.looked = now
	seen, err := c.look()
	switch {
	case errors.Is(err, fs.ErrNotExist): // on its way
	case err == nil && seen != c.mu.seen:
		c.mu.seen = seen
		if err = c.loadLocked(); err == nil {
			c.log.Info("certificate loaded", "file", c.certFile)
		} else {
			c.log.Warn("certificate not loaded, the old one is used", "err", err)
		}
	}
	return c.mu.pair, nil
}
