package pageserver

import (
	"net/http"
	"strings"
	"testing"

	"stemma/pageserver/object"
)

func TestAdminMerge(t *testing.T) {
	s := started(t)
	root := rootKey
	put := func(bucket, key, body string) {
		t.Helper()
		if _, err := s.objects.Put(t.Context(), bucket, key, &object.PutInput{Body: strings.NewReader(body), Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.objects.CreateBucket(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	put("main", "a", "first")
	if _, err := s.objects.Fork(t.Context(), "main", 0, []string{"dev"}); err != nil {
		t.Fatal(err)
	}
	put("dev", "a", "dev")
	if status, e := ask(t, s, root, "POST", "/v1/users", `{"name":"ann"}`, nil); status != http.StatusOK && status != http.StatusCreated {
		t.Fatalf("user: %d %+v", status, e)
	}
	var diff DiffAnswer
	if status, e := ask(t, s, root, "POST", "/v1/diff", `{"from":"main","to":"dev"}`, &diff); status != http.StatusOK || len(diff.Entries) != 1 || diff.Entries[0].Kind != "modified" {
		t.Errorf("diff: %d %+v %+v", status, e, diff)
	}
	put("main", "a", "main")
	if status, e := ask(t, s, root, "POST", "/v1/buckets/main/merge", `{"source":"dev"}`, nil); status != http.StatusConflict || e.Code != "MergeConflict" {
		t.Errorf("conflict: %d %+v", status, e)
	}
	var merged MergeAnswer
	if status, e := ask(t, s, root, "POST", "/v1/buckets/main/merge", `{"source":"dev","strategy":"source-wins"}`, &merged); status != http.StatusOK || merged.Put != 1 || !merged.Committed {
		t.Errorf("merge: %d %+v %+v", status, e, merged)
	}
	for _, c := range []struct {
		path, body, code string
		status           int
	}{
		{"/v1/buckets/dev/merge", `{"source":"main"}`, "NotDescendant", 409},
		{"/v1/buckets/main/merge", `{"source":"dev","strategy":"mine"}`, "InvalidArgument", 400},
		{"/v1/buckets/main/merge", `{"source":"none"}`, "NoSuchBucket", 404},
		{"/v1/buckets/main/merge", `{"source":"dev","if_lsn":"1"}`, "PreconditionFailed", 412},
		{"/v1/buckets/main/revert", `{}`, "InvalidArgument", 400},
		{"/v1/buckets/main/merge", `{"sauce":"dev"}`, "BadRequest", 400},
		{"/v1/buckets/main/merge", `{"source":".stemma"}`, "NoSuchBucket", 404}, // the server's own
		{"/v1/buckets/main/cherry-pick", `{"source":".stemma","keys":["a"]}`, "NoSuchBucket", 404},
		{"/v1/diff", `{"from":".stemma","to":"dev"}`, "NoSuchBucket", 404},
		{"/v1/diff", `{"from":"main","to":".stemma"}`, "NoSuchBucket", 404},
		{"/v1/diff", `{"from":"main","to":"dev","token":"?"}`, "InvalidArgument", 400},
	} {
		if status, e := ask(t, s, root, "POST", c.path, c.body, nil); status != c.status || e.Code != c.code {
			t.Errorf("%s %s: %d %+v, want %d %s", c.path, c.body, status, e, c.status, c.code)
		}
	}
}
