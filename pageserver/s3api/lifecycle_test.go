package s3api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// lifecycleDoc makes a document of rules without the element Rule.
func lifecycleDoc(rules ...string) string {
	doc := "<LifecycleConfiguration>"
	for _, r := range rules {
		doc += "<Rule>" + r + "</Rule>"
	}
	return doc + "</LifecycleConfiguration>"
}

func TestLifecycleLives(t *testing.T) {
	a := lifecycleDoc(
		`<ID>legacy</ID><Prefix>a/</Prefix><Status>Enabled</Status><Expiration><Days>1</Days></Expiration><Transition><Days>0</Days><StorageClass>GLACIER</StorageClass></Transition>`,
		`<ID>all</ID><Filter><And><Prefix>p</Prefix><Tag><Key>k</Key><Value>v</Value></Tag><Tag><Key>l</Key><Value/></Tag><ObjectSizeGreaterThan>0</ObjectSizeGreaterThan><ObjectSizeLessThan>10</ObjectSizeLessThan></And></Filter><Status>Disabled</Status>`+
			`<NoncurrentVersionExpiration><NoncurrentDays>5</NoncurrentDays><NewerNoncurrentVersions>3</NewerNoncurrentVersions></NoncurrentVersionExpiration>`+
			`<NoncurrentVersionTransition><NoncurrentDays>1</NoncurrentDays><StorageClass>STANDARD_IA</StorageClass></NoncurrentVersionTransition>`,
		`<Filter/><Status>Enabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>`,
	)
	b := lifecycleDoc(`<ID>other</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status><Expiration><Date>2030-01-01</Date></Expiration>`)
	testConfig(t, configCase{query: "lifecycle", absent: "NoSuchLifecycleConfiguration", a: a, b: b, markA: "<ID>legacy</ID>", markB: "<Date>2030-01-01T00:00:00.000Z</Date>"})
}

// What comes back is what was put, with an id where there was none.
func TestLifecycleComesBack(t *testing.T) {
	s := newServer(t)
	s.bucket("one")
	rules := []types.LifecycleRule{
		{ID: aws.String("a"), Status: "Enabled", Prefix: aws.String("x/"), Expiration: &types.LifecycleExpiration{Days: aws.Int32(31)}},
		{Status: "Disabled", Filter: &types.LifecycleRuleFilter{ObjectSizeLessThan: aws.Int64(7)}, Transitions: []types.Transition{{Days: aws.Int32(1), StorageClass: "STANDARD_IA"}, {Days: aws.Int32(7), StorageClass: "DEEP_ARCHIVE"}}},
	}
	put := ok(s.sdk.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
		Bucket: aws.String("one"), LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules}, TransitionDefaultMinimumObjectSize: "varies_by_storage_class",
	}))(t)
	got := ok(s.sdk.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: aws.String("one")}))(t)
	if put.TransitionDefaultMinimumObjectSize != "varies_by_storage_class" || got.TransitionDefaultMinimumObjectSize != "varies_by_storage_class" {
		t.Errorf("%q, %q", put.TransitionDefaultMinimumObjectSize, got.TransitionDefaultMinimumObjectSize)
	}
	//lint:ignore SA1019 the form that old programs send comes back as it was
	if len(got.Rules) != 2 || *got.Rules[0].ID != "a" || *got.Rules[0].Expiration.Days != 31 || *got.Rules[0].Prefix != "x/" || got.Rules[0].Filter != nil {
		t.Errorf("%+v", got.Rules)
	}
	if r := got.Rules[1]; r.ID == nil || *r.ID == "" || *r.Filter.ObjectSizeLessThan != 7 || len(r.Transitions) != 2 || r.Transitions[1].StorageClass != "DEEP_ARCHIVE" {
		t.Errorf("%+v", r)
	}
}

func TestLifecycleIsChecked(t *testing.T) {
	s := newServer(t)
	s.bucket("one")
	const (
		filter  = `<Filter><Prefix>p</Prefix></Filter>`
		on      = `<Status>Enabled</Status>`
		expires = `<Expiration><Days>5</Days></Expiration>`
	)
	tag := func(k string) string { return "<Tag><Key>" + k + "</Key><Value>v</Value></Tag>" }
	var many []string
	for i := range 1001 {
		many = append(many, fmt.Sprintf("<ID>%d</ID>", i)+filter+on+expires)
	}
	before := s.store.Visible()
	for name, c := range map[string]struct {
		code string
		doc  string
	}{
		"no rules":              {"MalformedXML", lifecycleDoc()},
		"too many":              {"InvalidRequest", lifecycleDoc(many...)},
		"same id":               {"InvalidArgument", lifecycleDoc("<ID>a</ID>"+filter+on+expires, "<ID>a</ID>"+filter+on+expires)},
		"long id":               {"InvalidArgument", lifecycleDoc("<ID>" + strings.Repeat("a", 256) + "</ID>" + filter + on + expires)},
		"status":                {"MalformedXML", lifecycleDoc(filter + "<Status>enabled</Status>" + expires)},
		"no status":             {"MalformedXML", lifecycleDoc(filter + expires)},
		"no filter":             {"MalformedXML", lifecycleDoc(on + expires)},
		"two filters":           {"MalformedXML", lifecycleDoc(filter + "<Prefix/>" + on + expires)},
		"no action":             {"InvalidRequest", lifecycleDoc(filter + on)},
		"long prefix":           {"InvalidRequest", lifecycleDoc("<Prefix>" + strings.Repeat("a", 1025) + "</Prefix>" + on + expires)},
		"days 0":                {"InvalidArgument", lifecycleDoc(filter + on + "<Expiration><Days>0</Days></Expiration>")},
		"days -1":               {"InvalidArgument", lifecycleDoc(filter + on + "<Expiration><Days>-1</Days></Expiration>")},
		"days no number":        {"MalformedXML", lifecycleDoc(filter + on + "<Expiration><Days>one</Days></Expiration>")},
		"days too many":         {"MalformedXML", lifecycleDoc(filter + on + "<Expiration><Days>2147483648</Days></Expiration>")},
		"expiration of nothing": {"MalformedXML", lifecycleDoc(filter + on + "<Expiration/>")},
		"days and date":         {"MalformedXML", lifecycleDoc(filter + on + "<Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>")},
		"days and marker":       {"MalformedXML", lifecycleDoc(filter + on + "<Expiration><Days>1</Days><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>")},
		"date not midnight":     {"InvalidArgument", lifecycleDoc(filter + on + "<Expiration><Date>2030-01-01T01:00:00Z</Date></Expiration>")},
		"date of no form":       {"MalformedXML", lifecycleDoc(filter + on + "<Expiration><Date>20300101</Date></Expiration>")},
		"marker and tag":        {"InvalidRequest", lifecycleDoc("<Filter>" + tag("k") + "</Filter>" + on + "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>")},
		"abort and tag":         {"InvalidRequest", lifecycleDoc("<Filter>" + tag("k") + "</Filter>" + on + "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>")},
		"abort and size":        {"InvalidRequest", lifecycleDoc("<Filter><ObjectSizeLessThan>7</ObjectSizeLessThan></Filter>" + on + "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>")},
		"abort 0":               {"InvalidArgument", lifecycleDoc(filter + on + "<AbortIncompleteMultipartUpload><DaysAfterInitiation>0</DaysAfterInitiation></AbortIncompleteMultipartUpload>")},
		"abort without days":    {"MalformedXML", lifecycleDoc(filter + on + "<AbortIncompleteMultipartUpload/>")},
		"noncurrent 0":          {"InvalidArgument", lifecycleDoc(filter + on + "<NoncurrentVersionExpiration><NoncurrentDays>0</NoncurrentDays></NoncurrentVersionExpiration>")},
		"noncurrent no days":    {"MalformedXML", lifecycleDoc(filter + on + "<NoncurrentVersionExpiration/>")},
		"newer 0":               {"InvalidArgument", lifecycleDoc(filter + on + "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>0</NewerNoncurrentVersions></NoncurrentVersionExpiration>")},
		"newer 101":             {"InvalidArgument", lifecycleDoc(filter + on + "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>101</NewerNoncurrentVersions></NoncurrentVersionExpiration>")},
		"class":                 {"MalformedXML", lifecycleDoc(filter + on + "<Transition><Days>1</Days><StorageClass>LUKEWARM</StorageClass></Transition>")},
		"class standard":        {"MalformedXML", lifecycleDoc(filter + on + "<Transition><Days>1</Days><StorageClass>STANDARD</StorageClass></Transition>")},
		"no class":              {"MalformedXML", lifecycleDoc(filter + on + "<Transition><Days>1</Days></Transition>")},
		"transition of nothing": {"MalformedXML", lifecycleDoc(filter + on + "<Transition><StorageClass>GLACIER</StorageClass></Transition>")},
		"transition -1":         {"InvalidArgument", lifecycleDoc(filter + on + "<Transition><Days>-1</Days><StorageClass>GLACIER</StorageClass></Transition>")},
		"same class":            {"InvalidRequest", lifecycleDoc(filter + on + strings.Repeat("<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>", 2))},
		"transition too late":   {"InvalidArgument", lifecycleDoc(filter + on + expires + "<Transition><Days>5</Days><StorageClass>GLACIER</StorageClass></Transition>")},
		"mixed":                 {"InvalidRequest", lifecycleDoc(filter + on + expires + "<Transition><Date>2030-01-01</Date><StorageClass>GLACIER</StorageClass></Transition>")},
		"noncurrent too late": {"InvalidArgument", lifecycleDoc(filter + on + "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>" +
			"<NoncurrentVersionTransition><NoncurrentDays>1</NoncurrentDays><StorageClass>GLACIER</StorageClass></NoncurrentVersionTransition>")},
		"same tag":       {"InvalidRequest", lifecycleDoc("<Filter><And>" + tag("k") + tag("k") + "</And></Filter>" + on + expires)},
		"bad tag":        {"InvalidTag", lifecycleDoc("<Filter>" + tag("") + "</Filter>" + on + expires)},
		"half a tag":     {"MalformedXML", lifecycleDoc("<Filter><Tag><Key>k</Key></Tag></Filter>" + on + expires)},
		"sizes":          {"InvalidRequest", lifecycleDoc("<Filter><And><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>5</ObjectSizeLessThan></And></Filter>" + on + expires)},
		"negative size":  {"InvalidRequest", lifecycleDoc("<Filter><ObjectSizeGreaterThan>-5</ObjectSizeGreaterThan></Filter>" + on + expires)},
		"negative limit": {"InvalidRequest", lifecycleDoc("<Filter><ObjectSizeLessThan>-5</ObjectSizeLessThan></Filter>" + on + expires)},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			s.refused(400, c.code, call{method: "PUT", path: "/one?lifecycle", body: c.doc})
		})
	}
	s.t = t
	s.refused(400, "InvalidRequest", call{method: "PUT", path: "/one?lifecycle", body: lifecycleDoc(filter + on + expires), headers: []string{minimumSizeHeader, "none"}})
	if s.store.Visible() != before {
		t.Error("what was refused made a commit")
	}
	// Conditions may stand side by side.
	s.want(200, call{method: "PUT", path: "/one?lifecycle", body: lifecycleDoc("<Filter><Prefix>p</Prefix>" + tag("a") + "<And><Prefix>p</Prefix>" + tag("b") + "</And></Filter>" + on + expires)})
}

// Answers say when a rule will end what they speak of.
func TestExpirationHeaders(t *testing.T) {
	s := newServer(t)
	s.bucket("one")
	s.put("/one/tmp/old", "x")
	s.want(200, call{method: "PUT", path: "/one?lifecycle", body: lifecycleDoc(
		"<ID>r 1</ID><Filter><Prefix>tmp/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
		"<ID>r2</ID><Filter><Prefix>tmp/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>3</Days></Expiration>",
	)})
	head := ok(s.sdk.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("one"), Key: aws.String("tmp/old")}))(t)
	due := head.LastModified.Add(24*time.Hour - time.Nanosecond).Truncate(24 * time.Hour).Add(24 * time.Hour)
	want := `expiry-date="` + httpTime(due) + `", rule-id="r+1"`
	for _, c := range []call{
		{method: "HEAD", path: "/one/tmp/old"}, {method: "GET", path: "/one/tmp/old"}, {method: "PUT", path: "/one/tmp/new", body: "x"},
		{method: "PUT", path: "/one/tmp/copy", headers: []string{"x-amz-copy-source", "/one/tmp/old"}},
	} {
		if got := s.want(200, c).header.Get("x-amz-expiration"); got != want {
			t.Errorf("%s %s: %q, want %q", c.method, c.path, got, want)
		}
	}
	if got := s.want(200, call{method: "PUT", path: "/one/other", body: "x"}).header.Get("x-amz-expiration"); got != "" {
		t.Errorf("another key: %q", got)
	}
	up := s.want(200, call{method: "POST", path: "/one/tmp/up?uploads"})
	if up.header.Get("x-amz-abort-rule-id") != "r+1" || up.header.Get("x-amz-abort-date") == "" {
		t.Errorf("%v", up.header)
	}
}
