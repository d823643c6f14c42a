package s3api

import (
	"strings"
	"testing"
	"time"
)

func TestObjects(t *testing.T) {
	s := newServer(t)
	s.want(200, call{method: "PUT", path: "/b-1"})
	a := s.want(200, call{method: "PUT", path: "/b-1/dir/key%20x", body: "hello", headers: []string{
		"Content-Type", "text/plain; x=y", "Cache-Control", "no-cache", "Content-Encoding", "gzip", "Content-Disposition", "inline",
		"Content-Language", "de", "Expires", "soon", "x-amz-meta-Foo", "bar", "x-amz-meta-utf", "Grüße",
		"x-amz-storage-class", "STANDARD_IA", "x-amz-website-redirect-location", "/elsewhere",
	}})
	if a.header.Get("ETag") != `"5d41402abc4b2a76b9719d911017c592"` || lsnOf(a) == "" {
		t.Fatalf("%v", a.header)
	}
	for _, method := range []string{"GET", "HEAD"} {
		g := s.want(200, call{method: method, path: "/b-1/dir/key%20x", headers: []string{"x-amz-checksum-mode", "ENABLED"}})
		if method == "GET" && g.body != "hello" {
			t.Fatalf("%q", g.body)
		}
		for name, want := range map[string]string{
			"Content-Length": "5", "Content-Type": "text/plain; x=y", "Cache-Control": "no-cache", "Content-Encoding": "gzip",
			"Content-Disposition": "inline", "Content-Language": "de", "Expires": "soon", "X-Amz-Meta-Foo": "bar", "X-Amz-Meta-Utf": "Gr\xfc\xdfe",
			"X-Amz-Storage-Class": "STANDARD_IA", "X-Amz-Website-Redirect-Location": "/elsewhere", "Accept-Ranges": "bytes",
			"Etag": `"5d41402abc4b2a76b9719d911017c592"`, "X-Amz-Checksum-Type": "FULL_OBJECT", "Server": "Stemma", "X-Stemma-Lsn": lsnOf(a),
		} {
			if got := g.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", method, name, got, want)
			}
		}
		if g.header.Get("X-Amz-Checksum-Crc64nvme") == "" || g.header.Get("Last-Modified") == "" {
			t.Errorf("%s: %v", method, g.header)
		}
	}
	s.want(204, call{method: "DELETE", path: "/b-1/dir/key%20x"})
	s.want(204, call{method: "DELETE", path: "/b-1/dir/key%20x"})
	s.refused(404, "NoSuchKey", call{method: "GET", path: "/b-1/dir/key%20x"})
	s.refused(404, "", call{method: "HEAD", path: "/b-1/dir/key%20x"})
	s.want(204, call{method: "DELETE", path: "/b-1"})
	s.refused(404, "NoSuchBucket", call{method: "GET", path: "/b-1/dir/key%20x"})
}

// Sizes around every boundary: empty, inline, streamed, larger than all buffers.
func TestBodySizes(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	for _, n := range []int{0, 1, 8<<10 - 1, 8 << 10, 8<<10 + 1, 32<<10 - 1, 32 << 10, 64<<10 + 1, 1 << 20, 5<<20 + 3} {
		body := string(pattern(n))
		s.put("/b-1/k", body)
		g := s.want(200, call{method: "GET", path: "/b-1/k"})
		if g.body != body || g.header.Get("Content-Type") != "binary/octet-stream" {
			t.Fatalf("%d bytes: got %d, %v", n, len(g.body), g.header)
		}
		if n > 10 {
			g = s.want(206, call{method: "GET", path: "/b-1/k", headers: []string{"Range", "bytes=3-9"}})
			if g.body != body[3:10] {
				t.Fatalf("range of %d bytes: %q", n, g.body)
			}
		}
	}
}

func TestRanges(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	body := string(pattern(100_000))
	s.put("/b-1/k", body)
	s.put("/b-1/empty", "")
	for _, c := range []struct {
		header string
		status int
		want   string
		rng    string
	}{
		{"bytes=0-0", 206, body[:1], "bytes 0-0/100000"},
		{"bytes=10-19", 206, body[10:20], "bytes 10-19/100000"},
		{"bytes=99990-", 206, body[99990:], "bytes 99990-99999/100000"},
		{"bytes=-5", 206, body[99995:], "bytes 99995-99999/100000"},
		{"bytes=-200000", 206, body, "bytes 0-99999/100000"},
		{"bytes=0-200000", 206, body, "bytes 0-99999/100000"},
		{"bytes=5-3", 200, body, ""},
		{"bytes=0-1,4-5", 200, body, ""},
		{"lines=0-1", 200, body, ""},
		{"bytes=x", 200, body, ""},
		{"bytes=100000-", 416, "", "bytes */100000"},
		{"bytes=-0", 416, "", "bytes */100000"},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			g := s.want(c.status, call{method: method, path: "/b-1/k", headers: []string{"Range", c.header}})
			if g.header.Get("Content-Range") != c.rng {
				t.Errorf("%s %s: Content-Range %q, want %q", method, c.header, g.header.Get("Content-Range"), c.rng)
			}
			if method == "GET" && c.status != 416 && g.body != c.want {
				t.Errorf("%s: %d bytes", c.header, len(g.body))
			}
			if method == "GET" && c.status == 416 && (g.code() != "InvalidRange" || element(g.body, "ActualObjectSize") != "100000") {
				t.Errorf("%s: %s", c.header, g.body)
			}
		}
	}
	s.refused(416, "InvalidRange", call{method: "GET", path: "/b-1/empty", headers: []string{"Range", "bytes=0-"}})
	now := s.want(200, call{method: "HEAD", path: "/b-1/k"}).header
	for ifRange, status := range map[string]int{
		now.Get("ETag"): 206, now.Get("Last-Modified"): 206, `"x"`: 200, "W/" + now.Get("ETag"): 200, "*": 200, "Thu, 01 Jan 2099 00:00:00 GMT": 200,
	} {
		s.want(status, call{method: "GET", path: "/b-1/k", headers: []string{"Range", "bytes=1-2", "If-Range", ifRange}})
	}
	s.refused(400, "InvalidRequest", call{method: "GET", path: "/b-1/k?partNumber=1", headers: []string{"Range", "bytes=0-1"}})
	s.refused(400, "InvalidPart", call{method: "GET", path: "/b-1/k?partNumber=2"})
	g := s.want(206, call{method: "GET", path: "/b-1/k?partNumber=1"})
	if g.body != body || g.header.Get("x-amz-mp-parts-count") != "" {
		t.Errorf("part 1: %v", g.header)
	}
}

func TestConditions(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	s.put("/b-1/k", "hello")
	const tag = `"5d41402abc4b2a76b9719d911017c592"`
	past, future := time.Now().Add(-time.Hour).UTC().Format(time.RFC1123), time.Now().Add(time.Hour).UTC().Format(time.RFC1123)
	past, future = strings.Replace(past, "UTC", "GMT", 1), strings.Replace(future, "UTC", "GMT", 1)
	for _, c := range []struct {
		method  string
		key     string
		headers []string
		status  int
	}{
		{"GET", "k", []string{"If-Match", tag}, 200},
		{"GET", "k", []string{"If-Match", "*"}, 200},
		{"GET", "k", []string{"If-Match", `"x", ` + tag}, 200},
		{"GET", "k", []string{"If-Match", `"x"`}, 412},
		{"GET", "k", []string{"If-None-Match", tag}, 304},
		{"HEAD", "k", []string{"If-None-Match", "*"}, 304},
		{"GET", "k", []string{"If-None-Match", `"x"`}, 200},
		{"GET", "k", []string{"If-Modified-Since", past}, 200},
		{"GET", "k", []string{"If-Modified-Since", future}, 304},
		{"GET", "k", []string{"If-Unmodified-Since", past}, 412},
		{"GET", "k", []string{"If-Unmodified-Since", future}, 200},
		{"GET", "k", []string{"If-Match", tag, "If-Unmodified-Since", past}, 200},
		{"GET", "k", []string{"If-None-Match", `"x"`, "If-Modified-Since", future}, 200},
		{"GET", "k", []string{"If-Modified-Since", "no date"}, 200},
		{"PUT", "k", []string{"If-None-Match", "*"}, 412},
		{"PUT", "k", []string{"If-None-Match", tag}, 412},
		{"PUT", "k", []string{"If-None-Match", ""}, 501},
		{"PUT", "k", []string{"If-Match", `"x"`}, 412},
		{"PUT", "k", []string{"If-Match", ""}, 412},
		{"PUT", "new", []string{"If-Match", tag}, 404},
		{"PUT", "new", []string{"If-None-Match", "*"}, 200},
		{"PUT", "new2", []string{"If-Match", ""}, 200},
		{"DELETE", "k", []string{"If-Match", `"x"`}, 412},
		{"DELETE", "k", []string{"If-None-Match", `*`}, 501},
		{"PUT", "k", []string{"If-Match", tag}, 200},
		{"DELETE", "k", []string{"If-Match", `"d41d8cd98f00b204e9800998ecf8427e"`}, 204},
	} {
		for _, expect := range []bool{false, true} {
			if expect && (c.method != "PUT" || c.status < 400) {
				continue
			}
			h := c.headers
			if expect {
				h = append([]string{"Expect", "100-continue"}, h...)
			}
			body := ""
			if expect {
				body = "must not be stored"
			}
			a := s.do(call{method: c.method, path: "/b-1/" + c.key, headers: h, body: body})
			if a.status != c.status {
				t.Errorf("%s %s %q: %d, want %d\n%s", c.method, c.key, h, a.status, c.status, a.body)
			}
			if c.status == 304 && (a.header.Get("ETag") != tag || a.body != "" || lsnOf(a) == "") {
				t.Errorf("304: %v %q", a.header, a.body)
			}
		}
	}
}

func TestOverrides(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	s.put("/b-1/k", "hello")
	g := s.want(200, call{method: "GET", path: "/b-1/k?response-content-type=text%2Fx&response-content-disposition=attachment%3B%20filename%3D%22a%22&response-cache-control=c&response-expires=e&response-content-language=l&response-content-encoding=n"})
	for name, want := range map[string]string{
		"Content-Type": "text/x", "Content-Disposition": `attachment; filename="a"`, "Cache-Control": "c", "Expires": "e", "Content-Language": "l", "Content-Encoding": "n",
	} {
		if g.header.Get(name) != want {
			t.Errorf("%s is %q", name, g.header.Get(name))
		}
	}
	a := s.refused(400, "InvalidArgument", call{method: "GET", path: "/b-1/k?response-content-type=a%0D%0AX-Evil:%201"})
	if a.header.Get("X-Evil") != "" || a.header.Get("ETag") != "" {
		t.Errorf("%v", a.header)
	}
}

// Every byte sequence that is a key comes back as that key.
func TestOddKeys(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	keys := []string{
		"a//b", "../x", "./.", "a/../b", "a b+c%2F", "Grüße/日本語", "%", "100%25", "?a=b", "#", "http://x//y", "a&b<c>\"'", "\x01\x1f\x7f",
		"/leading", "trailing/", "//", " ", "+", strings.Repeat("k", 1024), "\ufffe", "a\nb\tc\rd", "😀", "\u008a",
	}
	for _, k := range keys {
		path := "/b-1/" + escape(k)
		s.put(path, k)
		if got := s.get(path); got != k {
			t.Errorf("%q: %q", k, got)
		}
	}
	doc := s.get("/b-1?encoding-type=url")
	for _, k := range keys {
		if !strings.Contains(doc, "<Key>"+escape(k)+"</Key>") {
			t.Errorf("%q is not listed: %s", k, doc)
		}
	}
	var plain deleteXML
	if err := decodeXML([]byte(strings.NewReplacer("ListBucketResult", "Delete").Replace(s.get("/b-1"))), &plain); err != nil {
		t.Errorf("the listing is no XML: %v", err)
	}
	for _, k := range keys {
		s.want(204, call{method: "DELETE", path: "/b-1/" + escape(k)})
	}
	if got := element(s.get("/b-1?list-type=2"), "KeyCount"); got != "0" {
		t.Errorf("%s keys left", got)
	}
	s.refused(400, "KeyTooLongError", call{method: "PUT", path: "/b-1/" + strings.Repeat("k", 1025)})
	s.refused(400, "InvalidURI", call{method: "PUT", path: "/b-1/%ff"})
	s.refused(400, "InvalidURI", call{method: "GET", path: "/b-1/" + escape("\u008a")}) // nobody means that
}

// User metadata comes back byte for byte, whatever encoding the client has in mind, but in
// Latin-1 where it can.
func TestMetadataBeyondASCII(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	for _, c := range [][2]string{
		{"café 日本", "café 日本"}, {"caf\xe9", "caf\xe9"}, {"=?UTF-8?Q?caf=C3=A9?=", "=?UTF-8?Q?caf=C3=A9?="}, {"café", "caf\xe9"},
	} {
		value, want := c[0], c[1]
		s.want(200, call{method: "PUT", path: "/b-1/k", body: "x", headers: []string{"x-amz-meta-a", value}})
		s.want(200, call{method: "PUT", path: "/b-1/copy", headers: []string{"x-amz-copy-source", "/b-1/k"}})
		for _, key := range []string{"k", "copy"} {
			if got := s.want(200, call{method: "HEAD", path: "/b-1/" + key}).header.Get("x-amz-meta-a"); got != want {
				t.Errorf("%s: %q, want %q", key, got, want)
			}
		}
	}
}
