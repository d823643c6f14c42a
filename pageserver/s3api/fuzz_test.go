package s3api

import (
	"encoding/xml"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// FuzzXML gives the decoders arbitrary documents: they accept, or say
// MalformedXML or what a part lacks.
func FuzzXML(f *testing.F) {
	f.Add([]byte(`<Delete><Object><Key>a</Key></Object><Quiet>true</Quiet></Delete>`))
	f.Add([]byte(`<?xml version="1.0"?><CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>`))
	f.Add([]byte(`<CreateBucketConfiguration><LocationConstraint>auto</LocationConstraint></CreateBucketConfiguration>`))
	f.Add([]byte(`<!DOCTYPE x [<!ENTITY a "b">]><Delete>&a;</Delete>`))
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, v := range []any{&deleteXML{}, &completeXML{}, &createBucketXML{}} {
			err := decodeXML(p, v)
			var e *apiError
			if err != nil && (!errors.As(err, &e) || e.code != "MalformedXML") {
				t.Fatalf("%v", err)
			}
			if c, ok := v.(*completeXML); ok && err == nil {
				for i := range c.Parts {
					if _, err := c.Parts[i].parse(); err != nil && !errors.As(err, &e) && !errors.Is(err, object.ErrInvalidPart) {
						t.Fatalf("%v", err)
					}
				}
			}
		}
	})
}

// FuzzXMLText writes any string such that an XML parser reads it back, but for
// the characters that no document can hold.
func FuzzXMLText(f *testing.F) {
	f.Add("a<b>&\"'\r\n\t\x00\ufffe\xff]]>")
	f.Fuzz(func(t *testing.T, s string) {
		w := newResult("R")
		w.text("K", s)
		w.close("R")
		var doc struct {
			XMLName xml.Name `xml:"R"`
			K       string   `xml:"K"`
		}
		if err := decodeXML(w.bytes(), &doc); err != nil {
			t.Fatalf("%q: %v: %s", s, err, w.bytes())
		}
		want := strings.Map(func(r rune) rune {
			if r == 0xFFFE || r == 0xFFFF || r < ' ' && r != '\t' && r != '\n' && r != '\r' {
				return utf8.RuneError
			}
			return r
		}, s)
		if doc.K != want {
			t.Fatalf("%q became %q", s, doc.K)
		}
	})
}

// FuzzRequestParsers gives what is parsed out of headers and targets arbitrary text.
func FuzzRequestParsers(f *testing.F) {
	f.Add("/bucket/key?versionId=null", "bytes=0-1", "b.s3.localhost:9000")
	f.Add("b/%C3%BC", "*", "[::1]")
	f.Fuzz(func(t *testing.T, source, text, host string) {
		r := &request{amzFields: []auth.Field{{Name: "x-amz-copy-source", Value: source}}}
		bucket, key, _, err := r.copySource()
		var e *apiError
		if err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
		if err == nil && (bucket == "" || key == "" || strings.Contains(bucket, "/") || !utf8.ValidString(key)) {
			t.Fatalf("%q: %q %q", source, bucket, key)
		}
		if b := bucketOfHost(host, []string{"localhost", "s3.localhost"}); b != "" && !strings.HasPrefix(strings.ToLower(host), b) {
			t.Fatalf("%q: %q", host, b)
		}
		withoutAWSChunked(text)
		parseHTTPTime(text)
	})
}

// timeForm is the form of times in documents.
const timeForm = "2006-01-02T15:04:05.000Z"

// appendTime writes what time.Format does.
func TestAppendTime(t *testing.T) {
	for _, sec := range []int64{-62135596800, -1, 0, 951782399, 951782400, 1709251199, 4102444799, 253402300799} {
		for _, nano := range []int64{0, 999, 1_000_000, 78_999_999, 999_999_999} {
			at := time.Unix(sec, nano).In(time.FixedZone("", 3600))
			if got, want := string(appendTime(nil, at)), at.UTC().Format(timeForm); got != want {
				t.Errorf("%v: %s, want %s", at, got, want)
			}
		}
	}
}
