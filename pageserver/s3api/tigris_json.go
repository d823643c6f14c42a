package s3api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
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
		Stats             *statsJSON `json:"Stats,omitempty"`
		Buckets           struct{ Bucket []bucketJSON }
	}
	ownerJSON  struct{ DisplayName, ID string }
	bucketJSON struct {
		Name           string
		CreationDate   string
		Regions        string
		Type           string
		Visibility     struct{ IsPublic bool }
		SoftDeleteInfo *softDeleteInfoJSON `json:"SoftDeleteInfo,omitempty"`
		ForkInfo       *forkInfoJSON       `json:"ForkInfo,omitempty"`
	}
	softDeleteInfoJSON struct {
		Enabled       bool
		RetentionDays int
	}
	statsJSON struct {
		ActiveBuckets, TotalObjects, TotalUniqueObjects, TotalStorageBytes uint64
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
func (r *request) listBucketsJSON(ctx context.Context, infos []timeline.Info, next string) error {
	doc := r.newBucketsJSON(next, len(infos))
	withForks := r.param("IncludeForkInfo") == "true" || r.carries("X-Tigris-Fork")
	for i := range infos {
		set, err := r.srv.objects.Settings(ctx, infos[i].Name, 0)
		if err != nil {
			set = &object.Settings{} // deleted meanwhile
		}
		b := r.bucketJSON(&infos[i], set)
		if withForks {
			b.ForkInfo = forkInfo(&infos[i])
		}
		doc.Buckets.Bucket = append(doc.Buckets.Bucket, b)
	}
	if r.param("IncludeStats") == "true" {
		var err error
		if doc.Stats, err = r.bucketStats(ctx); err != nil {
			return err
		}
	}
	return r.sendJSON(doc)
}

func (r *request) newBucketsJSON(next string, buckets int) *bucketsJSON {
	c := r.proof.Caller
	doc := &bucketsJSON{Owner: ownerJSON{DisplayName: c.DisplayName, ID: cmp.Or(c.ID, anonymousID)}, ContinuationToken: next}
	doc.Buckets.Bucket = make([]bucketJSON, 0, buckets)
	return doc
}

func (r *request) bucketJSON(info *timeline.Info, set *object.Settings) bucketJSON {
	t := set.OfTigris()
	b := bucketJSON{Name: info.Name, CreationDate: timeJSON(info.Created.Time()), Regions: cmp.Or(t.Regions, r.srv.o.Region), Type: "Regular"}
	if set.Snapshots {
		b.Type = "Snapshot"
	}
	b.Visibility.IsPublic = set.ACLsEnabled() && set.ACL.Public() && !set.PublicAccessBlocked().IgnorePublicACLs
	if t.SoftDeleteDays > 0 {
		b.SoftDeleteInfo = &softDeleteInfoJSON{true, t.SoftDeleteDays}
	}
	return b
}

// bucketStats counts what is in all buckets that are shown to the caller, by reading all entries.
func (r *request) bucketStats(ctx context.Context) (*statsJSON, error) {
	infos, err := r.visibleBuckets(ctx, r.srv.objects.Buckets, "", "", math.MaxInt)
	if err != nil {
		return nil, err
	}
	s := &statsJSON{}
	for i := range infos {
		rows, size, err := r.srv.objects.Count(ctx, infos[i].Name)
		if errors.Is(err, timeline.ErrNoSuchBucket) {
			continue // deleted meanwhile
		} else if err != nil {
			return nil, err
		}
		s.ActiveBuckets++
		s.TotalObjects += rows
		s.TotalUniqueObjects += rows
		s.TotalStorageBytes += size
	}
	return s, nil
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
