package policy

import (
	"errors"
	"strings"
	"testing"
)

func parse(t testing.TB, doc string, kind Kind) *Policy {
	t.Helper()
	p, err := Parse([]byte(doc), kind, "data")
	if err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	return p
}

// statements makes a document of statements.
func statements(list ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(list, ",") + `]}`
}

func TestStatements(t *testing.T) {
	ann := Principal{Names: []string{"arn:aws:iam::111111111111:user/ann", "ann-id"}, Accounts: []string{"arn:aws:iam::111111111111:root", "111111111111"}, Canonical: "ann-c"}
	const object = "arn:aws:s3:::data/a/b"
	for _, c := range []struct {
		name, doc string
		who       Principal
		action    string
		resource  string
		want      Decision
	}{
		{"everybody", `{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*"}`, Principal{}, "s3:GetObject", object, Allow},
		{"another action", `{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*"}`, Principal{}, "s3:PutObject", object, None},
		{"action in any case", `{"Effect":"Allow","Principal":"*","Action":"S3:getOBJECT","Resource":"arn:aws:s3:::data/*"}`, Principal{}, "s3:GetObject", object, Allow},
		{"resource in its case", `{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/A/*"}`, Principal{}, "s3:GetObject", object, None},
		{"bucket is no object", `{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::data"}`, Principal{}, "s3:GetObject", object, None},
		{"any action", `{"Effect":"Allow","Principal":"*","Action":"*","Resource":"arn:aws:s3:::data/*"}`, Principal{}, "s3:GetObject", object, Allow},
		{"AWS star", `{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"s3:*","Resource":"arn:aws:s3:::data/*"}`, Principal{}, "s3:GetObject", object, Allow},
		{"by ARN", `{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111111111111:user/ann"]},"Action":"s3:*","Resource":"*"}`, ann, "s3:GetObject", object, Allow},
		{"by ARN, nobody", `{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111111111111:user/ann"]},"Action":"s3:*","Resource":"*"}`, Principal{}, "s3:GetObject", object, None},
		{"by account", `{"Effect":"Allow","Principal":{"AWS":"111111111111"},"Action":"s3:*","Resource":"*"}`, ann, "s3:GetObject", object, Allow},
		{"by canonical id", `{"Effect":"Allow","Principal":{"CanonicalUser":"ann-c"},"Action":"s3:*","Resource":"*"}`, ann, "s3:GetObject", object, Allow},
		{"no canonical id", `{"Effect":"Allow","Principal":{"CanonicalUser":"x"},"Action":"s3:*","Resource":"*"}`, Principal{}, "s3:GetObject", object, None},
		{"a service", `{"Effect":"Allow","Principal":{"Service":"logging.s3.amazonaws.com"},"Action":"s3:PutObject","Resource":"*"}`, Principal{Service: "logging.s3.amazonaws.com"}, "s3:PutObject", object, Allow},
		{"not a service", `{"Effect":"Allow","Principal":{"Service":"logging.s3.amazonaws.com"},"Action":"s3:PutObject","Resource":"*"}`, ann, "s3:PutObject", object, None},
		{"not principal", `{"Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam::111111111111:user/ann"},"Action":"s3:*","Resource":"*"}`, Principal{}, "s3:GetObject", object, Deny},
		{"not principal, she", `{"Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam::111111111111:user/ann"},"Action":"s3:*","Resource":"*"}`, ann, "s3:GetObject", object, None},
		{"not action", `{"Effect":"Deny","Principal":"*","NotAction":"s3:GetObject","Resource":"*"}`, ann, "s3:GetObject", object, None},
		{"not action, other", `{"Effect":"Deny","Principal":"*","NotAction":"s3:GetObject","Resource":"*"}`, ann, "s3:PutObject", object, Deny},
		{"not resource", `{"Effect":"Allow","Principal":"*","Action":"s3:*","NotResource":"arn:aws:s3:::data/a/*"}`, ann, "s3:GetObject", object, None},
		{"not resource, other", `{"Effect":"Allow","Principal":"*","Action":"s3:*","NotResource":"arn:aws:s3:::data/b/*"}`, ann, "s3:GetObject", object, Allow},
		{"deny wins", `{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*"},{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}`, ann, "s3:GetObject", object, Deny},
		{"deny wins, later", `{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"},{"Effect":"Deny","Principal":"*","Action":"s3:Get*","Resource":"*"}`, ann, "s3:GetObject", object, Deny},
	} {
		p := parse(t, statements(c.doc), Resource)
		if got := p.Evaluate(&Request{Principal: c.who, Action: c.action, Resource: c.resource}); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	delegated := ann
	delegated.Delegated = true
	allow := parse(t, statements(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"s3:*","Resource":"*"}`), Resource)
	deny := parse(t, statements(`{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"s3:*","Resource":"*"}`), Resource)
	r := &Request{Principal: delegated, Action: "s3:GetObject", Resource: object}
	if a, d := allow.Evaluate(r), deny.Evaluate(r); a != None || d != Deny {
		t.Errorf("an account that delegates: %v, %v", a, d)
	}
}

func TestConditions(t *testing.T) {
	ctx := fixed{
		"aws:sourceip": {"10.1.2.3"}, "aws:securetransport": {"true"}, "aws:currenttime": {"2026-03-04T05:06:07Z"}, "s3:max-keys": {"10"},
		"s3:prefix": {"home/ann/x"}, "aws:username": {"ann"}, "s3:requestobjecttagkeys": {"a", "b"}, "aws:principalarn": {"arn:aws:iam::1:user/x/ann"},
		"aws:six": {"2001:db8::1"}, "bin": {"AQI="},
	}
	for cond, want := range map[string]bool{
		`"StringEquals":{"s3:prefix":"home/ann/x"}`:                                        true,
		`"StringEquals":{"S3:PREFIX":["a","home/ann/x"]}`:                                  true,
		`"StringEquals":{"s3:prefix":"home/*"}`:                                            false,
		`"StringEquals":{"s3:delimiter":"/"}`:                                              false,
		`"StringEqualsIfExists":{"s3:delimiter":"/"}`:                                      true,
		`"StringEqualsIfExists":{"s3:prefix":"/"}`:                                         false,
		`"StringNotEquals":{"s3:prefix":"a"}`:                                              true,
		`"StringNotEquals":{"s3:prefix":["a","home/ann/x"]}`:                               false,
		`"StringNotEquals":{"s3:delimiter":"/"}`:                                           true,
		`"StringEqualsIgnoreCase":{"s3:prefix":"HOME/ANN/X"}`:                              true,
		`"StringNotEqualsIgnoreCase":{"s3:prefix":"HOME/ANN/X"}`:                           false,
		`"StringLike":{"s3:prefix":"home/${aws:username}/*"}`:                              true,
		`"StringLike":{"s3:prefix":"home/${aws:userid}/*"}`:                                false,
		`"StringNotLike":{"s3:prefix":"home/*"}`:                                           false,
		`"NumericEquals":{"s3:max-keys":10}`:                                               true,
		`"NumericEquals":{"s3:max-keys":"10.0"}`:                                           true,
		`"NumericNotEquals":{"s3:max-keys":"10"}`:                                          false,
		`"NumericLessThan":{"s3:max-keys":"10"}`:                                           false,
		`"NumericLessThanEquals":{"s3:max-keys":"10"}`:                                     true,
		`"NumericGreaterThan":{"s3:max-keys":"9"}`:                                         true,
		`"NumericGreaterThanEquals":{"s3:max-keys":"11"}`:                                  false,
		`"NumericEquals":{"s3:prefix":"10"}`:                                               false,
		`"DateGreaterThan":{"aws:CurrentTime":"2026-03-04"}`:                               true,
		`"DateLessThan":{"aws:CurrentTime":"2026-03-04T05:06:07Z"}`:                        false,
		`"DateLessThanEquals":{"aws:CurrentTime":"2026-03-04T05:06:07Z"}`:                  true,
		`"DateEquals":{"aws:CurrentTime":"1772600767"}`:                                    true,
		`"DateNotEquals":{"aws:CurrentTime":"2026"}`:                                       true,
		`"DateGreaterThanEquals":{"aws:CurrentTime":"2027"}`:                               false,
		`"Bool":{"aws:SecureTransport":"true"}`:                                            true,
		`"Bool":{"aws:SecureTransport":false}`:                                             false,
		`"Bool":{"aws:Missing":"false"}`:                                                   false,
		`"BoolIfExists":{"aws:Missing":"false"}`:                                           true,
		`"BinaryEquals":{"bin":"AQI="}`:                                                    true,
		`"BinaryEquals":{"bin":"AQM="}`:                                                    false,
		`"IpAddress":{"aws:SourceIp":"10.1.0.0/16"}`:                                       true,
		`"IpAddress":{"aws:SourceIp":["192.168.0.0/16","10.1.2.3"]}`:                       true,
		`"IpAddress":{"aws:SourceIp":"10.2.0.0/16"}`:                                       false,
		`"NotIpAddress":{"aws:SourceIp":"10.1.0.0/16"}`:                                    false,
		`"NotIpAddress":{"aws:SourceIp":"10.2.0.0/16"}`:                                    true,
		`"IpAddress":{"aws:six":"2001:db8::/32"}`:                                          true,
		`"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/*"}`:                           true,
		`"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::2:user/*"}`:                         false,
		`"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::2:user/*"}`:                        true,
		`"Null":{"s3:prefix":"true"}`:                                                      false,
		`"Null":{"s3:prefix":"false"}`:                                                     true,
		`"Null":{"s3:delimiter":true}`:                                                     true,
		`"ForAllValues:StringEquals":{"s3:RequestObjectTagKeys":["a","b","c"]}`:            true,
		`"ForAllValues:StringEquals":{"s3:RequestObjectTagKeys":["a"]}`:                    false,
		`"ForAllValues:StringEquals":{"aws:Missing":["a"]}`:                                true,
		`"ForAnyValue:StringEquals":{"s3:RequestObjectTagKeys":["b"]}`:                     true,
		`"ForAnyValue:StringEquals":{"s3:RequestObjectTagKeys":["c"]}`:                     false,
		`"ForAnyValue:StringEquals":{"aws:Missing":["c"]}`:                                 false,
		`"ForAnyValue:StringNotEquals":{"s3:RequestObjectTagKeys":["a"]}`:                  true,
		`"ForAnyValue:StringNotEquals":{"aws:Missing":["a"]}`:                              false,
		`"ForAllValues:StringNotEquals":{"s3:RequestObjectTagKeys":["a"]}`:                 false,
		`"StringEquals":{"s3:prefix":"home/ann/x"},"Bool":{"aws:SecureTransport":"false"}`: false,
		`"StringEquals":{"s3:prefix":"home/ann/x","aws:username":"bob"}`:                   false,
		`"stringequals":{"s3:prefix":"home/ann/x"}`:                                        true,
		`"StringEquals":{"s3:prefix":"home/${aws:username}/x"}`:                            true,
		`"StringLike":{"s3:prefix":"home/${*}/x"}`:                                         false,
	} {
		p := parse(t, statements(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{`+cond+`}}`), Identity)
		if got := p.Evaluate(&Request{Action: "s3:ListBucket", Resource: "arn:aws:s3:::data", Context: ctx}) == Allow; got != want {
			t.Errorf("%s: %t, want %t", cond, got, want)
		}
	}
}

func TestMalformed(t *testing.T) {
	const tail = `"Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::data/*"`
	for doc, want := range map[string]string{
		``:                         "first byte",
		`[]`:                       "first byte",
		` {}`:                      "first byte",
		`{`:                        "valid JSON",
		`{} {}`:                    "valid JSON",
		`{"Id":"x"}`:               "Statement",
		`{"Version":"2012-10-17"}`: "Statement",
		`{"Version":"2010-10-17","Statement":[{"Effect":"Allow",` + tail + `}]}`: "version",
		`{"Statement":[]}`:                                    "Statement",
		`{"Statement":[1]}`:                                   "Statement",
		`{"Statement":"x"}`:                                   "Statement",
		`{"statement":[]}`:                                    "Unknown field",
		`{"Statement":[],"Statement":[]}`:                     "Duplicate",
		statements(`{` + tail + `}`):                          "Effect",
		statements(`{"Effect":"allow",` + tail + `}`):         "Invalid effect",
		statements(`{"Effect":"Allow","Foo":1,` + tail + `}`): "Unknown field",
		statements(`{"Effect":"Allow","Sid":1,` + tail + `}`): "Sid",
		statements(`{"Effect":"Allow","Principal":"*","Resource":"arn:aws:s3:::data"}`):                                      "Action",
		statements(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject"}`):                                             "Resource",
		statements(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::data"}`):                              "Principal",
		statements(`{"Effect":"Allow","Principal":"x","Action":"s3:GetObject","Resource":"arn:aws:s3:::data"}`):              "principal",
		statements(`{"Effect":"Allow","Principal":{},"Action":"s3:GetObject","Resource":"arn:aws:s3:::data"}`):               "principal",
		statements(`{"Effect":"Allow","Principal":{"AWS":""},"Action":"s3:GetObject","Resource":"arn:aws:s3:::data"}`):       "principal",
		statements(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::1:user/*"},"Action":"s3:*","Resource":"*"}`):          "principal",
		statements(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:s3:::data"},"Action":"s3:*","Resource":"*"}`):              "principal",
		statements(`{"Effect":"Allow","Principal":{"Foo":"x"},"Action":"s3:*","Resource":"*"}`):                              "principal",
		statements(`{"Effect":"Allow","NotPrincipal":"*","Action":"s3:*","Resource":"*"}`):                                   "NotPrincipal",
		statements(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObjects","Resource":"arn:aws:s3:::data/*"}`):           "action",
		statements(`{"Effect":"Allow","Principal":"*","Action":"GetObject","Resource":"arn:aws:s3:::data/*"}`):               "action",
		statements(`{"Effect":"Allow","Principal":"*","Action":"iam:CreateUser","Resource":"arn:aws:s3:::data/*"}`):          "action",
		statements(`{"Effect":"Allow","Principal":"*","Action":[],"Resource":"arn:aws:s3:::data/*"}`):                        "Action",
		statements(`{"Effect":"Allow","Principal":"*","Action":7,"Resource":"arn:aws:s3:::data/*"}`):                         "Action",
		statements(`{"Effect":"Allow","Principal":"*","Action":"s3:*","NotAction":"s3:*","Resource":"arn:aws:s3:::data/*"}`): "NotAction",
		statements(`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"data"}`):                                   "resource",
		statements(`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::other/*"}`):                   "resource",
		statements(`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:sqs:::data"}`):                     "resource",
		statements(`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::data/${"}`):                   "resource",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":[]}`):                                                         "Condition",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":{"Foo":{"aws:x":"y"}}}`):                                      "Condition type",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":{"StringEquals":[]}}`):                                        "StringEquals",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":{"StringEquals":{"aws:x":[]}}}`):                              "value",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":{"StringEquals":{"aws:x":{}}}}`):                              "aws:x",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":{"StringEquals":{"s3:foo":"y"}}}`):                            "condition key",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":{"NullIfExists":{"aws:x":"true"}}}`):                          "Condition type",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":{"Null":{"aws:x":["true","false"]}}}`):                        "value",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":{"IpAddress":{"aws:SourceIp":"x"}}}`):                         "IpAddress",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":{"NumericEquals":{"s3:max-keys":"0x1"}}}`):                    "NumericEquals",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":{"DateEquals":{"aws:CurrentTime":"yesterday"}}}`):             "DateEquals",
		statements(`{"Effect":"Allow",` + tail + `,"Condition":{"Bool":{"aws:SecureTransport":"maybe"}}}`):                   "Bool",
		`{"Statement":[{"Effect":"Allow",` + tail + `}],"Id":"` + strings.Repeat("x", MaxBytes) + `"}`:                       "longer",
	} {
		_, err := Parse([]byte(doc), Resource, "data")
		if e := new(Error); !errors.As(err, &e) || !strings.Contains(e.Message, want) {
			t.Errorf("%.200s: %v, want something about %q", doc, err, want)
		}
	}
	for _, doc := range []string{
		statements(`{"Effect":"Allow","Action":"s3:*","Resource":"*","Principal":"*"}`),
		statements(`{"Sid":"a","Effect":"Allow","Action":"s3:*","Resource":"*"}`, `{"Sid":"a","Effect":"Allow","Action":"s3:*","Resource":"*"}`),
	} {
		if _, err := Parse([]byte(doc), Identity, ""); err == nil {
			t.Errorf("%s: passed as policy of an identity", doc)
		}
	}
	trust := statements(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam:::user/ann"},"Action":["sts:AssumeRole"]}`)
	if d := parse(t, trust, Trust).Evaluate(&Request{Principal: Principal{Names: []string{"arn:aws:iam:::user/ann"}}, Action: "sts:AssumeRole"}); d != Allow {
		t.Errorf("a trust policy decides %v", d)
	}
}

func TestPublic(t *testing.T) {
	for doc, want := range map[string]bool{
		`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}`:                                                                                   true,
		`{"Effect":"Allow","Principal":{"AWS":["x","*"]},"Action":"s3:*","Resource":"*"}`:                                                                     true,
		`{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*"}`:                                                                                    false,
		`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::s3tenant1:root"},"Action":"s3:*","Resource":"*"}`:                                                 false,
		`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/32"}}}`:                          false,
		`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":["10.0.0.0/32","0.0.0.0/1"]}}}`:            true,
		`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/32"}}}`:                       true,
		`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalArn":"arn:aws:iam::1:user/x"}}}`:         false,
		`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"StringLike":{"aws:PrincipalArn":"arn:aws:iam::*"}}}`:                  true,
		`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"StringEqualsIfExists":{"aws:PrincipalArn":"arn:aws:iam::1:user/x"}}}`: true,
		`{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"StringEquals":{"s3:prefix":"public/"}}}`:                              true,
	} {
		if got := parse(t, statements(doc), Resource).Public(); got != want {
			t.Errorf("%s: public %t", doc, got)
		}
	}
}

// TestKnownActions holds the list of actions to be in order and without repeats.
func TestKnownActions(t *testing.T) {
	seen := make(map[string]bool)
	for _, a := range Actions {
		if seen[a] {
			t.Errorf("%s twice", a)
		}
		seen[a] = true
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(statements(`{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["s3:Get*"],"Resource":"arn:aws:s3:::data/${aws:username}/*","Condition":{"ForAnyValue:StringLikeIfExists":{"s3:prefix":["a*"]}}}`)), byte(1))
	f.Add([]byte(statements(`{"Effect":"Deny","NotAction":"*","NotResource":"*","Condition":{"NumericLessThan":{"a":1}}}`)), byte(0))
	f.Fuzz(func(t *testing.T, doc []byte, kind byte) {
		p, err := Parse(doc, Kind(kind%3), "data")
		if err != nil {
			if !errors.As(err, new(*Error)) {
				t.Errorf("error %T: %v", err, err)
			}
			return
		}
		p.Evaluate(&Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::data/k", Context: fixed{"aws:username": {"ann"}}})
		p.Public()
	})
}

func BenchmarkEvaluate(b *testing.B) {
	p := parse(b, statements(
		`{"Effect":"Allow","Principal":"*","Action":["s3:Put*","s3:GetObject"],"Resource":"arn:aws:s3:::data/public/*"}`,
		`{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::data","arn:aws:s3:::data/*"],"Condition":{"Bool":{"aws:SecureTransport":"false"}}}`), Resource)
	r := &Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::data/public/x", Context: fixed{"aws:securetransport": {"true"}}}
	b.ReportAllocs()
	for b.Loop() {
		if p.Evaluate(r) != Allow {
			b.Fatal("refused")
		}
	}
}
