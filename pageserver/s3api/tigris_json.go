package s3api

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"

	"stemma/pageserver/iam"
	"stemma/pageserver/object"
	"stemma/timeline"
)

// wantsJSON reports whether the client speaks JSON: it says so, or it sent JSON to
// something that is not an object.
func (r *request) wantsJSON() bool {
	if strings.Contains(r.peek("Accept"), "application/json") {
		return true
	}
	return r.key == "" && strings.HasPrefix(r.peek("Content-Type"), "application/json")
}

// sendJSON answers 200 with a document.
func (r *request) sendJSON(v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r.ctx.Response.Header.SetContentType("application/json")
	r.ctx.Response.SetBodyRaw(p)
	return nil
}

// errorJSON is the document of an error for clients that speak JSON.
type errorJSON struct {
	Code      string
	Message   string
	Resource  string
	RequestId string
}

// Rows of GET / in JSON, as Tigris names them.
type (
	bucketsJSON struct {
		ContinuationToken string `json:"ContinuationToken,omitempty"`
		Owner             ownerJSON
		Buckets           struct{ Bucket []bucketJSON }
	}
	ownerJSON  struct{ DisplayName, ID string }
	bucketJSON struct {
		Name         string
		CreationDate string
		Regions      string
		Type         string
		Visibility   struct{ IsPublic bool }
		ForkInfo     *forkInfoJSON `json:"ForkInfo,omitempty"`
	}
	forkInfoJSON struct {
		HasChildren bool
		Parents     []parentJSON
	}
	parentJSON struct {
		BucketName        string
		ForkCreatedAt     string
		Snapshot          string
		SnapshotCreatedAt string
	}
)

// forkInfo tells whose fork a bucket is, and whether it has forks.
func forkInfo(info *timeline.Info) *forkInfoJSON {
	f := &forkInfoJSON{HasChildren: info.HasForks, Parents: []parentJSON{}}
	if info.BranchLSN != 0 {
		f.Parents = append(f.Parents, parentJSON{
			BucketName: info.SourceName, ForkCreatedAt: timeJSON(info.Created.Time()),
			Snapshot: info.BranchLSN.String(), SnapshotCreatedAt: timeJSON(info.BranchLSN.Time()),
		})
	}
	return f
}

func timeJSON(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// listBucketsJSON is ListBuckets for clients that speak JSON. With X-Tigris-Fork it
// lists the forks of one bucket.
func (r *request) listBucketsJSON(infos []timeline.Info, next string) error {
	c := r.proof.Caller
	doc := bucketsJSON{Owner: ownerJSON{DisplayName: c.DisplayName, ID: cmp.Or(c.ID, anonymousID)}, ContinuationToken: next}
	doc.Buckets.Bucket = make([]bucketJSON, len(infos))
	withForks := r.param("IncludeForkInfo") == "true" || r.carries("X-Tigris-Fork")
	for i := range infos {
		b := &doc.Buckets.Bucket[i]
		b.Name, b.CreationDate, b.Regions, b.Type = infos[i].Name, timeJSON(infos[i].Created.Time()), r.srv.o.Region, "Regular"
		set, err := r.srv.objects.Settings(r.srv.base, infos[i].Name, 0)
		if err != nil {
			continue // deleted meanwhile
		}
		if set.Snapshots {
			b.Type = "Snapshot"
		}
		if withForks {
			b.ForkInfo = forkInfo(&infos[i])
		}
	}
	return r.sendJSON(&doc)
}

// bucketInfoJSON is the answer to GET /bucket?metadata.
type bucketInfoJSON struct {
	Name          string        `json:"name"`
	Type          int           `json:"type"` // 1: keeps snapshots
	StorageClass  string        `json:"storage_class"`
	ObjectRegions string        `json:"object_regions"`
	CreatedAt     string        `json:"created_at"`
	Rows          *uint64       `json:"estimated_rows,omitempty"`
	UniqueRows    *uint64       `json:"estimated_unique_rows,omitempty"`
	Size          *uint64       `json:"estimated_size,omitempty"`
	ForkInfo      *forkInfoJSON `json:"ForkInfo"`
}

func getBucketInfo(ctx context.Context, r *request) error {
	info, err := r.srv.objects.Bucket(r.bucket, 0)
	if err != nil {
		return err
	}
	set, err := r.srv.objects.Settings(ctx, r.bucket, 0)
	if err != nil {
		return err
	}
	doc := bucketInfoJSON{
		Name: info.Name, StorageClass: object.Standard.String(), ObjectRegions: r.srv.o.Region,
		CreatedAt: timeJSON(info.Created.Time()), ForkInfo: forkInfo(&info),
	}
	if set.Snapshots {
		doc.Type = 1
	}
	if r.param("with-size") == "true" {
		rows, size, err := r.srv.objects.Count(ctx, r.bucket)
		if err != nil {
			return err
		}
		doc.Rows, doc.UniqueRows, doc.Size = &rows, &rows, &size
	}
	return r.sendJSON(&doc)
}

// maxPatchBytes bounds the body of PATCH.
const maxPatchBytes = 1 << 20

// patchJSON is the body of PATCH /bucket.
type patchJSON struct {
	Type *int `json:"type"`
}

// patchBucket changes what a bucket is; what it cannot change it refuses by name.
func patchBucket(ctx context.Context, r *request) error {
	p, err := r.document(maxPatchBytes, false)
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(p, &fields); err != nil || len(fields) == 0 {
		return invalidArgument("body", "", "The body must be an object of JSON that names what to change")
	}
	for name := range fields {
		if name != "type" {
			return notImplemented("the field " + clip(name))
		}
	}
	var doc patchJSON
	if err := json.Unmarshal(p, &doc); err != nil || doc.Type == nil || *doc.Type != 0 && *doc.Type != 1 {
		return invalidArgument("type", "", "type must be 0 or 1")
	}
	if err := r.setSnapshots(ctx, *doc.Type == 1); err != nil {
		return err
	}
	return r.sendJSON(map[string]string{"status": "success"})
}

// whoAmIOperation tells clients of Tigris who they are.
var whoAmIOperation = &operation{name: "WhoAmI", handle: whoAmI}

// asksWho reports whether a request is GET /users/whoami of a client that speaks JSON. An object of that name goes before.
func (r *request) asksWho(method string) bool {
	if method != "GET" || r.bucket != "users" || r.key != "whoami" || len(r.target.Params) > 0 {
		return false
	}
	if !r.wantsJSON() && !strings.HasPrefix(r.peek("Content-Type"), "application/json") {
		return false
	}
	_, err := r.srv.objects.Bucket(r.bucket, 0)
	return err != nil
}

func whoAmI(_ context.Context, r *request) error {
	if r.proof.Caller.Anonymous() {
		return errDenied
	}
	return r.sendJSON(iam.Who(r.proof.Caller))
}
