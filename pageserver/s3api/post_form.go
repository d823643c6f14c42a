package s3api

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	"stemma/pageserver/auth"
)

// Limits of forms, in bytes.
const (
	maxFormBytes   = 20 << 10  // fields before the file, with their names
	maxFormFraming = 64 << 10  // and with headers and boundaries, as read ahead
	maxFormTail    = 256 << 10 // what follows the file, and is ignored
)

// postForm is a form that uploads an object, up to its file.
type postForm struct {
	fields []auth.Field // names in lower case; those before the file
	// file is the content of the file: its end is only reached when the rest of the
	// form is sound.
	file io.Reader
	// filename is the name of the file without directories, and whether there is one.
	filename string
	named    bool
}

// get returns the value of a field, empty if there is none.
func (f *postForm) get(name string) string {
	for i := range f.fields {
		if f.fields[i].Name == name {
			return f.fields[i].Value
		}
	}
	return ""
}

// add adds a field; values of one name are joined by commas.
func (f *postForm) add(name, value string) {
	for i := range f.fields {
		if f.fields[i].Name == name {
			f.fields[i].Value += "," + value
			return
		}
	}
	f.fields = append(f.fields, auth.Field{Name: name, Value: value})
}

var (
	errMalformedPost = &apiError{code: "MalformedPOSTRequest"}
	errPreData       = &apiError{code: "MaxPostPreDataLengthExceeded", fields: []auth.Field{{Name: "MaxPostPreDataLengthBytes", Value: itoa(maxFormBytes)}}}
)

// errOneFile is the answer to a form with no file, or with two.
func errOneFile(n int) error {
	return &apiError{code: "InvalidArgument", message: "POST requires exactly one file upload per request.", fields: []auth.Field{
		{Name: "ArgumentName", Value: "file"}, {Name: "ArgumentValue", Value: itoa(n)},
	}}
}

// readForm reads a form up to its file. Errors: MalformedPOSTRequest,
// MaxPostPreDataLengthExceeded, InvalidArgument, those of body.
func readForm(contentType string, body io.Reader) (*postForm, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" || len(params["boundary"]) > 70 {
		return nil, errMalformedPost
	}
	head := &headReader{r: body, left: maxFormFraming}
	parts := multipart.NewReader(head, params["boundary"])
	f := &postForm{}
	total := 0
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return nil, errOneFile(0)
		} else if err != nil {
			return nil, formError(err)
		}
		kind, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
		name, ok := params["name"]
		if err != nil || !ok || name == "" {
			return nil, errMalformedPost
		}
		if name = strings.ToLower(name); name == "file" && kind == "form-data" {
			f.filename, f.named = params["filename"]
			f.filename = f.filename[strings.LastIndexAny(f.filename, `/\`)+1:]
			head.left = -1
			f.file = &fileReader{part: part, parts: parts, body: body}
			return f, nil
		}
		value, err := io.ReadAll(io.LimitReader(part, maxFormBytes+1))
		if err != nil {
			return nil, formError(err)
		}
		if total += len(name) + len(value); total > maxFormBytes {
			return nil, errPreData
		}
		f.add(name, string(value))
	}
}

// formError words what a reader of parts says.
func formError(err error) error {
	var known *apiError
	var sent *auth.Error
	var conn *bodyError
	if errors.As(err, &known) || errors.As(err, &sent) || errors.As(err, &conn) {
		return err
	}
	return errMalformedPost
}

// headReader bounds what is read before the file; a negative left bounds nothing.
type headReader struct {
	r    io.Reader
	left int
}

// Read implements io.Reader. Errors: MaxPostPreDataLengthExceeded, those of r.
func (h *headReader) Read(p []byte) (int, error) {
	if h.left < 0 {
		return h.r.Read(p)
	}
	if h.left == 0 {
		return 0, errPreData
	}
	n, err := h.r.Read(p[:min(len(p), h.left)])
	h.left -= n
	return n, err
}

// fileReader reads the file. At its end it looks through the rest of the form.
type fileReader struct {
	part  *multipart.Part
	parts *multipart.Reader
	body  io.Reader
	done  error
}

// Read implements io.Reader. Errors: MalformedPOSTRequest, InvalidArgument, those of the body.
func (f *fileReader) Read(p []byte) (int, error) {
	if f.done != nil {
		return 0, f.done
	}
	n, err := f.part.Read(p)
	if err == io.EOF {
		if err = f.finish(); err == nil {
			err = io.EOF
		}
	} else if err != nil {
		err = formError(err)
	}
	f.done = err
	return n, err
}

// finish reads what follows the file to the end of the body, which may have been signed.
func (f *fileReader) finish() error {
	left := int64(maxFormTail)
	for {
		part, err := f.parts.NextRawPart()
		if err == io.EOF {
			break
		} else if err != nil {
			return formError(err)
		}
		if strings.EqualFold(part.FormName(), "file") {
			return errOneFile(2)
		}
		n, err := io.CopyN(io.Discard, part, left+1)
		if left -= n; left < 0 || err != nil && err != io.EOF {
			return formError(err)
		}
	}
	n, err := io.CopyN(io.Discard, f.body, left+1)
	if n > left || err != io.EOF {
		return formError(err)
	}
	return nil
}
