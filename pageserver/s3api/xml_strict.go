package s3api

import (
	"bytes"
	"encoding/xml"
	"io"
	"reflect"
	"strings"
	"sync"
)

// Documents of configuration are structs with xml tags. What a document of S3 may
// not have, they have no field for, so a strict decoder needs to know nothing else.

// maxXMLDepth bounds how deep elements may lie in each other.
const maxXMLDepth = 16

// strictXML decodes one document whose root is named root into the struct that v
// points to. Elements that the struct has no field for, elements that come twice where it has
// no slice, text between elements, directives and anything behind the root are
// refused; attributes and namespaces are not looked at. Error: MalformedXML.
func strictXML(p []byte, root string, v any) error {
	malformed := &apiError{code: "MalformedXML"}
	if err := checkXML(p, root, reflect.TypeOf(v).Elem()); err != nil {
		return malformed
	}
	if err := xml.Unmarshal(p, v); err != nil {
		return malformed
	}
	return nil
}

// xmlFrame is one open element.
type xmlFrame struct {
	fields map[string]xmlField // nil: a text
	seen   map[string]bool
}

// xmlField is a child that an element may have.
type xmlField struct {
	repeats bool
	fields  map[string]xmlField
}

type notStrict struct{}

func (notStrict) Error() string { return "s3api: document does not fit its schema" }

// checkXML checks the elements of a document against a struct.
func checkXML(p []byte, root string, t reflect.Type) error {
	d := xml.NewDecoder(bytes.NewReader(p))
	var stack []xmlFrame
	ended := false
	for {
		token, err := d.RawToken()
		if err == io.EOF {
			if !ended {
				return notStrict{}
			}
			return nil
		} else if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.StartElement:
			name := token.Name.Local
			if len(stack) == 0 {
				if ended || name != root {
					return notStrict{}
				}
				stack = append(stack, newXMLFrame(xmlFields(t)))
				continue
			}
			top := &stack[len(stack)-1]
			f, ok := top.fields[name]
			if !ok || top.seen[name] && !f.repeats || len(stack) == maxXMLDepth {
				return notStrict{}
			}
			top.seen[name] = true
			stack = append(stack, newXMLFrame(f.fields))
		case xml.EndElement:
			if len(stack) == 0 {
				return notStrict{}
			}
			stack = stack[:len(stack)-1] // Unmarshal checks that the names match
			ended = len(stack) == 0
		case xml.CharData:
			if (len(stack) == 0 || stack[len(stack)-1].fields != nil) && len(bytes.TrimSpace(token)) > 0 {
				return notStrict{}
			}
		case xml.Directive:
			return notStrict{}
		}
	}
}

func newXMLFrame(fields map[string]xmlField) xmlFrame {
	f := xmlFrame{fields: fields}
	if fields != nil {
		f.seen = make(map[string]bool)
	}
	return f
}

var xmlFieldsOf sync.Map // of reflect.Type to map[string]xmlField

// xmlFields returns what children an element of a type may have; nil for a text.
func xmlFields(t reflect.Type) map[string]xmlField {
	if t.Kind() != reflect.Struct {
		return nil
	}
	if known, ok := xmlFieldsOf.Load(t); ok {
		return known.(map[string]xmlField)
	}
	fields := make(map[string]xmlField)
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("xml"), ",")
		if !f.IsExported() || name == "-" || strings.Contains(options, "attr") {
			continue
		}
		if name == "" {
			name = f.Name
		}
		ft, repeats := f.Type, false
		if ft.Kind() == reflect.Slice && ft.Elem().Kind() != reflect.Uint8 {
			ft, repeats = ft.Elem(), true
		}
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		fields[name] = xmlField{repeats, xmlFields(ft)}
	}
	xmlFieldsOf.Store(t, fields)
	return fields
}

// marshalXML returns a document of S3's namespace with the struct v as its root.
// An error is a bug of the struct.
func marshalXML(root string, v any) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	start := xml.StartElement{Name: xml.Name{Space: xmlNamespace, Local: root}}
	if err := xml.NewEncoder(&b).EncodeElement(v, start); err != nil {
		panic("BUG: " + err.Error())
	}
	return b.Bytes()
}
