package s3api

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"stemma/pageserver/object"
)

// Grants on records of requests are kept by account, but for those that give their owner what it has.
func TestLoggingGrants(t *testing.T) {
	n := newTenants(t)
	for _, b := range []string{"home", "logs"} {
		n.want(200, n.main.as(call{method: "PUT", path: "/" + b}))
	}
	grant := func(g types.Grantee, p types.BucketLogsPermission) types.TargetGrant {
		return types.TargetGrant{Grantee: &g, Permission: p}
	}
	put := func(grants ...types.TargetGrant) error {
		_, err := n.main.sdk.PutBucketLogging(ctx, &s3.PutBucketLoggingInput{Bucket: aws.String("home"), BucketLoggingStatus: &types.BucketLoggingStatus{
			LoggingEnabled: &types.LoggingEnabled{TargetBucket: aws.String("logs"), TargetPrefix: aws.String("l/"), TargetGrants: grants},
		}})
		return err
	}
	everybody := grant(types.Grantee{Type: "Group", URI: aws.String(groupURIs[object.GranteeAll])}, "READ")
	if err := put(grant(types.Grantee{Type: "AmazonCustomerByEmail", EmailAddress: aws.String("alt@example.com")}, "READ"),
		grant(types.Grantee{Type: "CanonicalUser", ID: &n.main.ID}, "FULL_CONTROL"), everybody); err != nil {
		t.Fatal(err)
	}
	got := ok(n.main.sdk.GetBucketLogging(ctx, &s3.GetBucketLoggingInput{Bucket: aws.String("home")}))(t).LoggingEnabled
	if g := got.TargetGrants; len(g) != 2 || *g[0].Grantee.ID != n.alt.ID || *g[0].Grantee.DisplayName != "The alt" || g[0].Permission != "READ" || g[1].Grantee.Type != "Group" {
		t.Errorf("%+v", g)
	}
	if got.TargetObjectKeyFormat == nil || got.TargetObjectKeyFormat.SimplePrefix == nil || *got.TargetPrefix != "l/" {
		t.Errorf("%+v", got)
	}
	n.want(200, n.main.as(call{method: "PUT", path: "/logs?publicAccessBlock", body: "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>"}))
	sdkError(t, put(everybody), 403, "AccessDenied")
	body := "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>"
	n.want(200, n.main.as(call{method: "PUT", path: "/logs?ownershipControls", body: body}))
	sdkError(t, put(grant(types.Grantee{Type: "CanonicalUser", ID: &n.alt.ID}, "READ")), 400, "AccessControlListNotSupported")
	if err := put(); err != nil {
		t.Error(err)
	}
}
