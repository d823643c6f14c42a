package s3api

import (
	"cmp"
	"context"

	"stemma/pageserver/object"
)

// bucketInfoJSON is the answer to GET /bucket?metadata.
type bucketInfoJSON struct {
	Name          string            `json:"name"`
	Type          int               `json:"type"` // 1: keeps snapshots
	StorageClass  string            `json:"storage_class"`
	ObjectRegions string            `json:"object_regions"`
	CreatedAt     string            `json:"created_at"`
	ACLSettings   aclSettingsJSON   `json:"acl_settings"`
	CacheControl  string            `json:"cache_control,omitempty"`
	Headers       map[string]string `json:"additional_http_headers,omitempty"`
	Lifecycle     []tigrisRuleJSON  `json:"lifecycle_rules,omitempty"`
	CORS          *tigrisCORSJSON   `json:"cors,omitempty"`
	Website       *websiteJSON      `json:"website,omitempty"`
	Protection    protectionJSON    `json:"protection"`
	SoftDelete    softDeleteJSON    `json:"soft_delete"`
	Notifications *object.Webhook   `json:"object_notifications,omitempty"`
	Shadow        *object.Shadow    `json:"shadow_bucket,omitempty"`
	Shares        []object.Sharing  `json:"shares,omitempty"`
	Rows          *uint64           `json:"estimated_rows,omitempty"`
	UniqueRows    *uint64           `json:"estimated_unique_rows,omitempty"`
	Size          *uint64           `json:"estimated_size,omitempty"`
	ForkInfo      *forkInfoJSON     `json:"ForkInfo"`
}

// Parts of the document that PATCH takes, too.
type (
	aclSettingsJSON struct {
		AllowObjectACL bool `json:"allow_object_acl"`
	}
	websiteJSON struct {
		Domain string `json:"domain_name"`
	}
	protectionJSON struct {
		Protected bool `json:"protected"`
	}
	softDeleteJSON struct {
		Enabled bool `json:"enabled"`
		Days    int  `json:"retention_days,omitempty"`
	}
)

func getBucketInfo(ctx context.Context, r *request) error {
	info, err := r.srv.objects.Bucket(r.bucket, 0)
	if err != nil {
		return err
	}
	set, err := r.srv.objects.Settings(ctx, r.bucket, 0)
	if err != nil {
		return err
	}
	attrs, err := r.srv.objects.Attributes(&info)
	if err != nil {
		return err
	}
	t := set.OfTigris()
	doc := bucketInfoJSON{
		Name: info.Name, StorageClass: set.DefaultClass().String(), ObjectRegions: cmp.Or(t.Regions, r.srv.o.Region),
		CreatedAt: timeJSON(info.Created.Time()), ForkInfo: forkInfo(&info), CacheControl: t.CacheControl,
		ACLSettings: aclSettingsJSON{t.ObjectACLs != nil && *t.ObjectACLs}, Protection: protectionJSON{info.Protected},
		SoftDelete: softDeleteJSON{t.SoftDeleteDays > 0, t.SoftDeleteDays}, Lifecycle: tigrisRules(set.Lifecycle), CORS: tigrisCORS(set.CORS),
	}
	if set.Snapshots {
		doc.Type = 1
	}
	if t.NoSniff {
		doc.Headers = map[string]string{noSniffHeader: "nosniff"}
	}
	if err := r.tellAttributes(&doc, attrs.Tigris); err != nil {
		return err
	}
	if r.param("with-size") == "true" {
		rows, size, err := r.srv.objects.Count(ctx, r.bucket)
		if err != nil {
			return err
		}
		doc.Rows, doc.UniqueRows, doc.Size = &rows, &rows, &size
	}
	return r.sendJSON(&doc)
}

// tellAttributes writes what clients of Tigris have configured of the bucket itself. What a webhook is authorized by is
// told to those who may change it.
func (r *request) tellAttributes(doc *bucketInfoJSON, a *object.TigrisAttributes) error {
	if a == nil {
		return nil
	}
	if a.Domain != "" {
		doc.Website = &websiteJSON{a.Domain}
	}
	doc.Shadow, doc.Shares, doc.Notifications = a.Shadow, a.Shares, a.Webhook
	if a.Webhook == nil || a.Webhook.Auth == nil {
		return nil
	}
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	if !r.may(&need{action: "stemma:PutBucketSettings", bucket: b}) {
		hook := *a.Webhook
		hook.Auth, doc.Notifications = nil, &hook
	}
	return nil
}
