package main

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"os"

	"github.com/spf13/pflag"

	"stemma/pageserver"
)

// tlsFlags say how stemma serve encrypts its connections.
type tlsFlags struct {
	cert, key string
	forSSEC   bool
}

func (f *tlsFlags) add(fl *pflag.FlagSet) {
	fl.StringVar(&f.cert, "tls-cert", "", "file of the certificate, PEM, with those between it and its root: both listeners speak TLS; it may be replaced at any time")
	fl.StringVar(&f.key, "tls-key", "", "file of the certificate's key, PEM")
	fl.BoolVar(&f.forSSEC, "sse-c-needs-tls", false, "refuse customers' keys of SSE-C on connections without TLS")
}

func (f *tlsFlags) validate() error {
	if (f.cert == "") != (f.key == "") {
		return usagef("--tls-cert and --tls-key go together")
	}
	return nil
}

// apply puts what the flags say into o.
func (f *tlsFlags) apply(o *pageserver.Options, log *slog.Logger) error {
	o.S3.RequireTLSForSSEC = f.forSSEC
	if f.cert == "" {
		return nil
	}
	c, err := pageserver.LoadCertificate(f.cert, f.key, log)
	if err != nil {
		return err
	}
	o.TLS = c.TLS()
	return nil
}

// transport returns how a client reaches a server, whose certificate may be one of a
// file besides those of the system.
func transport(caFile string) (*http.Transport, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, usagef("--ca-file: %w", err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, usagef("--ca-file %s: there is no certificate in it", caFile)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return t, nil
}
