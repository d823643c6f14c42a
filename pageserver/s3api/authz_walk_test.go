package s3api

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Every operation that is served has said what it needs, and nothing else is in the table.
func TestEveryOperationIsDecided(t *testing.T) {
	served := map[string]bool{preflightOperation.name: true, whoAmIOperation.name: true}
	for _, known := range routeTable {
		for _, rt := range known {
			served[rt.op.name] = true
			if accessOf[rt.op.name] == nil {
				t.Errorf("%s: nobody says who may do it", rt.op.name)
			}
		}
	}
	for name := range accessOf {
		if !served[name] {
			t.Errorf("%s is not served", name)
		}
	}
}

// walkCall returns a request for a route, to /home and /home/k.
func walkCall(rt *route, method string) call {
	c := call{method: method, path: map[level]string{serviceLevel: "/", bucketLevel: "/home", objectLevel: "/home/k"}[rt.level]}
	switch rt.param {
	case "":
	case "list-type":
		c.path += "?list-type=2"
	case "uploadId":
		c.path += "?uploadId=18eb29198b6a760dcd78e72d420a9ea6"
	case "partNumber":
		c.path += "?partNumber=1&uploadId=18eb29198b6a760dcd78e72d420a9ea6"
	default:
		c.path += "?" + rt.param
	}
	switch rt.header {
	case "":
	case "x-amz-copy-source":
		c.headers = []string{rt.header, "home/k"}
	case "x-tigris-merge-source-bucket", "x-tigris-snapshot":
		c.headers = []string{rt.header, "home"}
	case "x-tigris-snapshot-version":
		c.headers = []string{rt.header, "7"}
	default:
		c.headers = []string{rt.header, "true"}
	}
	switch rt.op.name {
	case "CreateSnapshot":
		c.headers = []string{rt.header, "true"}
	case "RenameObject":
		if c.headers = append(c.headers, "x-amz-copy-source", "home/k"); rt.header == "" {
			c.headers = []string{"x-amz-rename-source", "k"}
		}
	case "GetObjectAttributes":
		c.headers = []string{"x-amz-object-attributes", "ETag"}
	case "DeleteObjects":
		c.body = "<Delete><Object><Key>k</Key></Object></Delete>"
		c.headers = []string{"Content-MD5", md5Of(c.body)}
	case "PutObjectTagging":
		c.body = "<Tagging><TagSet></TagSet></Tagging>"
	case "PostObject":
		c.body = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nmine\r\n--b--\r\n"
		c.headers = []string{"Content-Type", "multipart/form-data; boundary=b"}
	case "BundleObjects":
		c.body = `{"keys": ["k"]}`
		c.headers = []string{"X-Tigris-Bundle-Format", "tar"}
	}
	return c
}

// Nobody, and nobody else's account, may do anything at all to a bucket whose owner says
// nothing; the owner may.
func TestForeignersMayNothing(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	n.want(200, n.main.as(call{method: "PUT", path: "/home/k", body: "mine"}))
	before := n.store.Visible()
	for class, known := range routeTable {
		for i := range known {
			rt := &known[i]
			if rt.op.name == "ListBuckets" || rt.op.name == "CreateBucket" {
				continue
			}
			for who, c := range map[string]call{"alt": n.alt.as(walkCall(rt, class.method)), "nobody": anon(walkCall(rt, class.method))} {
				name := fmt.Sprintf("%s by %s", rt.op.name, who)
				a := n.do(c)
				switch {
				case rt.op.name == "DeleteObjects":
					if a.status != 200 || a.code() != "AccessDenied" || strings.Contains(a.body, "<Deleted>") {
						t.Errorf("%s: %d %s", name, a.status, a.body)
					}
				case a.status != 403 || class.method != "HEAD" && a.code() != "AccessDenied":
					t.Errorf("%s: %s %s: %d %s", name, c.method, c.path, a.status, a.body)
				}
			}
		}
	}
	if after := n.store.Visible(); after != before {
		t.Errorf("a foreigner has committed something")
	}
	if a := n.want(200, n.main.as(call{method: "GET", path: "/home/k"})); a.body != "mine" {
		t.Errorf("%q", a.body)
	}
	for class, known := range routeTable {
		for i := range known {
			rt := &known[i]
			if class.method == "DELETE" || slices.Contains([]string{"CreateSnapshot", "BundleObjects"}, rt.op.name) {
				continue
			}
			c := n.main.as(walkCall(rt, class.method))
			if a := n.do(c); a.status == 403 && a.code() != "InvalidObjectState" || a.status >= 500 && a.code() != "NotImplemented" {
				t.Errorf("%s by the owner: %s %s: %d %s", rt.op.name, c.method, c.path, a.status, a.body)
			}
		}
	}
}

// Who may do something is told that a bucket is missing; about keys only who may list.
func TestMissingIsHidden(t *testing.T) {
	n := newTenants(t)
	n.want(200, n.main.as(call{method: "PUT", path: "/home"}))
	for _, c := range []call{n.alt.as(call{}), anon(call{})} {
		for _, path := range []string{"/home/absent", "/home/absent?tagging", "/home/absent?acl"} {
			c.method, c.path = "GET", path
			n.refused(403, "AccessDenied", c)
		}
		c.path = "/absent/k"
		n.refused(404, "NoSuchBucket", c)
		c.method = "HEAD"
		n.want(404, c)
		c.path = "/home/absent"
		n.want(403, c)
	}
	policy := `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::home/*"},
		{"Effect":"Allow","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::home","Condition":{"StringLike":{"s3:prefix":"shown/*"}}}]}`
	n.want(204, n.main.as(call{method: "PUT", path: "/home?policy", body: policy}))
	n.refused(403, "AccessDenied", anon(call{method: "GET", path: "/home/absent"}))
	n.refused(404, "NoSuchKey", anon(call{method: "GET", path: "/home/shown/absent"}))
	n.refused(403, "AccessDenied", n.alt.as(call{method: "GET", path: "/home/absent?versionId=7"}))
	n.refused(404, "NoSuchKey", n.main.as(call{method: "GET", path: "/home/absent"}))
}
