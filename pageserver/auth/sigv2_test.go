package auth

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
)

// The example of a GET that AWS publishes for version 2.
func TestPublishedV2(t *testing.T) {
	h, target := parse(t, `GET /photos/puppy.jpg HTTP/1.1
Host: awsexamplebucket1.us-west-1.s3.amazonaws.com
Date: Tue, 27 Mar 2007 19:36:42 +0000
Authorization: AWS AKIAIOSFODNN7EXAMPLE:qgk2+6Sv9/oM7G3qLEjTH1a1l1g=`)
	target.Bucket = "awsexamplebucket1"
	v := exampleVerifier(time.Date(2007, 3, 27, 19, 40, 0, 0, time.UTC))
	p, err := v.Verify(h, target)
	if err != nil {
		t.Fatal(err)
	}
	if p.Version != "AWS" || p.Key.ID != exampleKey.ID || p.Caller == nil || p.Payload.Form != Unsigned {
		t.Errorf("proof %+v", p)
	}
}

// Requests that minio-go signs in the header and in the query.
func TestClientsV2(t *testing.T) {
	for _, path := range oddPaths {
		for _, presign := range []bool{false, true} {
			u, err := url.Parse("http://127.0.0.1:9000" + escapePath(path) + "?uploads=&partNumber=3&response-content-type=a%2Fb%20c&other=1")
			if err != nil {
				t.Fatal(err)
			}
			r := &http.Request{Method: "PUT", URL: u, Host: u.Host, Header: http.Header{}}
			if presign {
				r = signer.PreSignV2(*r, exampleKey.ID, exampleKey.Secret, 60, false)
			} else {
				r.Header.Set("X-Amz-Meta-A", "two words")
				r.Header.Set("Content-Type", "text/plain")
				r.Header.Set("Content-Md5", "AWS HAHAHA")
				r = signer.SignV2(*r, exampleKey.ID, exampleKey.Secret, false)
			}
			text := wire(r)
			h, target := parse(t, text)
			p, err := exampleVerifier(time.Now()).Verify(h, target)
			if err != nil {
				t.Errorf("%s, presigned %t: %v", path, presign, err)
				continue
			}
			if p.Presigned != presign || p.Caller != RootCaller() {
				t.Errorf("%s: proof %+v", path, p)
			}
			h, target = parse(t, strings.Replace(text, "partNumber=3", "partNumber=4", 1))
			_, err = exampleVerifier(time.Now()).Verify(h, target)
			wantCode(t, err, "SignatureDoesNotMatch")
			if presign {
				h, target = parse(t, text)
				_, err = exampleVerifier(time.Now().Add(62*time.Second)).Verify(h, target)
				wantCode(t, err, "AccessDenied")
			}
		}
	}
}

func TestRefusedV2(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	const date = "Date: Wed, 06 May 2026 07:08:09 GMT\n"
	const key = "Authorization: AWS AKIAIOSFODNN7EXAMPLE:qgk2+6Sv9/oM7G3qLEjTH1a1l1g=\n"
	for _, c := range []struct{ name, query, headers, code string }{
		{"garbage", "", date + "Authorization: AWS HAHAHA\n", "InvalidArgument"},
		{"no signature", "", date + "Authorization: AWS a:\n", "InvalidArgument"},
		{"no date", "", key, "AccessDenied"},
		{"bad date", "", date + "x-amz-date: Bad Date\n" + key, "AccessDenied"},
		{"empty date", "", date + "x-amz-date:\n" + key, "AccessDenied"},
		{"long ago", "", "x-amz-date: Tue, 07 Jul 2010 21:53:04 GMT\n" + key, "RequestTimeTooSkewed"},
		{"before all time", "", "x-amz-date: Tue, 07 Jul 1950 21:53:04 GMT\n" + key, "AccessDenied"},
		{"after all time", "", "x-amz-date: Tue, 07 Jul 9999 21:53:04 GMT\n" + key, "RequestTimeTooSkewed"},
		{"unknown key", "", date + "Authorization: AWS AKIAIGR7ZNNBHC5BKSUB:FWeDfwojDSdS2Ztmpfeubhd9isU=\n", "InvalidAccessKeyId"},
		{"wrong", "", date + key, "SignatureDoesNotMatch"},
		{"signed chunks", "", date + "x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\n" + key, "InvalidArgument"},
		{"token", "", date + "x-amz-security-token: x\n" + key, "InvalidToken"},
		{"query, no key", "?Signature=x&Expires=1", "", "AccessDenied"},
		{"query, no date", "?AWSAccessKeyId=x&Signature=x&Expires=soon", "", "AccessDenied"},
		{"query, expired", "?AWSAccessKeyId=x&Signature=x&Expires=-5", "", "AccessDenied"},
		{"query, unknown", "?AWSAccessKeyId=x&Signature=x&Expires=9999999999", "", "InvalidAccessKeyId"},
		{"query, wrong", "?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=x&Expires=9999999999", "", "SignatureDoesNotMatch"},
		{"two ways", "?AWSAccessKeyId=x&Signature=x&Expires=9999999999", date + key, "InvalidArgument"},
	} {
		h, target := parse(t, "GET /b/k"+c.query+" HTTP/1.1\nHost: a\n"+c.headers)
		_, err := exampleVerifier(now).Verify(h, target)
		t.Run(c.name, func(t *testing.T) { wantCode(t, err, c.code) })
	}
}

func TestAnonymous(t *testing.T) {
	h, target := parse(t, "GET /b/k HTTP/1.1\nHost: a\nx-amz-content-sha256: "+emptySHA256)
	if _, err := exampleVerifier(exampleTime).Verify(h, target); err != ErrAnonymous {
		t.Errorf("error %v", err)
	}
	p, err := Anonymous(h)
	if err != nil || !p.Caller.Anonymous() || p.Payload.Form != Literal {
		t.Errorf("proof %+v, %v", p, err)
	}
	h, _ = parse(t, "PUT /b/k HTTP/1.1\nHost: a\nx-amz-content-sha256: "+signedChunks)
	if _, err := Anonymous(h); err != ErrAnonymous {
		t.Errorf("error %v", err)
	}
	if RootCaller().Anonymous() {
		t.Error("root is nobody")
	}
	if n := AccountNumber("ann"); len(n) != 12 || n == AccountNumber("bob") || AccountNumber(RootID) != "000000000000" {
		t.Errorf("account %s", n)
	}
}

// A bucket in the path, as it is sent and as botocore signs it: with a slash behind it.
func TestBucketV2(t *testing.T) {
	const date = "Wed, 25 Nov 2026 02:17:15 GMT"
	now := time.Date(2026, 11, 25, 2, 17, 15, 0, time.UTC)
	for _, signed := range []string{"/bucket", "/bucket/", "/bucket//", "/other"} {
		mac := hmac.New(sha1.New, []byte(exampleKey.Secret))
		mac.Write([]byte("PUT\n\n\n" + date + "\n" + signed))
		h, target := parse(t, "PUT /bucket HTTP/1.1\nHost: h\nDate: "+date+"\nAuthorization: AWS "+exampleKey.ID+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		_, err := exampleVerifier(now).Verify(h, target)
		if good := strings.TrimSuffix(signed, "/") == "/bucket"; (err == nil) != good {
			t.Errorf("%s: %v", signed, err)
		}
	}
}
