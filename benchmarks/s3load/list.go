package s3load

import (
	"bytes"
	"errors"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"
)

// page is what a listing goes on with.
type page struct {
	token string // "": from the start, or after
	after string // start-after, of the first page
}

// list gets a page of at most 1,000 keys of a bucket, and returns how many keys and
// prefixes it holds and the next page. At the end the next page is zero.
func (s *session) list(bucket string, p page, delimiter bool) (results int64, next page, err error) {
	var q []byte
	if p.token != "" {
		q = append(append(append(q, "continuation-token="...), escape(p.token)...), '&')
	}
	if delimiter {
		q = append(q, "delimiter=%2F&"...)
	}
	q = append(q, "list-type=2&max-keys=1000"...)
	if p.token == "" && p.after != "" {
		q = append(append(q, "&start-after="...), escape(p.after)...)
	}
	s.bucket(bucket)
	s.begin(fasthttp.MethodGet, q, header{hash: emptySHA256})
	if err := s.do(); err != nil {
		return 0, page{}, err
	}
	body := s.res.Body()
	results = int64(bytes.Count(body, []byte("<Key>")) + bytes.Count(body, []byte("<CommonPrefixes>")))
	if string(element(body, "IsTruncated")) != "true" {
		return results, page{}, nil
	}
	next.token = unescapeXML(string(element(body, "NextContinuationToken")))
	if next.token == "" {
		return 0, page{}, s.failed(errors.New("a page says that it is truncated and has no token"))
	}
	return results, next, nil
}

// keys returns the keys of the page in s.res.
func (s *session) keys() []string {
	var all []string
	for rest := s.res.Body(); ; {
		k := element(rest, "Key")
		if k == nil {
			return all
		}
		all = append(all, unescapeXML(string(k)))
		rest = rest[bytes.Index(rest, []byte("</Key>"))+len("</Key>"):]
	}
}

// element returns the text of the first element of a name, nil if there is none.
func element(xml []byte, name string) []byte {
	_, rest, ok := bytes.Cut(xml, []byte("<"+name+">"))
	if !ok {
		return nil
	}
	text, _, ok := bytes.Cut(rest, []byte("</"+name+">"))
	if !ok {
		return nil
	}
	return text
}

var xmlEscapes = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&quot;", `"`, "&#34;", `"`, "&apos;", "'", "&#39;", "'", "&amp;", "&")

func unescapeXML(s string) string { return xmlEscapes.Replace(s) }

// escape escapes a query value as AWS does.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
