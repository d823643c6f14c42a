package s3api

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"stemma/pageserver/identity"
)

func contains(s, part string) bool { return strings.Contains(s, part) }
func spaces(n int) string          { return strings.Repeat(" ", n) }

// tagSet makes tags of key=value pairs.
func tagSet(pairs ...string) *types.Tagging {
	t := &types.Tagging{TagSet: []types.Tag{}}
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		t.TagSet = append(t.TagSet, types.Tag{Key: aws.String(k), Value: aws.String(v)})
	}
	return t
}

// pairs is the reverse of tagSet.
func pairs(tags []types.Tag) string {
	var all []string
	for _, t := range tags {
		all = append(all, *t.Key+"="+*t.Value)
	}
	return strings.Join(all, " ")
}

func TestBucketTaggingLives(t *testing.T) {
	tag := func(k string) string {
		return "<Tagging><TagSet><Tag><Key>" + k + "</Key><Value>v</Value></Tag></TagSet></Tagging>"
	}
	testConfig(t, configCase{query: "tagging", absent: "NoSuchTagSet", a: tag("aaa"), b: tag("bbb"), markA: "<Key>aaa</Key>", markB: "<Key>bbb</Key>"})
}

func TestBucketTagging(t *testing.T) {
	s := newServer(t)
	s.bucket("one")
	b := aws.String("one")
	many := func(n int) *types.Tagging {
		var p []string
		for i := range n {
			p = append(p, fmt.Sprintf("k%d=v", i))
		}
		return tagSet(p...)
	}
	ok(s.sdk.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: b, Tagging: many(50)}))(t)
	if got := ok(s.sdk.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: b}))(t); pairs(got.TagSet) != pairs(many(50).TagSet) {
		t.Errorf("tags %s", pairs(got.TagSet))
	}
	for code, tags := range map[string]*types.Tagging{
		"BadRequest": many(51), "InvalidTag": tagSet("a=1", "a=2"),
	} {
		_, err := s.sdk.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: b, Tagging: tags})
		sdkError(t, err, 400, code)
	}
	ok(s.sdk.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: b, Tagging: tagSet()}))(t)
	_, err := s.sdk.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: b})
	sdkError(t, err, 404, "NoSuchTagSet")
}

// Tags that a bucket is made with are a right of their own, and no fork's.
func TestBucketsMadeWithTags(t *testing.T) {
	n := newTenants(t)
	input := func(name string, tags ...string) *s3.CreateBucketInput {
		return &s3.CreateBucketInput{Bucket: &name, CreateBucketConfiguration: &types.CreateBucketConfiguration{Tags: tagSet(tags...).TagSet}}
	}
	ok(n.main.sdk.CreateBucket(ctx, input("made", "team=a", "b=2")))(t)
	ok(n.main.sdk.CreateBucket(ctx, input("made", "team=a", "b=2")))(t) // again
	_, err := n.main.sdk.CreateBucket(ctx, input("made", "team=b"))
	sdkError(t, err, 409, "BucketAlreadyExists")
	if got := ok(n.main.sdk.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: aws.String("made")}))(t); pairs(got.TagSet) != "team=a b=2" {
		t.Errorf("tags %s", pairs(got.TagSet))
	}
	_, err = n.main.sdk.CreateBucket(ctx, input("twice", "a=1", "a=2"))
	sdkError(t, err, 400, "InvalidTag")
	n.refused(400, "InvalidArgument", n.main.as(call{method: "PUT", path: "/fork", headers: []string{"X-Tigris-Fork-Source-Bucket", "made"},
		body: "<CreateBucketConfiguration><Tags><Tag><Key>a</Key><Value>1</Value></Tag></Tags></CreateBucketConfiguration>"}))

	some := n.user(identity.NewUser{Name: "some", Account: n.main.ID})
	n.iam(n.main.key, "PutUserPolicy", "UserName", "some", "PolicyName", "p", "PolicyDocument", policyOf(
		`{"Effect":"Allow","Action":"s3:CreateBucket","Resource":"*"}`,
		`{"Effect":"Allow","Action":"s3:TagResource","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/team":"a"}}}`))
	ok(some.sdk.CreateBucket(ctx, input("plain")))(t)
	ok(some.sdk.CreateBucket(ctx, input("of-a", "team=a")))(t)
	_, err = some.sdk.CreateBucket(ctx, input("of-b", "team=b"))
	sdkError(t, err, 403, "AccessDenied")
}

func TestObjectTagging(t *testing.T) {
	s := newServer(t)
	s.bucket("one")
	b, k := aws.String("one"), aws.String("k")
	put := func(tags *types.Tagging) error {
		_, err := s.sdk.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: b, Key: k, Tagging: tags})
		return err
	}
	get := func(bucket string, o ...func(*s3.Options)) string {
		t.Helper()
		out := ok(s.sdk.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &bucket, Key: k}, o...))(t)
		return pairs(out.TagSet)
	}
	sdkError(t, put(tagSet("a=b")), 404, "NoSuchKey")
	_, err := s.sdk.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: b, Key: k})
	sdkError(t, err, 404, "NoSuchKey")
	_, err = s.sdk.DeleteObjectTagging(ctx, &s3.DeleteObjectTaggingInput{Bucket: b, Key: k})
	sdkError(t, err, 404, "NoSuchKey")

	for _, size := range []int{0, 100, 100_000} { // empty, inline, in a segment
		body := string(pattern(size))
		ok(s.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, Body: strings.NewReader(body), Metadata: map[string]string{"m": "1"}}))(t)
		was := s.want(200, call{method: "HEAD", path: "/one/k"})
		if get("one") != "" || was.header.Get("x-amz-tagging-count") != "" {
			t.Fatal("tags from the start")
		}
		if err := put(tagSet("z=1", "a=ü b", "empty=")); err != nil {
			t.Fatal(err)
		}
		tagged := s.now()
		if got := get("one"); got != "a=ü b empty= z=1" {
			t.Errorf("tags %q", got)
		}
		// The version is the same; only the count of tags is new.
		is := s.want(200, call{method: "GET", path: "/one/k"})
		if is.body != body || is.header.Get("x-amz-tagging-count") != "3" || is.header.Get("x-amz-meta-m") != "1" {
			t.Errorf("%d bytes, %v", len(is.body), is.header)
		}
		for _, h := range []string{"ETag", "Last-Modified"} {
			if was.header.Get(h) != is.header.Get(h) {
				t.Errorf("%s is %q, was %q", h, is.header.Get(h), was.header.Get(h))
			}
		}
		list := s.get("/one?list-type=2")
		if want := element(list, "LastModified"); want == "" {
			t.Error(list)
		}
		s.fork("one", "fork")
		if err := put(tagSet("b=2")); err != nil {
			t.Fatal(err)
		}
		if now, then, fork := get("one"), get("one", s.at(tagged)), get("fork"); now != "b=2" || then != "a=ü b empty= z=1" || fork != then {
			t.Errorf("now %q, then %q, in the fork %q", now, then, fork)
		}
		ok(s.sdk.DeleteObjectTagging(ctx, &s3.DeleteObjectTaggingInput{Bucket: b, Key: k}))(t)
		if got := get("one") + get("one", s.at(s.now())); got != "" {
			t.Errorf("deleted, and still %q", got)
		}
		if get("fork") == "" {
			t.Error("the fork has lost its tags")
		}
		s.want(204, call{method: "DELETE", path: "/fork", headers: []string{"Tigris-Force-Delete", "true"}})
	}

	before := s.store.Visible()
	ten, long := make([]string, 11), strings.Repeat("ü", 128)
	for i := range ten {
		ten[i] = fmt.Sprintf("k%d=v", i)
	}
	for _, bad := range [][]string{
		ten, {"a=1", "a=2"}, {"=x"}, {long + "x=1"}, {"a=" + long + long + "x"}, {"aws:x=1"}, {"AWS:x=1"}, {"a!=1"}, {"a=1\t2"},
	} {
		sdkError(t, put(tagSet(bad...)), 400, "InvalidTag")
	}
	if s.store.Visible() != before {
		t.Error("what was refused made a commit")
	}
	if err := put(tagSet(append(ten[:9:9], long+"="+long+long)...)); err != nil {
		t.Fatal(err)
	}
}

// An object can be born with tags.
func TestTaggingHeader(t *testing.T) {
	s := newServer(t)
	s.bucket("one")
	tags := func(path string) string {
		t.Helper()
		doc := s.get(path + "?tagging")
		keys, values := elements(doc, "Key"), elements(doc, "Value")
		var all []string
		for i := range keys {
			all = append(all, keys[i]+"="+values[i])
		}
		return strings.Join(all, " ")
	}
	expect := func(path, want string) {
		t.Helper()
		if got := tags(path); got != want {
			t.Errorf("%s: tags %q, want %q", path, got, want)
		}
	}
	tagged := func(h string) []string { return []string{"x-amz-tagging", h} }
	s.want(200, call{method: "PUT", path: "/one/k", body: "x", headers: tagged("foo=bar&bar&sp=a+b%20c%2B")})
	expect("/one/k", "bar= foo=bar sp=a b c+")
	s.refused(400, "InvalidTag", call{method: "PUT", path: "/one/l", body: "x", headers: tagged("aws:a=1")})
	for _, bad := range []string{"a=1&a=2", "a=%zz", "%=1"} {
		s.refused(400, "InvalidArgument", call{method: "PUT", path: "/one/l", body: "x", headers: tagged(bad)})
	}
	var eleven url.Values = map[string][]string{}
	for i := range 11 {
		eleven.Set(fmt.Sprint(i), "v")
	}
	s.refused(400, "InvalidTag", call{method: "PUT", path: "/one/l", body: "x", headers: tagged(eleven.Encode())})
	s.refused(501, "NotImplemented", call{method: "DELETE", path: "/one/k", headers: tagged("a=b")})

	copied := func(to string, headers ...string) call {
		return call{method: "PUT", path: to, headers: append([]string{"x-amz-copy-source", "/one/k"}, headers...)}
	}
	s.want(200, copied("/one/copy"))
	expect("/one/copy", "bar= foo=bar sp=a b c+")
	s.want(200, copied("/one/copy", "x-amz-tagging-directive", "REPLACE", "x-amz-tagging", "n=1"))
	expect("/one/copy", "n=1")
	s.want(200, copied("/one/copy", "x-amz-tagging-directive", "REPLACE"))
	expect("/one/copy", "")
	s.refused(400, "InvalidArgument", copied("/one/copy", "x-amz-tagging", "n=1"))
	s.refused(400, "InvalidArgument", copied("/one/copy", "x-amz-tagging-directive", "MAYBE"))
	s.want(200, copied("/one/k", "x-amz-tagging-directive", "REPLACE", "x-amz-tagging", "self=1"))
	expect("/one/k", "self=1")

	a := s.want(200, call{method: "POST", path: "/one/up?uploads", headers: tagged("u=1")})
	id := element(a.body, "UploadId")
	p := s.want(200, call{method: "PUT", path: "/one/up?partNumber=1&uploadId=" + id, body: "x"})
	s.want(200, call{method: "POST", path: "/one/up?uploadId=" + id, body: completeDoc("1", p.header.Get("ETag"))})
	expect("/one/up", "u=1")
	s.refused(400, "InvalidArgument", call{method: "POST", path: "/one/up?uploads", headers: tagged("a&a")})
}
