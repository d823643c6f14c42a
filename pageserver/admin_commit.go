package pageserver

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"stemma/pageserver/object"
	"stemma/wal"
)

// CommitRequest is the body of POST /v1/buckets/{b}/commit: all operations are done in one commit, or none.
type CommitRequest struct {
	// IfLSN is the commit above which no object of the bucket may have changed.
	IfLSN      wal.LSN           `json:"if_lsn,string,omitempty"`
	If         []CommitCondition `json:"if,omitempty"`
	Operations []CommitOperation `json:"operations"`
}

// CommitCondition is a condition on a key, by one of its other fields.
type CommitCondition struct {
	Key    string  `json:"key"`
	ETag   string  `json:"etag,omitempty"` // or *
	LSN    wal.LSN `json:"lsn,string,omitempty"`
	Absent bool    `json:"absent,omitempty"`
}

// CommitOperation is one change. docs/api.md says which fields go with which operation.
type CommitOperation struct {
	Op           string `json:"op"` // put, delete, rename, copy, rename-prefix, delete-prefix
	Key          string `json:"key"`
	Source       string `json:"source,omitempty"`
	SourceBucket string `json:"source_bucket,omitempty"`
	SourceAt     string `json:"source_at,omitempty"` // point in time
	Data         []byte `json:"data,omitempty"`      // base64
	Staged       string `json:"staged,omitempty"`
	Replace      bool   `json:"replace,omitempty"`

	ContentType        string            `json:"content_type,omitempty"`
	ContentEncoding    string            `json:"content_encoding,omitempty"`
	ContentDisposition string            `json:"content_disposition,omitempty"`
	ContentLanguage    string            `json:"content_language,omitempty"`
	CacheControl       string            `json:"cache_control,omitempty"`
	Metadata           map[string]string `json:"metadata,omitempty"`
	Tags               map[string]string `json:"tags,omitempty"`
	StorageClass       string            `json:"storage_class,omitempty"`
}

// CommitAnswer says what was done.
type CommitAnswer struct {
	LSN     wal.LSN        `json:"lsn,string"` // everything is visible from here on
	Results []CommitResult `json:"results"`    // of the operations, in order
}

// CommitResult is what one operation did.
type CommitResult struct {
	Key       string `json:"key"`
	Keys      int    `json:"keys"` // how many it has written, renamed or deleted
	ETag      string `json:"etag,omitempty"`
	Size      uint64 `json:"size"`
	VersionID string `json:"version_id,omitempty"` // where the bucket keeps versions
	File      string `json:"file,omitempty"`       // of what is written in place
}

// commit serves POST /v1/buckets/{name}/commit.
func (a *admin) commit(ctx context.Context, r *adminRequest, bucket string) (any, error) {
	var in CommitRequest
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	c := &object.CommitInput{IfLSN: in.IfLSN, Ops: make([]object.CommitOp, len(in.Operations))}
	for _, k := range in.If {
		c.If = append(c.If, object.CommitCondition{Key: k.Key, ETag: k.ETag, LSN: k.LSN, Absent: k.Absent})
	}
	for i := range in.Operations {
		var err error
		if c.Ops[i], err = a.operation(bucket, &in.Operations[i]); err != nil {
			return nil, &object.CommitError{Index: i, Key: in.Operations[i].Key, Err: err}
		}
	}
	done, err := a.server.objects.Commit(ctx, bucket, c)
	if err != nil {
		return nil, err
	}
	answer := &CommitAnswer{LSN: done.LSN, Results: make([]CommitResult, len(done.Ops))}
	for i := range done.Ops {
		out := &answer.Results[i]
		out.Key, out.Keys = in.Operations[i].Key, done.Ops[i].Keys
		if e := done.Ops[i].Entry; e != nil {
			out.Size, out.File = e.Size, e.File()
			if e.ETag != (object.ETag{}) {
				out.ETag = e.ETag.String()
			}
			if e.Versioned {
				out.VersionID = e.ID().String()
			}
		}
	}
	return answer, nil
}

// operation returns what an operation is to the objects. Errors: InvalidArgument and those of a point in time.
func (a *admin) operation(bucket string, in *CommitOperation) (op object.CommitOp, err error) {
	op = object.CommitOp{Key: in.Key, Source: in.Source, Data: in.Data, Replace: in.Replace}
	if op.StorageClass, err = object.ParseStorageClass(in.StorageClass); err != nil {
		return op, err
	}
	if err := in.describe(&op); err != nil {
		return op, err
	}
	described := !in.plain()
	var fields string // that must not be there
	switch in.Op {
	case "put":
		op.Kind = object.CommitPut
		if in.Staged != "" {
			op.Kind, op.Source, op.Replace = object.CommitRename, in.Staged, described
			fields = first("data", len(in.Data) > 0, "storage_class", in.StorageClass != "")
		}
		fields = cmp.Or(fields, first("source", in.Source != "", "replace", in.Replace))
	case "delete":
		op.Kind = object.CommitDelete
	case "rename":
		op.Kind = object.CommitRename
		fields = first("storage_class", in.StorageClass != "")
	case "copy":
		op.Kind, op.SrcBucket = object.CommitCopy, in.SourceBucket
		if object.Reserved(op.SrcBucket) {
			return op, &AdminError{Code: "NoSuchBucket", Message: "no such bucket"}
		}
		if op.SrcAt, err = a.point(cmp.Or(in.SourceBucket, bucket), in.SourceAt); err != nil {
			return op, err
		}
	case "rename-prefix":
		op.Kind = object.CommitRenamePrefix
	case "delete-prefix":
		op.Kind = object.CommitDeletePrefix
	default:
		return op, invalid("op must be put, delete, rename, copy, rename-prefix or delete-prefix")
	}
	single := in.Op == "rename" || in.Op == "copy"
	fields = cmp.Or(fields, first(
		"source", in.Source != "" && strings.HasPrefix(in.Op, "delete"),
		"source_bucket", in.SourceBucket != "" && in.Op != "copy", "source_at", in.SourceAt != "" && in.Op != "copy",
		"data", len(in.Data) > 0 && in.Op != "put", "staged", in.Staged != "" && in.Op != "put",
		"replace", in.Replace && !single, "a description without replace", described && single && !in.Replace,
		"a description", (described || in.StorageClass != "") && in.Op != "put" && !single,
	))
	if fields != "" {
		return op, invalid(in.Op + " does not go with " + fields)
	}
	return op, nil
}

// first returns the first of the names, which are followed by whether they count.
func first(pairs ...any) string {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1].(bool) {
			return pairs[i].(string)
		}
	}
	return ""
}

// plain reports whether nothing is said of how the object is described.
func (in *CommitOperation) plain() bool {
	return in.ContentType == "" && in.ContentEncoding == "" && in.ContentDisposition == "" && in.ContentLanguage == "" &&
		in.CacheControl == "" && in.Metadata == nil && in.Tags == nil
}

// describe takes over headers, metadata and tags, which will be sent as headers one day.
func (in *CommitOperation) describe(op *object.CommitOp) error {
	op.Headers = object.Headers{
		ContentType: in.ContentType, ContentEncoding: in.ContentEncoding, ContentDisposition: in.ContentDisposition,
		ContentLanguage: in.ContentLanguage, CacheControl: in.CacheControl,
	}
	for _, v := range []string{in.ContentType, in.ContentEncoding, in.ContentDisposition, in.ContentLanguage, in.CacheControl} {
		if !headerText(v) {
			return invalid("a header cannot hold control characters, or white space at an end")
		}
	}
	for _, k := range slices.Sorted(maps.Keys(in.Metadata)) {
		if !headerName(k) || !headerText(in.Metadata[k]) {
			return invalid("metadata has a name that is no header's in lower case, or a value with control characters, or white space at an end")
		}
		op.UserMeta = append(op.UserMeta, object.Field{Key: k, Value: in.Metadata[k]})
	}
	for _, k := range slices.Sorted(maps.Keys(in.Tags)) {
		op.Tags = append(op.Tags, object.Field{Key: k, Value: in.Tags[k]})
	}
	return nil
}

func headerText(s string) bool {
	return strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

func headerName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
}
