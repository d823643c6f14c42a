package pageserver

import (
	"fmt"
	"strings"
	"testing"

	"stemma/pageserver/object"
)

func TestNativeCommit(t *testing.T) {
	s := started(t)
	mustAsk(t, s, "POST", "/v1/buckets", `{"name":"data"}`, nil)
	putObject(t, s, "data", "staging/1", "uploaded before")
	a := putObject(t, s, "data", "a", "one")
	var c CommitAnswer
	mustAsk(t, s, "POST", "/v1/buckets/data/commit", fmt.Sprintf(`{
		"if_lsn": "%d", "if": [{"key":"a","etag":"\"%s\""},{"key":"none","absent":true}],
		"operations": [
			{"op":"put","key":"b","data":"aGVsbG8=","content_type":"text/plain","metadata":{"from":"test"},"tags":{"k":"v"},"storage_class":"GLACIER_IR"},
			{"op":"put","key":"c","staged":"staging/1","content_type":"text/html"},
			{"op":"copy","source":"a","key":"d"},
			{"op":"delete","key":"a"}
		]}`, a.LSN, a.ETag.String()), &c)
	if c.LSN <= a.LSN || len(c.Results) != 4 || c.Results[0].Size != 5 || c.Results[2].ETag != a.ETag.String() || c.Results[3].Keys != 1 {
		t.Fatalf("%+v", c)
	}
	for key, want := range map[string]string{"b": "text/plain 5", "c": "text/html 15", "d": " 3"} {
		o, err := s.objects.Head(t.Context(), "data", key, &object.GetInput{})
		if err != nil || fmt.Sprint(o.Headers.ContentType, " ", o.Size) != want || o.LSN != c.LSN {
			t.Errorf("%s: %+v, %v", key, o, err)
		}
	}
	for _, x := range []struct {
		body, code string
		status     int
	}{
		{`{}`, "InvalidArgument", 400},
		{`{"operations":[{"op":"frob","key":"x"}]}`, "InvalidArgument", 400},
		{`{"operations":[{"op":"put","key":"x","data":"?"}]}`, "BadRequest", 400},
		{`{"operations":[{"op":"put","key":"x","content_type":"a\r\nb: c"}]}`, "InvalidArgument", 400},
		{`{"operations":[{"op":"put","key":"x","metadata":{"A b":"c"}}]}`, "InvalidArgument", 400},
		{`{"operations":[{"op":"put","key":"x","tags":{"":"c"}}]}`, "InvalidArgument", 400},
		{`{"operations":[{"op":"put","key":"x","storage_class":"HOT"}]}`, "InvalidArgument", 400},
		{`{"operations":[{"op":"put","key":"x","source":"b"}]}`, "InvalidArgument", 400},
		{`{"operations":[{"op":"delete","key":"x","data":"aGVsbG8="}]}`, "InvalidArgument", 400},
		{`{"operations":[{"op":"rename","key":"x","source":"b","content_type":"a/b"}]}`, "InvalidArgument", 400},
		{`{"operations":[{"op":"copy","key":"x","source":"b","source_bucket":"none"}]}`, "NoSuchBucket", 404},
		{`{"operations":[{"op":"copy","key":"x","source":"b","source_at":"none"}]}`, "NoSuchSnapshot", 404},
		{`{"operations":[{"op":"put","key":"x"},{"op":"rename","key":"y","source":"none"}]}`, "NoSuchKey", 404},
		{`{"if":[{"key":"none","etag":"*"}],"operations":[{"op":"put","key":"x"}]}`, "PreconditionFailed", 412},
		{`{"if_lsn":"1","operations":[{"op":"put","key":"x"}]}`, "PreconditionFailed", 412},
		{"{\"operations\":[{\"op\":\"put\",\"key\":\"\xff\"}]}", "BadRequest", 400},
		{`{"operations":[{"op":"put","key":"` + strings.Repeat("k", 1025) + `"}]}`, "InvalidArgument", 400},
	} {
		if status, e := ask(t, s, rootKey, "POST", "/v1/buckets/data/commit", x.body, nil); status != x.status || e.Code != x.code || !strings.Contains(e.Message, " ") {
			t.Errorf("%.80s: %d %.200v, want %d %s", x.body, status, e, x.status, x.code)
		}
	}
	if status, e := ask(t, s, rootKey, "POST", "/v1/buckets/none/commit", `{"operations":[{"op":"put","key":"x"}]}`, nil); status != 404 || e.Code != "NoSuchBucket" {
		t.Errorf("%d %+v", status, e)
	}
	if _, err := s.objects.Head(t.Context(), "data", "x", &object.GetInput{}); err == nil {
		t.Error("a refused commit has written")
	}
}
