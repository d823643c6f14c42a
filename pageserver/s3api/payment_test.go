package s3api

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Where requesters pay, nobody but the owner gets in without saying so.
func TestRequesterPays(t *testing.T) {
	n := newTenants(t)
	home, key := aws.String("home"), aws.String("k")
	ok(n.main.sdk.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: home}))(t)
	ok(n.main.sdk.PutObject(ctx, &s3.PutObjectInput{Bucket: home, Key: key, Body: strings.NewReader("x")}))(t)
	ok(n.main.sdk.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: home, Policy: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::home","arn:aws:s3:::home/*"]}]}`)}))(t)
	get := func(c *s3.Client, payer types.RequestPayer) (types.RequestCharged, error) {
		out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: home, Key: key, RequestPayer: payer})
		if err != nil {
			return "", err
		}
		return out.RequestCharged, out.Body.Close()
	}
	free := func(c *s3.Client) {
		t.Helper()
		if charged, err := get(c, ""); err != nil || charged != "" {
			t.Errorf("charged %q, %v", charged, err)
		}
	}
	free(n.alt.sdk)
	free(n.nobody)
	ok(n.main.sdk.PutBucketRequestPayment(ctx, &s3.PutBucketRequestPaymentInput{
		Bucket: home, RequestPaymentConfiguration: &types.RequestPaymentConfiguration{Payer: types.PayerRequester},
	}))(t)
	free(n.main.sdk)
	free(n.sdk) // the root's
	_, err := get(n.alt.sdk, "")
	sdkError(t, err, 403, "AccessDenied")
	_, err = n.alt.sdk.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: home})
	sdkError(t, err, 403, "AccessDenied")
	if charged, err := get(n.alt.sdk, types.RequestPayerRequester); err != nil || charged != types.RequestChargedRequester {
		t.Errorf("charged %q, %v", charged, err)
	}
	_, err = get(n.nobody, types.RequestPayerRequester)
	sdkError(t, err, 403, "AccessDenied")
}
