package s3api

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// pages lists a bucket to its end and returns keys and prefixes as they came.
func (s *testServer) pages(path string, v2 bool, size int) []string {
	s.t.Helper()
	var all []string
	for next := ""; ; {
		p := path + fmt.Sprintf("&max-keys=%d&encoding-type=url", size)
		if v2 {
			p += "&list-type=2"
		}
		if next != "" {
			p += map[bool]string{true: "&continuation-token=", false: "&marker="}[v2] + url.QueryEscape(next)
		}
		doc := s.get(p)
		keys, prefixes := elements(doc, "Key"), elements(doc, "CommonPrefixes")
		if len(keys)+len(prefixes) > size {
			s.t.Fatalf("%d items on a page of %d", len(keys)+len(prefixes), size)
		}
		if v2 && element(doc, "KeyCount") != fmt.Sprint(len(keys)+len(prefixes)) {
			s.t.Fatalf("KeyCount %s", element(doc, "KeyCount"))
		}
		for _, k := range append(keys, prefixes...) {
			k = strings.TrimSuffix(strings.TrimPrefix(k, "<Prefix>"), "</Prefix>")
			k, err := url.PathUnescape(k)
			if err != nil {
				s.t.Fatal(err)
			}
			all = append(all, k)
		}
		if element(doc, "IsTruncated") != "true" {
			return all
		}
		if v2 {
			next = element(doc, "NextContinuationToken")
		} else if next, _ = url.PathUnescape(element(doc, "NextMarker")); next == "" {
			s.t.Fatal("truncated without a marker")
		}
	}
}

// Listings of a random set of keys agree with a sorted slice, whatever the
// prefix, the delimiter, the page size and the version.
func TestListings(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	rng := rand.New(rand.NewPCG(1, 2))
	var keys []string
	alphabet := []string{"a", "b", "/", "/", "ü", " ", "&", "\x01", "%"}
	seen := map[string]bool{}
	for len(keys) < 150 {
		k := ""
		for range 1 + rng.IntN(6) {
			k += alphabet[rng.IntN(len(alphabet))]
		}
		if !seen[k] {
			seen[k] = true
			keys = append(keys, k)
			s.put("/b-1/"+escape(k), k)
		}
	}
	slices.Sort(keys)
	for _, prefix := range []string{"", "a", "a/", "/", "ü", "zz"} {
		for _, delimiter := range []string{"", "/", "a", "//"} {
			var want []string
			for _, k := range keys {
				rest, ok := strings.CutPrefix(k, prefix)
				if !ok {
					continue
				}
				if i := strings.Index(rest, delimiter); delimiter != "" && i >= 0 {
					k = prefix + rest[:i+len(delimiter)]
				}
				if !slices.Contains(want, k) {
					want = append(want, k)
				}
			}
			slices.Sort(want)
			path := "/b-1?prefix=" + url.QueryEscape(prefix) + "&delimiter=" + url.QueryEscape(delimiter)
			for _, v2 := range []bool{false, true} {
				for _, size := range []int{7, 1000} {
					got := s.pages(path, v2, size)
					slices.Sort(got)
					if !slices.Equal(got, want) {
						t.Fatalf("%s v2=%v size %d:\n got %q\nwant %q", path, v2, size, got, want)
					}
				}
			}
		}
	}
}

// Pages of one listing are one cut, whatever is written meanwhile.
func TestListingIsOneCut(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	for i := range 10 {
		s.put(fmt.Sprintf("/b-1/k%d", i), "x")
	}
	doc := s.get("/b-1?list-type=2&max-keys=3")
	s.put("/b-1/k5x", "new")
	s.want(204, call{method: "DELETE", path: "/b-1/k6"})
	got := elements(doc, "Key")
	for token := element(doc, "NextContinuationToken"); token != ""; token = element(doc, "NextContinuationToken") {
		doc = s.get("/b-1?list-type=2&max-keys=3&continuation-token=" + token)
		got = append(got, elements(doc, "Key")...)
	}
	if want := "k0 k1 k2 k3 k4 k5 k6 k7 k8 k9"; strings.Join(got, " ") != want {
		t.Fatalf("%q", got)
	}
}

func TestListParameters(t *testing.T) {
	s := newServer(t)
	s.put("/b-1", "")
	for _, k := range []string{"a", "b", "c"} {
		s.put("/b-1/"+k, k)
	}
	doc := s.get("/b-1?list-type=2&start-after=a&fetch-owner=true&max-keys=5000")
	if strings.Join(elements(doc, "Key"), "") != "bc" || element(doc, "MaxKeys") != "1000" || element(doc, "StartAfter") != "a" || element(doc, "Owner") == "" ||
		element(doc, "Size") != "1" || element(doc, "StorageClass") != "STANDARD" || element(doc, "ChecksumAlgorithm") != "CRC64NVME" {
		t.Fatalf("%s", doc)
	}
	if doc := s.get("/b-1?list-type=2"); strings.Contains(doc, "Owner") {
		t.Fatalf("%s", doc)
	}
	if doc := s.get("/b-1?marker=b"); strings.Join(elements(doc, "Key"), "") != "c" || element(doc, "Owner") == "" {
		t.Fatalf("%s", doc)
	}
	if doc := s.get("/b-1?max-keys=0"); element(doc, "IsTruncated") != "false" || element(doc, "Key") != "" {
		t.Fatalf("%s", doc)
	}
	doc = s.get("/b-1?list-type=2&continuation-token=")
	if strings.Join(elements(doc, "Key"), "") != "abc" || !strings.Contains(doc, "<ContinuationToken></ContinuationToken>") {
		t.Fatalf("%s", doc)
	}
	for _, q := range []string{
		"max-keys=-1", "max-keys=x", "max-keys=99999999999", "encoding-type=base64", "list-type=3", "allow-unordered=true&delimiter=/", "list-type=2&continuation-token=AAAA",
	} {
		s.refused(400, "InvalidArgument", call{method: "GET", path: "/b-1?" + q})
	}
}
