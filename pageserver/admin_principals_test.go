package pageserver

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"stemma/pageserver/auth"
)

// The history says who has written: a user by its present name, also when it is gone, nobody, or nothing for the root.
func TestNativePrincipals(t *testing.T) {
	s := started(t)
	var ann NewUserAnswer
	mustAsk(t, s, "POST", "/v1/users", `{"name":"ann"}`, &ann)
	root, user := client(s), clientOf(s, auth.Key{ID: ann.AccessKey, Secret: ann.SecretKey})
	if _, err := user.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("hers")}); err != nil {
		t.Fatal(err)
	}
	put := func(c *s3.Client) {
		t.Helper()
		if _, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("hers"), Key: aws.String("k"), Body: strings.NewReader("x")}); err != nil {
			t.Fatal(err)
		}
	}
	put(user)
	put(root)
	if _, err := user.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("hers"), Key: aws.String("k")}); err != nil {
		t.Fatal(err)
	}
	check := func(name string) {
		t.Helper()
		var h HistoryAnswer
		mustAsk(t, s, "GET", "/v1/buckets/hers/history?key=k", "", &h)
		var l LogAnswer
		mustAsk(t, s, "GET", "/v1/buckets/hers/log", "", &l)
		if len(h.Entries) != 3 || len(l.Entries) != 3 {
			t.Fatalf("%+v, %+v", h, l)
		}
		for i, want := range []string{name, "", name} {
			if h.Entries[i].Principal != want || l.Entries[i].Principal != want {
				t.Errorf("entry %d: %q and %q, want %q", i, h.Entries[i].Principal, l.Entries[i].Principal, want)
			}
		}
	}
	check(ann.ARN)
	if err := s.keys.users.Load().RenameUser(t.Context(), "ann", "anne"); err != nil {
		t.Fatal(err)
	}
	check(strings.TrimSuffix(ann.ARN, "ann") + "anne")
	mustAsk(t, s, "DELETE", "/v1/users/anne?force=true", "", nil)
	check(ann.ARN)
}

// What a form puts is of whoever signed it, the root too, not of the browser that sends it.
func TestPrincipalsOfForms(t *testing.T) {
	s := started(t)
	var ann NewUserAnswer
	mustAsk(t, s, "POST", "/v1/users", `{"name":"ann"}`, &ann)
	user := auth.Key{ID: ann.AccessKey, Secret: ann.SecretKey}
	if _, err := clientOf(s, user).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("hers")}); err != nil {
		t.Fatal(err)
	}
	post := func(key auth.Key) {
		t.Helper()
		until := time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z")
		policy := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"expiration": %q, "conditions": [{"bucket": "hers"}, {"key": "k"}]}`, until))
		h := hmac.New(sha1.New, []byte(key.Secret))
		h.Write([]byte(policy))
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for _, f := range [][2]string{{"key", "k"}, {"AWSAccessKeyId", key.ID}, {"signature", base64.StdEncoding.EncodeToString(h.Sum(nil))}, {"policy", policy}, {"file", "x"}} {
			if err := w.WriteField(f[0], f[1]); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		res, err := http.Post("http://"+s.Addr().String()+"/hers", w.FormDataContentType(), &b)
		if err != nil {
			t.Fatal(err)
		}
		if res.Body.Close(); res.StatusCode != 204 {
			t.Fatal(res.Status)
		}
	}
	post(user)
	post(rootKey)
	var h HistoryAnswer
	mustAsk(t, s, "GET", "/v1/buckets/hers/history?key=k", "", &h)
	if len(h.Entries) != 2 || h.Entries[0].Principal != "" || h.Entries[1].Principal != ann.ARN {
		t.Errorf("%+v, want the root, and before it %s", h.Entries, ann.ARN)
	}
}
