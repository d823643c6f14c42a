package pageserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"stemma/wal/storefs"
)

// writeCertificate writes a certificate for 127.0.0.1, its own root, and its key.
func writeCertificate(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, of, of, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for _, f := range []struct {
		name, kind string
		p          []byte
	}{{cert, "CERTIFICATE", raw}, {key, "PRIVATE KEY", secret}} {
		if err := os.WriteFile(f.name, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.p}), 0o600); err != nil {
			t.Fatal(err)
		}
		// The clock of files may be too coarse to tell two in a row apart.
		when := time.Now().Add(time.Duration(serial) * time.Minute)
		if err := os.Chtimes(f.name, when, when); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// trusting returns a client that trusts the certificate of a file, and what that is.
func trusting(t *testing.T, cert string) *http.Client {
	t.Helper()
	p, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(p) {
		t.Fatal("no certificate")
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
}

// Both listeners speak TLS, customers' keys are taken there and not in the clear, and a client
// without TLS is told so.
func TestTLS(t *testing.T) {
	lines := &logLines{}
	o := options(storefs.NewMem(), lines)
	cert, key := writeCertificate(t, t.TempDir(), 1)
	c, err := LoadCertificate(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o.TLS, o.S3.RequireTLSForSSEC = c.TLS(), true
	s, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	defer shutdown(t, s)
	ctx, http := context.Background(), trusting(t, cert)
	sdk := s3.New(s3.Options{
		BaseEndpoint: aws.String("https://" + s.Addr().String()), Region: "us-east-1", UsePathStyle: true, HTTPClient: http,
		Credentials: credentials.NewStaticCredentialsProvider(rootKey.ID, rootKey.Secret, ""),
	})
	bucket, customer := aws.String("b-1"), aws.String("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
	secret := md5.Sum([]byte("01234567890123456789012345678901"))
	sum := aws.String(base64.StdEncoding.EncodeToString(secret[:]))
	if _, err := sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("large", 100_000)
	if _, err := sdk.PutObject(ctx, &s3.PutObjectInput{
		Bucket: bucket, Key: aws.String("k"), Body: strings.NewReader(body), SSECustomerAlgorithm: aws.String("AES256"), SSECustomerKey: customer, SSECustomerKeyMD5: sum,
	}); err != nil {
		t.Fatal(err)
	}
	got, err := sdk.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("k"), SSECustomerAlgorithm: aws.String("AES256"), SSECustomerKey: customer, SSECustomerKeyMD5: sum})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := io.ReadAll(got.Body); err != nil || string(p) != body {
		t.Fatalf("%d bytes, %v", len(p), err)
	}
	up, err := sdk.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("up")})
	if err != nil {
		t.Fatal(err)
	}
	part, err := sdk.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: aws.String("up"), UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("x")})
	if err != nil {
		t.Fatal(err)
	}
	done, err := sdk.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: aws.String("up"), UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}}})
	if err != nil || !strings.HasPrefix(aws.ToString(done.Location), "https://") {
		t.Errorf("%v, %v", aws.ToString(done.Location), err)
	}
	res, err := http.Get("https://" + s.AdminAddr().String() + "/health/ready")
	if err != nil || res.StatusCode != 200 {
		t.Errorf("%v, %v", res, err)
	}
	plain, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := io.WriteString(plain, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if p, _ := io.ReadAll(plain); !strings.Contains(string(p), "HTTP request to an HTTPS server") {
		t.Errorf("a client without TLS reads %q", p)
	}
}

// A certificate that is replaced is used from then on; one that cannot be used, or has gone,
// leaves the old one in use.
func TestCertificateReplaced(t *testing.T) {
	var logged strings.Builder
	dir, now := t.TempDir(), time.Unix(1_800_000_000, 0)
	cert, key := writeCertificate(t, dir, 1)
	c, err := LoadCertificate(cert, key, slog.New(slog.NewTextHandler(&logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	c.now = func() time.Time { return now }
	serial := func(want int64) {
		t.Helper()
		now = now.Add(2 * certificateEvery)
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil || leaf.SerialNumber.Int64() != want {
			t.Errorf("serial number %v, want %d, %v", leaf.SerialNumber, want, err)
		}
	}
	serial(1)
	writeCertificate(t, dir, 2)
	serial(2)
	if err := os.WriteFile(key, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	serial(2)
	serial(2)
	if n := strings.Count(logged.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings: %s", n, &logged)
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	serial(2)
	writeCertificate(t, dir, 3)
	serial(3)
	if _, err := LoadCertificate(cert, filepath.Join(dir, "none"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a key that is not there is no error")
	}
}
