package pageserver

import (
	"context"

	"stemma/pageserver/object"
	"stemma/wal"
)

// lookRoutes describe objects, as file systems want them.
var lookRoutes = []adminRoute{
	{"GET", []string{"buckets", "{}", "list"}, []string{"prefix", "delimiter", "after", "token", "at", "limit"}, false, (*admin).list},
	{"POST", []string{"buckets", "{}", "look"}, nil, false, (*admin).look},
}

func init() {
	adminRoutes = append(adminRoutes, lookRoutes...)
	for _, err := range []error{object.ErrBadLook, object.ErrInvalidToken} {
		adminErrors = append(adminErrors, struct {
			err  error
			code string
		}{err, "InvalidArgument"})
	}
}

// Described is an object without its body.
type Described struct {
	Key         string            `json:"key"`
	Size        uint64            `json:"size"`
	ETag        string            `json:"etag,omitempty"`
	LSN         wal.LSN           `json:"lsn,string"` // of the version
	ContentType string            `json:"content_type,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	File        string            `json:"file,omitempty"` // of an object that was written in place: another one if it is replaced
}

func described(key string, e *object.Entry) *Described {
	d := &Described{Key: key, Size: e.Size, LSN: e.LSN, ContentType: e.Headers.ContentType, File: e.File()}
	if e.ETag != (object.ETag{}) {
		d.ETag = e.ETag.String()
	}
	for _, f := range e.UserMeta {
		if d.Metadata == nil {
			d.Metadata = make(map[string]string, len(e.UserMeta))
		}
		d.Metadata[f.Key] = f.Value
	}
	return d
}

// ListAnswer is a page of objects, by key, and of the common prefixes of those that a delimiter rolls up.
type ListAnswer struct {
	LSN      wal.LSN     `json:"lsn,string"` // what was read at
	Objects  []Described `json:"objects"`
	Prefixes []string    `json:"prefixes"`
	Next     string      `json:"next,omitempty"` // continues it as token; absent on the last page
}

// list serves GET /v1/buckets/{name}/list.
func (a *admin) list(ctx context.Context, r *adminRequest, bucket string) (any, error) {
	limit, err := r.limit(object.MaxListKeys, object.MaxListKeys)
	if err != nil {
		return nil, err
	}
	in := object.ListInput{Prefix: r.text("prefix"), Delimiter: r.text("delimiter"), After: r.text("after"), Token: r.text("token"), MaxKeys: limit, Full: true}
	if in.At, err = a.point(bucket, r.text("at")); err != nil {
		return nil, err
	}
	page, err := a.server.objects.List(ctx, bucket, &in)
	if err != nil {
		return nil, err
	}
	answer := &ListAnswer{LSN: page.LSN, Objects: make([]Described, len(page.Entries)), Prefixes: page.Prefixes, Next: page.NextToken}
	if page.Prefixes == nil {
		answer.Prefixes = []string{}
	}
	for i := range page.Entries {
		answer.Objects[i] = *described(page.Entries[i].Key, page.Entries[i].Entry)
	}
	return answer, nil
}

// LookRequest is the body of POST /v1/buckets/{name}/look.
type LookRequest struct {
	Keys []string `json:"keys"`
	At   string   `json:"at,omitempty"` // point in time; absent: the tip
}

// LookAnswer is what was found at each key, at one LSN.
type LookAnswer struct {
	LSN  wal.LSN  `json:"lsn,string"`
	Keys []Looked `json:"keys"` // in the order of the request
}

// Looked is what is at a key.
type Looked struct {
	Object *Described `json:"object,omitempty"` // absent: there is none
	Below  bool       `json:"below"`            // other keys begin with the key
}

// look serves POST /v1/buckets/{name}/look.
func (a *admin) look(ctx context.Context, r *adminRequest, bucket string) (any, error) {
	var in LookRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	at, err := a.point(bucket, in.At)
	if err != nil {
		return nil, err
	}
	found, err := a.server.objects.Look(ctx, bucket, at, in.Keys)
	if err != nil {
		return nil, err
	}
	answer := &LookAnswer{LSN: found.LSN, Keys: make([]Looked, len(found.Keys))}
	for i := range found.Keys {
		out := &answer.Keys[i]
		out.Below = found.Keys[i].Below
		if e := found.Keys[i].Entry; e != nil {
			out.Object = described(in.Keys[i], e)
		}
	}
	return answer, nil
}
