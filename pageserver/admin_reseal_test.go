package pageserver

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"stemma/pageserver/keyring"
	"stemma/wal/storefs"
)

// A master key is replaced for good: the old one seals, both open while all is sealed anew,
// and the new one opens everything alone.
func TestMasterKeyReplaced(t *testing.T) {
	old, fresh := keyring.NewKey("old"), keyring.NewKey("fresh")
	fs, lines, ctx := storefs.NewMem(), &logLines{}, context.Background()
	serve := func(keys ...keyring.Key) *Server {
		t.Helper()
		o := options(fs, lines)
		var err error
		if o.MasterKeys, err = keyring.New(keys...); err != nil {
			t.Fatal(err)
		}
		s, err := Start(o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	bucket, key := aws.String("b-1"), aws.String("k")
	s := serve(old)
	if _, err := client(s).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	if _, err := client(s).PutObject(ctx, &s3.PutObjectInput{
		Bucket: bucket, Key: key, Body: strings.NewReader("secret"), ServerSideEncryption: types.ServerSideEncryptionAes256,
	}); err != nil {
		t.Fatal(err)
	}
	mustAsk(t, s, "POST", "/v1/users", `{"name":"ann"}`, nil)
	mustAsk(t, s, "POST", "/v1/keys", `{"user":"ann"}`, nil)
	shutdown(t, s)

	s = serve(fresh, old)
	var a ResealAnswer
	mustAsk(t, s, "POST", "/v1/encryption/reseal", "", &a)
	if a.Resealed != 1 || a.AccessKeys == 0 || a.Unopened != 0 {
		t.Errorf("%+v", a)
	}
	mustAsk(t, s, "POST", "/v1/encryption/reseal", "", &a)
	if a.Resealed != 0 {
		t.Errorf("the second time: %+v", a)
	}
	shutdown(t, s)

	s = serve(fresh)
	defer shutdown(t, s)
	got, err := client(s).GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := io.ReadAll(got.Body); err != nil || string(p) != "secret" {
		t.Errorf("%q, %v", p, err)
	}
	if lines.String() != "" {
		t.Errorf("logged: %s", lines)
	}
}
