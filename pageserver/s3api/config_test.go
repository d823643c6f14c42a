package s3api

import (
	"encoding/xml"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"stemma/pageserver/object"
)

func TestWebsiteLives(t *testing.T) {
	doc := func(suffix string) string {
		return `<WebsiteConfiguration><IndexDocument><Suffix>` + suffix + `</Suffix></IndexDocument><ErrorDocument><Key>e</Key></ErrorDocument><RoutingRules><RoutingRule>` +
			`<Condition><KeyPrefixEquals>a</KeyPrefixEquals></Condition><Redirect><Protocol>https</Protocol><ReplaceKeyWith>b</ReplaceKeyWith></Redirect></RoutingRule></RoutingRules></WebsiteConfiguration>`
	}
	testConfig(t, configCase{query: "website", absent: "NoSuchWebsiteConfiguration", a: doc("aa.html"), b: doc("bb.html"), markA: "aa.html", markB: "bb.html"})
}

func TestLoggingLives(t *testing.T) {
	doc := func(prefix, rest string) string {
		return `<BucketLoggingStatus><LoggingEnabled><TargetBucket>one</TargetBucket><TargetPrefix>` + prefix + `</TargetPrefix>` + rest + `</LoggingEnabled></BucketLoggingStatus>`
	}
	testConfig(t, configCase{
		query: "logging", a: doc("pa/", "<TargetObjectKeyFormat><SimplePrefix/></TargetObjectKeyFormat>"),
		b:     doc("pb/", "<TargetObjectKeyFormat><PartitionedPrefix><PartitionDateSource>EventTime</PartitionDateSource></PartitionedPrefix></TargetObjectKeyFormat>"),
		markA: "pa/", markB: "pb/", noDelete: true,
	})
}

func TestNotificationLives(t *testing.T) {
	doc := func(id string) string {
		return `<NotificationConfiguration><QueueConfiguration><Id>` + id + `</Id><Queue>arn:aws:sqs:us-east-1:000000000000:q</Queue><Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:Delete</Event>` +
			`<Filter><S3Key><FilterRule><Name>Prefix</Name><Value>p</Value></FilterRule></S3Key></Filter></QueueConfiguration><EventBridgeConfiguration/></NotificationConfiguration>`
	}
	testConfig(t, configCase{query: "notification", a: doc("aaa"), b: doc("bbb"), markA: "<Id>aaa<", markB: "<Id>bbb<", noDelete: true})
}

func TestRequestPayment(t *testing.T) {
	s := newServer(t)
	s.bucket("one")
	b := aws.String("one")
	put := func(payer types.Payer) error {
		_, err := s.sdk.PutBucketRequestPayment(ctx, &s3.PutBucketRequestPaymentInput{Bucket: b, RequestPaymentConfiguration: &types.RequestPaymentConfiguration{Payer: payer}})
		return err
	}
	get := func() types.Payer {
		return ok(s.sdk.GetBucketRequestPayment(ctx, &s3.GetBucketRequestPaymentInput{Bucket: b}))(t).Payer
	}
	if got := get(); got != "BucketOwner" {
		t.Errorf("payer %q", got)
	}
	if err := put("Requester"); err != nil || get() != "Requester" {
		t.Error(err)
	}
	sdkError(t, put("Nobody"), 400, "MalformedXML")
	if err := put("BucketOwner"); err != nil || get() != "BucketOwner" {
		t.Error(err)
	}
}

func TestAcceleration(t *testing.T) {
	s := newServer(t)
	s.bucket("one")
	b := aws.String("one")
	put := func(status types.BucketAccelerateStatus) error {
		_, err := s.sdk.PutBucketAccelerateConfiguration(ctx, &s3.PutBucketAccelerateConfigurationInput{Bucket: b, AccelerateConfiguration: &types.AccelerateConfiguration{Status: status}})
		return err
	}
	get := func() types.BucketAccelerateStatus {
		return ok(s.sdk.GetBucketAccelerateConfiguration(ctx, &s3.GetBucketAccelerateConfigurationInput{Bucket: b}))(t).Status
	}
	if got := get(); got != "" {
		t.Errorf("status %q", got)
	}
	sdkError(t, put("Enabled"), 501, "NotImplemented")
	sdkError(t, put("On"), 400, "MalformedXML")
	if err := put("Suspended"); err != nil || get() != "Suspended" {
		t.Error(err)
	}
}

func TestWebsiteIsChecked(t *testing.T) {
	const index = "<IndexDocument><Suffix>i</Suffix></IndexDocument>"
	rule := func(r string) string {
		return index + "<RoutingRules><RoutingRule>" + r + "</RoutingRule></RoutingRules>"
	}
	testRefused(t, "website", "WebsiteConfiguration", map[string][2]string{
		"nothing":              {"InvalidArgument", ""},
		"suffix":               {"InvalidArgument", "<IndexDocument><Suffix>a/b</Suffix></IndexDocument>"},
		"no suffix":            {"InvalidArgument", "<IndexDocument/>"},
		"error":                {"MalformedXML", index + "<ErrorDocument/>"},
		"all and index":        {"InvalidRequest", index + "<RedirectAllRequestsTo><HostName>h</HostName></RedirectAllRequestsTo>"},
		"all to nowhere":       {"MalformedXML", "<RedirectAllRequestsTo/>"},
		"all to a bad host":    {"InvalidRequest", "<RedirectAllRequestsTo><HostName>h/</HostName></RedirectAllRequestsTo>"},
		"all by a bad scheme":  {"InvalidRequest", "<RedirectAllRequestsTo><HostName>h</HostName><Protocol>ftp</Protocol></RedirectAllRequestsTo>"},
		"no rules":             {"MalformedXML", index + "<RoutingRules/>"},
		"too many rules":       {"InvalidRequest", index + "<RoutingRules>" + strings.Repeat("<RoutingRule><Redirect><HostName>h</HostName></Redirect></RoutingRule>", 51) + "</RoutingRules>"},
		"no redirect":          {"MalformedXML", rule("<Condition><KeyPrefixEquals>a</KeyPrefixEquals></Condition>")},
		"empty redirect":       {"MalformedXML", rule("<Redirect/>")},
		"empty condition":      {"InvalidRequest", rule("<Condition/><Redirect><HostName>h</HostName></Redirect>")},
		"redirect code":        {"InvalidRequest", rule("<Redirect><HttpRedirectCode>300</HttpRedirectCode></Redirect>")},
		"error code":           {"InvalidRequest", rule("<Condition><HttpErrorCodeReturnedEquals>200</HttpErrorCodeReturnedEquals></Condition><Redirect><HostName>h</HostName></Redirect>")},
		"scheme":               {"InvalidRequest", rule("<Redirect><Protocol>http2</Protocol></Redirect>")},
		"host":                 {"InvalidRequest", rule("<Redirect><HostName>a&#10;b</HostName></Redirect>")},
		"two ways to a key":    {"InvalidRequest", rule("<Redirect><ReplaceKeyWith>a</ReplaceKeyWith><ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith></Redirect>")},
		"an element of no one": {"MalformedXML", index + "<Other/>"},
	})
}

func TestLoggingIsChecked(t *testing.T) {
	doc := func(more string) string {
		return "<LoggingEnabled><TargetBucket>one</TargetBucket><TargetPrefix/>" + more + "</LoggingEnabled>"
	}
	testRefused(t, "logging", "BucketLoggingStatus", map[string][2]string{
		"no target":      {"InvalidTargetBucketForLogging", "<LoggingEnabled><TargetBucket>absent</TargetBucket><TargetPrefix/></LoggingEnabled>"},
		"no bucket":      {"MalformedXML", "<LoggingEnabled><TargetPrefix/></LoggingEnabled>"},
		"no prefix":      {"MalformedXML", "<LoggingEnabled><TargetBucket>one</TargetBucket></LoggingEnabled>"},
		"long prefix":    {"InvalidArgument", "<LoggingEnabled><TargetBucket>one</TargetBucket><TargetPrefix>" + strings.Repeat("a", 801) + "</TargetPrefix></LoggingEnabled>"},
		"two formats":    {"MalformedXML", doc("<TargetObjectKeyFormat><SimplePrefix/><PartitionedPrefix><PartitionDateSource>EventTime</PartitionDateSource></PartitionedPrefix></TargetObjectKeyFormat>")},
		"no format":      {"MalformedXML", doc("<TargetObjectKeyFormat/>")},
		"date source":    {"MalformedXML", doc("<TargetObjectKeyFormat><PartitionedPrefix><PartitionDateSource>Noon</PartitionDateSource></PartitionedPrefix></TargetObjectKeyFormat>")},
		"no date source": {"MalformedXML", doc("<TargetObjectKeyFormat><PartitionedPrefix/></TargetObjectKeyFormat>")},
		"no grantee":     {"MalformedXML", doc("<TargetGrants><Grant><Permission>READ</Permission></Grant></TargetGrants>")},
		"permission":     {"MalformedXML", doc("<TargetGrants><Grant><Grantee><ID>x</ID></Grantee><Permission>READ_ACP</Permission></Grant></TargetGrants>")},
		"grantee":        {"InvalidArgument", doc("<TargetGrants><Grant><Grantee><ID>x</ID></Grantee><Permission>READ</Permission></Grant></TargetGrants>")},
		"email":          {"UnresolvableGrantByEmailAddress", doc("<TargetGrants><Grant><Grantee><EmailAddress>x</EmailAddress></Grantee><Permission>READ</Permission></Grant></TargetGrants>")},
		"group":          {"InvalidArgument", doc(`<TargetGrants><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group"><URI>u</URI></Grantee><Permission>READ</Permission></Grant></TargetGrants>`)},
	})
}

func TestNotificationIsChecked(t *testing.T) {
	target := func(id, events, filter string) string {
		return "<TopicConfiguration><Id>" + id + "</Id><Topic>arn:aws:sns:us-east-1:000000000000:t</Topic>" + events + "<Filter><S3Key>" + filter + "</S3Key></Filter></TopicConfiguration>"
	}
	const created, put = "<Event>s3:ObjectCreated:*</Event>", "<Event>s3:ObjectCreated:Put</Event>"
	rule := func(name, value string) string {
		return "<FilterRule><Name>" + name + "</Name><Value>" + value + "</Value></FilterRule>"
	}
	testRefused(t, "notification", "NotificationConfiguration", map[string][2]string{
		"event":           {"InvalidArgument", target("a", "<Event>s3:Noon</Event>", "")},
		"no event":        {"MalformedXML", target("a", "", "")},
		"address":         {"InvalidArgument", "<QueueConfiguration><Queue>q</Queue>" + put + "</QueueConfiguration>"},
		"no address":      {"MalformedXML", "<QueueConfiguration>" + put + "</QueueConfiguration>"},
		"other's address": {"MalformedXML", "<QueueConfiguration><Topic>arn:aws:sns:us-east-1:000000000000:t</Topic>" + put + "</QueueConfiguration>"},
		"filter":          {"InvalidArgument", target("a", put, rule("infix", "x"))},
		"two prefixes":    {"InvalidArgument", target("a", put, rule("prefix", "x")+rule("Prefix", "y"))},
		"half a rule":     {"MalformedXML", target("a", put, "<FilterRule><Name>prefix</Name></FilterRule>")},
		"same id":         {"InvalidArgument", target("a", put, "") + target("a", "<Event>s3:ObjectRemoved:*</Event>", "")},
		"overlap":         {"InvalidArgument", target("a", put, rule("prefix", "x")) + target("b", created, rule("prefix", "xy"))},
	})
	s := newServer(t)
	s.bucket("one")
	s.want(200, call{method: "PUT", path: "/one?notification", body: "<NotificationConfiguration>" + target("a", put, rule("prefix", "x")) + target("b", created, rule("prefix", "y")) + "</NotificationConfiguration>"})
	if got := ok(s.sdk.GetBucketNotificationConfiguration(ctx, &s3.GetBucketNotificationConfigurationInput{Bucket: aws.String("one")}))(t); len(got.TopicConfigurations) != 2 {
		t.Errorf("%+v", got)
	}
	ok(s.sdk.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{Bucket: aws.String("one"), NotificationConfiguration: &types.NotificationConfiguration{}}))(t)
	if doc := s.get("/one?notification"); contains(doc, "Topic") {
		t.Error(doc)
	}
}

// testRefused puts documents that are refused, each of a code and what lies in the root.
func testRefused(t *testing.T, query, root string, cases map[string][2]string) {
	s := newServer(t)
	s.bucket("one")
	before := s.store.Visible()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s.t = t
			status := codes[c[0]].status
			s.refused(status, c[0], call{method: "PUT", path: "/one?" + query, body: "<" + root + ">" + c[1] + "</" + root + ">"})
		})
	}
	if s.t = t; s.store.Visible() != before {
		t.Error("what was refused made a commit")
	}
}

// What buckets never have is answered as S3 answers where it was not set.
func TestNeverConfigured(t *testing.T) {
	s := newServer(t)
	s.bucket("one")
	b, id := aws.String("one"), aws.String("i")
	_, err := s.sdk.GetBucketReplication(ctx, &s3.GetBucketReplicationInput{Bucket: b})
	sdkError(t, err, 404, "ReplicationConfigurationNotFoundError")
	ok(s.sdk.DeleteBucketReplication(ctx, &s3.DeleteBucketReplicationInput{Bucket: b}))(t)
	if got := ok(s.sdk.ListBucketInventoryConfigurations(ctx, &s3.ListBucketInventoryConfigurationsInput{Bucket: b}))(t); *got.IsTruncated {
		t.Errorf("%+v", got)
	}
	ok(s.sdk.ListBucketAnalyticsConfigurations(ctx, &s3.ListBucketAnalyticsConfigurationsInput{Bucket: b}))(t)
	ok(s.sdk.ListBucketMetricsConfigurations(ctx, &s3.ListBucketMetricsConfigurationsInput{Bucket: b}))(t)
	ok(s.sdk.ListBucketIntelligentTieringConfigurations(ctx, &s3.ListBucketIntelligentTieringConfigurationsInput{Bucket: b}))(t)
	_, err = s.sdk.GetBucketInventoryConfiguration(ctx, &s3.GetBucketInventoryConfigurationInput{Bucket: b, Id: id})
	sdkError(t, err, 404, "NoSuchConfiguration")
	_, err = s.sdk.DeleteBucketMetricsConfiguration(ctx, &s3.DeleteBucketMetricsConfigurationInput{Bucket: b, Id: id})
	sdkError(t, err, 404, "NoSuchConfiguration")
	_, err = s.sdk.PutBucketMetricsConfiguration(ctx, &s3.PutBucketMetricsConfigurationInput{Bucket: b, Id: id, MetricsConfiguration: &types.MetricsConfiguration{Id: id}})
	sdkError(t, err, 501, "NotImplemented")
	_, err = s.sdk.GetBucketMetadataTableConfiguration(ctx, &s3.GetBucketMetadataTableConfigurationInput{Bucket: b})
	sdkError(t, err, 404, "MetadataConfigurationNotFound")
	for _, query := range []string{"replication", "inventory", "analytics", "metrics", "intelligent-tiering", "metadataTable"} {
		s.refused(404, "NoSuchBucket", call{method: "GET", path: "/absent?" + query})
		s.refused(404, "NoSuchBucket", call{method: "DELETE", path: "/absent?" + query})
		s.refused(501, "NotImplemented", call{method: "PUT", path: "/one?" + query, body: "<X/>"})
	}
}

// No document makes the checks panic, and what passes them once does so again, unchanged.
func FuzzConfigs(f *testing.F) {
	for _, doc := range []string{
		lifecycleDoc("<ID>a</ID><Filter><And><Prefix>a</Prefix><Tag><Key>k</Key><Value/></Tag></And></Filter><Status>Enabled</Status><Expiration><Date>2030-01-01</Date></Expiration><Transition><Date>2029-01-01</Date><StorageClass>GLACIER</StorageClass></Transition>"),
		"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>",
		"<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument><RoutingRules><RoutingRule><Redirect><HostName>h</HostName></Redirect></RoutingRule></RoutingRules></WebsiteConfiguration>",
		"<BucketLoggingStatus><LoggingEnabled><TargetBucket>one</TargetBucket><TargetPrefix/><TargetObjectKeyFormat><SimplePrefix/></TargetObjectKeyFormat></LoggingEnabled></BucketLoggingStatus>",
		"<NotificationConfiguration><TopicConfiguration><Topic>arn:aws:sns:r:0:t</Topic><Event>s3:ObjectCreated:*</Event><Filter><S3Key><FilterRule><Name>prefix</Name><Value>p</Value></FilterRule></S3Key></Filter></TopicConfiguration></NotificationConfiguration>",
		"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
	} {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		fuzzConfig(t, doc, "LifecycleConfiguration", (*object.Lifecycle).Complete)
		fuzzConfig(t, doc, "CORSConfiguration", (*object.CORS).Check)
		fuzzConfig(t, doc, "WebsiteConfiguration", (*object.Website).Check)
		fuzzConfig(t, doc, "BucketLoggingStatus", (*object.Logging).Check)
		fuzzConfig(t, doc, "NotificationConfiguration", (*object.Notification).Complete)
		fuzzConfig(t, doc, "ServerSideEncryptionConfiguration", (*object.Encryption).Check)
		fuzzConfig(t, doc, "Tagging", func(x *taggingXML) error {
			tags, err := x.fields()
			if err != nil {
				return err
			}
			return object.CheckObjectTags(tags)
		})
	})
}

func fuzzConfig[T any](t *testing.T, doc, root string, check func(*T) error) {
	var v, again T
	if strictXML([]byte(doc), root, &v) != nil || check(&v) != nil {
		return
	}
	p := marshalXML(root, &v)
	if err := strictXML(p, root, &again); err != nil {
		t.Fatalf("%s: written as %s: %v", doc, p, err)
	}
	if contains(string(p), "\uFFFD") {
		return // a character that XML cannot hold
	}
	if err := check(&again); err != nil {
		t.Fatalf("%s: written as %s: %v", doc, p, err)
	}
	if q := marshalXML(root, &again); string(p) != string(q) {
		t.Errorf("%s: written as %s, then as %s", doc, p, q)
	}
	if err := xml.Unmarshal(p, new(T)); err != nil {
		t.Error(err)
	}
}
