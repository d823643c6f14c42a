package s3api

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// bundled is a bundle that was read whole.
type bundled struct {
	names   []string
	bodies  map[string]string
	trailer http.Header
}

// bundle asks for a bundle and reads it.
func (s *testServer) bundle(bucket, body string, headers ...string) bundled {
	s.t.Helper()
	headers = append([]string{"X-Tigris-Bundle-Format", "tar"}, headers...)
	res, err := s.http.Do(s.request(call{method: "POST", path: "/" + bucket + "?bundle", body: body, headers: headers}))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	r := io.Reader(res.Body)
	switch res.Header.Get("X-Tigris-Bundle-Compression") {
	case "gzip":
		if r, err = gzip.NewReader(r); err != nil {
			s.t.Fatal(err)
		}
	case "zstd":
		if r, err = zstd.NewReader(r); err != nil {
			s.t.Fatal(err)
		}
	}
	if res.StatusCode != 200 {
		p, _ := io.ReadAll(r)
		s.t.Fatalf("status %d: %s", res.StatusCode, p)
	}
	b := bundled{bodies: map[string]string{}}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			s.t.Fatal(err)
		}
		p, err := io.ReadAll(t)
		if err != nil {
			s.t.Fatal(err)
		}
		b.names = append(b.names, h.Name)
		b.bodies[h.Name] = string(p)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		s.t.Fatal(err)
	}
	b.trailer = res.Trailer
	return b
}

func TestBundle(t *testing.T) {
	s := newServer(t)
	s.put("/home", "")
	large, long := string(pattern(200_000)), strings.Repeat("long/", 150)+"é"
	s.put("/home/b", "bbb")
	s.put("/home/a", "")
	s.put("/home/large", large)
	s.put("/home/"+escape(long), "of a long key")
	before := lsnOf(s.put("/home/b", "BBB"))
	s.put("/home/b", "later")

	for _, compression := range []string{"none", "gzip", "zstd"} {
		b := s.bundle("home", `{"keys": ["large", "absent", "a", "b", "`+long+`"]}`,
			"X-Tigris-Bundle-Compression", compression, "X-Tigris-Snapshot-Version", before)
		if want := []string{"large", "a", "b", long, "__bundle_errors.json"}; !slices.Equal(b.names, want) {
			t.Fatalf("%s: entries %q", compression, b.names)
		}
		if b.bodies["large"] != large || b.bodies["b"] != "BBB" || b.bodies["a"] != "" || b.bodies[long] != "of a long key" {
			t.Errorf("%s: another content", compression)
		}
		var skipped struct {
			Skipped []skippedKey `json:"skipped"`
		}
		if err := json.Unmarshal([]byte(b.bodies["__bundle_errors.json"]), &skipped); err != nil {
			t.Fatal(err)
		}
		if want := []skippedKey{{"absent", "NoSuchKey"}}; !slices.Equal(skipped.Skipped, want) {
			t.Errorf("skipped %v", skipped)
		}
		if got := b.trailer; got.Get("x-tigris-bundle-count") != "4" || got.Get("x-tigris-bundle-bytes") != "200016" || got.Get("x-tigris-bundle-skipped") != "1" {
			t.Errorf("%s: trailers %v", compression, got)
		}
	}
	b := s.bundle("home", `<Bundle><Object><Key>b</Key></Object><Object><Key>b</Key></Object></Bundle>`)
	if !slices.Equal(b.names, []string{"b", "b"}) || b.bodies["b"] != "later" {
		t.Errorf("entries %q, %q", b.names, b.bodies)
	}
}

func TestBundleRefused(t *testing.T) {
	s := newServer(t)
	s.put("/home", "")
	s.put("/home/a", "a")
	format := []string{"X-Tigris-Bundle-Format", "tar"}
	many := `{"keys": [` + strings.Repeat(`"a", `, maxBundleKeys) + `"a"]}`
	for _, c := range []struct {
		bucket, body string
		headers      []string
		status       int
		code         string
	}{
		{"home", `{"keys": ["a"]}`, nil, 400, "InvalidArgument"},
		{"home", `{"keys": ["a"]}`, []string{"X-Tigris-Bundle-Format", "zip"}, 400, "InvalidArgument"},
		{"home", `{"keys": ["a"]}`, append([]string{"X-Tigris-Bundle-Compression", "lzma"}, format...), 400, "InvalidArgument"},
		{"home", `{"keys": ["a"]}`, append([]string{"X-Tigris-Bundle-On-Error", "ignore"}, format...), 400, "InvalidArgument"},
		{"home", `{"keys": []}`, format, 400, "InvalidArgument"},
		{"home", `{"keys": [""]}`, format, 400, "InvalidArgument"},
		{"home", `{"keys": ["a"], "more": 1}`, format, 400, "InvalidArgument"},
		{"home", many, format, 400, "InvalidArgument"},
		{"home", `<Bundle><Object/></Bundle>`, format, 400, "MalformedXML"},
		{"home", ``, format, 400, "MalformedXML"},
		{"nowhere", `{"keys": ["a"]}`, format, 404, "NoSuchBucket"},
	} {
		s.refused(c.status, c.code, call{method: "POST", path: "/" + c.bucket + "?bundle", body: c.body, headers: c.headers})
	}
	a := s.refused(404, "BundleKeyNotFound", call{method: "POST", path: "/home?bundle", body: `{"keys": ["x", "a", "y"]}`,
		headers: append([]string{"X-Tigris-Bundle-On-Error", "fail"}, format...)})
	if got := elements(element(a.body, "MissingKeys"), "Key"); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("missing %q", got)
	}
}
