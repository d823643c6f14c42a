package main

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Commands reach a server whose certificate a file vouches for, and no other.
func TestCAFile(t *testing.T) {
	clearEnv(t)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		_, _ = w.Write([]byte("<ListAllMyBucketsResult><Buckets><Bucket><Name>found</Name></Bucket></Buckets></ListAllMyBucketsResult>"))
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	dir := t.TempDir()
	ca, empty := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "empty.pem")
	for name, p := range map[string][]byte{ca: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), empty: nil} {
		if err := os.WriteFile(name, p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", testAccess)
	t.Setenv("AWS_SECRET_ACCESS_KEY", testSecret)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--ca-file", ca}, 0, "found"},
		{nil, 1, "certificate"},
		{[]string{"--ca-file", empty}, 2, "no certificate"},
		{[]string{"--ca-file", filepath.Join(dir, "none")}, 2, "none"},
	} {
		command := []string{"background", "--admin-endpoint", srv.URL} // no refusal is tried again
		if c.code == 0 {
			command = []string{"bucket", "list", "--endpoint", srv.URL}
		}
		code, stdout, stderr := runCLI(t, append(command, c.args...)...)
		if code != c.code || !strings.Contains(stdout+stderr, c.want) {
			t.Errorf("%q: %d, %q, %q", c.args, code, stdout, stderr)
		}
	}
	if code, _, stderr := runCLI(t, "serve", "--data", dir, "--tls-cert", ca); code != 2 || !strings.Contains(stderr, "--tls-key") {
		t.Errorf("%d, %q", code, stderr)
	}
}
