package s3api

import (
	"reflect"
	"strings"
	"testing"
)

// strictSample has one field of each shape.
type strictSample struct {
	One    string       `xml:"One"`
	Maybe  *int         `xml:"Maybe"`
	Many   []string     `xml:"Several"`
	Inner  *strictInner `xml:"Inner"`
	Inners []strictInner
}

type strictInner struct {
	A *string `xml:"A,omitempty"`
}

func TestStrictXML(t *testing.T) {
	good := []string{
		`<R/>`,
		`<?xml version="1.0"?><R xmlns="x"><One>1</One><Several>a</Several><Several>b</Several> <!-- c --><Inner><A/></Inner><Inners/><Inners/></R> `,
		`<s:R xmlns:s="x"><s:Maybe> 7 </s:Maybe></s:R>`,
	}
	for _, doc := range good {
		var v strictSample
		if err := strictXML([]byte(doc), "R", &v); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
	}
	bad := []string{
		``, ` `, `<`, `<S/>`, `<R>`, `<R/><R/>`, `<R/>text`, `text<R/>`, `<!DOCTYPE r [<!ENTITY e "e">]><R/>`, `<R><Two/></R>`,
		`<R><One/><One/></R>`, `<R>text</R>`, `<R><One><A/></One></R>`, `<R><Maybe>x</Maybe></R>`, `<R><One></R></One>`, `<R><Inner><B/></Inner></R>`,
		`<R><One>&e;</One></R>`, "<R><One>\x00</One></R>", `<R><Inner><A/><A/></Inner></R>`, `</R>`, `<R></R></R>`,
		`<R>` + strings.Repeat(`<Inner>`, maxXMLDepth+1) + strings.Repeat(`</Inner>`, maxXMLDepth+1) + `</R>`,
	}
	for _, doc := range bad {
		var v strictSample
		if err := strictXML([]byte(doc), "R", &v); err == nil {
			t.Errorf("%s: taken as %+v", doc, v)
		}
	}
}

// What is taken comes out as it went in.
func FuzzStrictXML(f *testing.F) {
	f.Add(`<R><One>1</One><Several>a</Several><Inner><A>x</A></Inner><Maybe>3</Maybe></R>`)
	f.Fuzz(func(t *testing.T, doc string) {
		var v, again strictSample
		if strictXML([]byte(doc), "R", &v) != nil {
			return
		}
		p := marshalXML("R", &v)
		if err := strictXML(p, "R", &again); err != nil {
			t.Fatalf("%q: written as %q: %v", doc, p, err)
		}
		if !reflect.DeepEqual(v, again) && !strings.ContainsRune(string(p), '\uFFFD') {
			t.Errorf("%q: %+v, read again %+v", doc, v, again)
		}
	})
}
