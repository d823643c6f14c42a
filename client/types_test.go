package client

import (
	"encoding/json"
	"testing"

	"github.com/invopop/jsonschema"

	"stemma/pageserver"
)

// The types of the client are those of the server.
func TestTypes(t *testing.T) {
	r := jsonschema.Reflector{Anonymous: true, DoNotReference: true}
	schema := func(v any) string {
		p, err := json.Marshal(r.Reflect(v))
		if err != nil {
			t.Fatal(err)
		}
		return string(p)
	}
	for _, pair := range [][2]any{
		{Bucket{}, pageserver.Bucket{}}, {BucketPage{}, pageserver.BucketsAnswer{}}, {NewBucket{}, pageserver.NewBucket{}},
		{MadeBucket{}, pageserver.MadeBucket{}}, {BucketChange{}, pageserver.BucketChange{}}, {Change{}, pageserver.Change{}},
		{deletedAnswer{}, pageserver.DeletedAnswer{}}, {undeletedBucket{}, pageserver.BucketAnswer{}}, {retention{}, pageserver.Retention{}},
		{ForkRequest{}, pageserver.ForkRequest{}}, {Forked{}, pageserver.ForkAnswer{}}, {Ancestry{}, pageserver.AncestryAnswer{}},
		{Tree{}, pageserver.TreeAnswer{}}, {Distance{}, pageserver.DistanceAnswer{}}, {NewSnapshot{}, pageserver.NewSnapshot{}},
		{SnapshotPage{}, pageserver.SnapshotsAnswer{}}, {SnapshotChange{}, pageserver.SnapshotChange{}}, {History{}, pageserver.HistoryAnswer{}},
		{LogPage{}, pageserver.LogAnswer{}}, {logEnd{}, pageserver.LogEnd{}}, {Job{}, pageserver.Job{}}, {jobList{}, pageserver.JobsAnswer{}},
		{CommitRequest{}, pageserver.CommitRequest{}}, {Committed{}, pageserver.CommitAnswer{}}, {DiffRequest{}, pageserver.DiffRequest{}},
		{DiffPage{}, pageserver.DiffAnswer{}}, {DiffEnd{}, pageserver.DiffEnd{}}, {MergeRequest{}, pageserver.MergeRequest{}},
		{Merged{}, pageserver.MergeAnswer{}}, {Error{}, pageserver.AdminError{}},
		{MoveRequest{}, pageserver.MoveRequest{}}, {Moved{}, pageserver.MoveAnswer{}}, {RestoreRequest{}, pageserver.RestoreRequest{}},
		{ObjectPage{}, pageserver.ListAnswer{}}, {lookRequest{}, pageserver.LookRequest{}}, {Looks{}, pageserver.LookAnswer{}},
		{PagesWritten{}, pageserver.PageAnswer{}},
		{UndeleteRequest{}, pageserver.UndeleteObjectsRequest{}}, {Undeleted{}, pageserver.UndeletedAnswer{}},
	} {
		if mine, theirs := schema(pair[0]), schema(pair[1]); mine != theirs {
			t.Errorf("%T is\n%s\nand %T is\n%s", pair[0], mine, pair[1], theirs)
		}
	}
}
