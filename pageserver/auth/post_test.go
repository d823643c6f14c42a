package auth

import (
	"strings"
	"testing"
	"time"
)

// The form that the documentation of S3 signs.
func TestPublishedPostSignature(t *testing.T) {
	fields := map[string]string{
		"x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request", "x-amz-date": "20151229T000000Z",
		"x-amz-signature": "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
		"policy":          "eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjbCI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGUiLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1zaWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgICB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdCJ9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjlUMDAwMDAwWiIgfQ0KICBdDQp9",
	}
	signed := time.Date(2015, 12, 29, 0, 0, 0, 0, time.UTC)
	verify := func(now time.Time, change ...string) (*Proof, error) {
		get := func(name string) string {
			for i := 0; i < len(change); i += 2 {
				if change[i] == name {
					return change[i+1]
				}
			}
			return fields[name]
		}
		return exampleVerifier(now).VerifyPost(get)
	}
	p, err := verify(signed.Add(time.Hour))
	if err != nil || p.Key != exampleKey || p.Version != algorithm {
		t.Fatalf("%v, %v", p, err)
	}
	for name, c := range map[string]struct {
		now    time.Time
		change []string
		code   string
	}{
		"policy":     {signed, []string{"policy", fields["policy"] + "="}, "SignatureDoesNotMatch"},
		"signature":  {signed, []string{"x-amz-signature", strings.Repeat("0", 64)}, "SignatureDoesNotMatch"},
		"upper case": {signed, []string{"x-amz-signature", strings.ToUpper(fields["x-amz-signature"])}, "SignatureDoesNotMatch"},
		"region":     {signed, []string{"x-amz-credential", "AKIAIOSFODNN7EXAMPLE/20151229/eu-west-1/s3/aws4_request"}, "SignatureDoesNotMatch"},
		"service":    {signed, []string{"x-amz-credential", "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/iam/aws4_request"}, "InvalidArgument"},
		"day":        {signed, []string{"x-amz-date", "20151230T000000Z"}, "InvalidArgument"},
		"no date":    {signed, []string{"x-amz-date", "today"}, "InvalidArgument"},
		"algorithm":  {signed, []string{"x-amz-algorithm", "AWS4-HMAC-SHA1"}, "InvalidArgument"},
		"key":        {signed, []string{"x-amz-credential", "AKIA/20151229/us-east-1/s3/aws4_request"}, "InvalidAccessKeyId"},
		"token":      {signed, []string{"x-amz-security-token", "x"}, "InvalidToken"},
		"both":       {signed, []string{"signature", "x"}, "InvalidArgument"},
		"late":       {signed.Add(169 * time.Hour), nil, "AccessDenied"},
		"early":      {signed.Add(-time.Hour), nil, "AccessDenied"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := verify(c.now, c.change...)
			wantCode(t, err, c.code)
		})
	}
	nothing, err := exampleVerifier(signed).VerifyPost(func(string) string { return "" })
	if err != nil || !nothing.Caller.Anonymous() || nothing.Version != "" {
		t.Errorf("%v, %v", nothing, err)
	}
}
