package s3api

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"stemma/gc"
	"stemma/pageserver/object"
	"stemma/timeline"
)

const (
	noSniffHeader      = "X-Content-Type-Options"
	publicListHeader   = "x-amz-acl-public-list-objects-enabled"
	maxPatchBytes      = 1 << 20
	defaultSoftDelDays = object.MinSoftDeleteDays
)

// patch is what a PATCH of a bucket changes, each part in one commit.
type patch struct {
	info     *timeline.Info
	settings []func(*object.Settings) error
	attrs    []func(*object.TigrisAttributes)
	// protect, if not nil, says whether the bucket is to be protected from deletion.
	protect *bool
	// keepDays is how many days of history the bucket must have; zero: as many as it has.
	keepDays int
}

// patchField is a field of the document that PATCH takes.
type patchField struct {
	// action is what changing it takes besides the right to PATCH; empty: nothing.
	action string
	parse  func(p *patch, value json.RawMessage) error
}

var patchFields = map[string]patchField{
	"type":                    {"s3:PutBucketVersioning", patchType},
	"acl_settings":            {"s3:PutBucketAcl", patchObjectACLs},
	"object_regions":          {"", patchText(func(t *object.TigrisSettings, v string) { t.Regions = v })},
	"cache_control":           {"", patchText(func(t *object.TigrisSettings, v string) { t.CacheControl = v })},
	"storage_class":           {"", patchText(func(t *object.TigrisSettings, v string) { t.StorageClass = v })},
	"lifecycle_rules":         {"s3:PutLifecycleConfiguration", patchRules},
	"cors":                    {"s3:PutBucketCORS", patchCORS},
	"website":                 {"s3:PutBucketWebsite", patchWebsite},
	"protection":              {"", patchProtection},
	"soft_delete":             {"", patchSoftDelete},
	"object_notifications":    {"s3:PutBucketNotification", patchNotifications},
	"additional_http_headers": {"", patchHeaders},
	"shadow_bucket":           {"", patchShadow},
	"shares":                  {"", patchShares},
}

// patchBucket changes how a bucket is configured; what it cannot change it refuses by name, and then it changes nothing.
func patchBucket(ctx context.Context, r *request) error {
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	p := &patch{info: &b.info}
	if err := r.patchACL(p, b); err != nil {
		return err
	}
	body, err := r.document(maxPatchBytes, false)
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if len(body) > 0 {
		if err := json.Unmarshal(body, &fields); err != nil {
			return invalidArgument("body", "", "The body must be an object of JSON that names what to change")
		}
	}
	if len(fields) == 0 && len(p.settings) == 0 {
		return invalidArgument("body", "", "The body must be an object of JSON that names what to change")
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f, ok := patchFields[name]
		if !ok {
			return notImplemented("the field " + clip(name))
		}
		if f.action != "" && !r.may(&need{action: f.action, bucket: b}) {
			return errDenied
		}
		if err := f.parse(p, fields[name]); err != nil {
			return err
		}
	}
	if err := r.apply(ctx, p); err != nil {
		return err
	}
	return r.sendJSON(map[string]string{"status": "success"})
}

// patchACL takes the headers that say who may read the bucket. To clients of Tigris the objects of a public bucket are public.
func (r *request) patchACL(p *patch, b *resource) error {
	listed, err := r.publicListing()
	if err != nil {
		return err
	}
	acl, given, err := r.headerACL(aclOwners{b.owner, b.owner}, false)
	if err != nil {
		return err
	}
	if (given || listed != nil) && !r.may(&need{action: "s3:PutBucketAcl", bucket: b, acl: object.PermWriteACP}) {
		return errDenied
	}
	if given {
		p.settings = append(p.settings, func(set *object.Settings) error {
			if !set.ACLsEnabled() {
				return errNoACLs
			}
			set.ACL = acl
			return checkPublicACL(set, acl)
		}, changeTigris(func(t *object.TigrisSettings) { t.Public = acl.Public() }))
	}
	if listed != nil {
		p.settings = append(p.settings, changeTigris(func(t *object.TigrisSettings) { t.HideListing = !*listed }))
	}
	return nil
}

// publicListing reads the header that says whether everybody may list a public bucket; nil: it is not there.
func (r *request) publicListing() (*bool, error) {
	if r.amz(publicListHeader) == "" {
		return nil, nil
	}
	on, err := r.boolHeader(publicListHeader)
	return &on, err
}

// apply makes the changes. History is kept before anything relies on it.
func (r *request) apply(ctx context.Context, p *patch) error {
	if p.keepDays > 0 {
		if err := r.keepHistory(ctx, p.keepDays); err != nil {
			return err
		}
	}
	if len(p.settings) > 0 {
		lsn, err := r.srv.objects.UpdateSettings(ctx, r.bucket, func(set *object.Settings) error {
			for _, change := range p.settings {
				if err := change(set); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		r.setLSN(lsn)
	}
	if len(p.attrs) == 0 && p.protect == nil {
		return nil
	}
	_, err := r.srv.objects.UpdateBucket(ctx, r.bucket, func(o *object.BucketOptions) error {
		if p.protect != nil {
			o.Protected = *p.protect
		}
		return o.ChangeTigris(func(t *object.TigrisAttributes) {
			for _, change := range p.attrs {
				change(t)
			}
		})
	})
	return err
}

// keepHistory has the bucket readable at every moment of so many days, or longer if it is already.
func (r *request) keepHistory(ctx context.Context, days int) error {
	store := r.srv.objects.Store()
	have, err := store.Window(r.bucket)
	if err != nil {
		return err
	}
	want := gc.Window(time.Duration(days) * 24 * time.Hour)
	if have >= want {
		return nil
	}
	_, err = store.SetWindow(ctx, r.bucket, want)
	return err
}

func changeTigris(change func(*object.TigrisSettings)) func(*object.Settings) error {
	return func(set *object.Settings) error { return set.ChangeTigris(change) }
}

// readPatch decodes the value of a field; what it does not know it refuses.
func readPatch(name string, value json.RawMessage, to any) error {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return invalidArgument(name, clip(string(value)), "The value is not what the field "+name+" has")
	}
	return nil
}

func patchType(p *patch, value json.RawMessage) error {
	var kind *int
	if err := readPatch("type", value, &kind); err != nil {
		return err
	}
	if kind == nil || *kind != 0 && *kind != 1 {
		return invalidArgument("type", clip(string(value)), "type must be 0 or 1")
	}
	p.settings = append(p.settings, snapshotsChange(p.info, *kind == 1))
	return nil
}

func patchObjectACLs(p *patch, value json.RawMessage) error {
	var doc struct {
		Allow *bool `json:"allow_object_acl"`
	}
	if err := readPatch("acl_settings", value, &doc); err != nil {
		return err
	}
	if doc.Allow == nil {
		return invalidArgument("acl_settings", clip(string(value)), "acl_settings must have allow_object_acl")
	}
	p.settings = append(p.settings, changeTigris(func(t *object.TigrisSettings) { t.ObjectACLs = doc.Allow }))
	return nil
}

// patchText returns what parses a field that is a text; null is the empty one.
func patchText(set func(*object.TigrisSettings, string)) func(*patch, json.RawMessage) error {
	return func(p *patch, value json.RawMessage) error {
		var text string
		if err := readPatch("value", value, &text); err != nil {
			return err
		}
		return p.tigris(func(t *object.TigrisSettings) { set(t, text) })
	}
}

// tigris adds a change that is checked at once.
func (p *patch) tigris(change func(*object.TigrisSettings)) error {
	if err := new(object.Settings).ChangeTigris(change); err != nil {
		return err
	}
	p.settings = append(p.settings, changeTigris(change))
	return nil
}

// attributes adds a change that is checked at once.
func (p *patch) attributes(change func(*object.TigrisAttributes)) error {
	if err := new(object.Attributes).ChangeTigris(change); err != nil {
		return err
	}
	p.attrs = append(p.attrs, change)
	return nil
}

func patchRules(p *patch, value json.RawMessage) error {
	var list []tigrisRuleJSON
	if err := readPatch("lifecycle_rules", value, &list); err != nil {
		return err
	}
	rules := make([]object.LifecycleRule, len(list))
	for i := range list {
		var err error
		if rules[i], err = list[i].rule(); err != nil {
			return err
		}
	}
	p.settings = append(p.settings, func(set *object.Settings) error { return setTigrisRules(set, rules) })
	return nil
}

func patchCORS(p *patch, value json.RawMessage) error {
	var doc *tigrisCORSJSON
	if err := readPatch("cors", value, &doc); err != nil {
		return err
	}
	var rules *object.CORS
	if doc != nil && len(doc.Rules) > 0 {
		var err error
		if rules, err = doc.cors(); err != nil {
			return err
		}
	}
	p.settings = append(p.settings, func(set *object.Settings) error { set.CORS = rules; return nil })
	return nil
}

func patchWebsite(p *patch, value json.RawMessage) error {
	var doc websiteJSON
	if err := readPatch("website", value, &doc); err != nil {
		return err
	}
	return p.attributes(func(t *object.TigrisAttributes) { t.Domain = doc.Domain })
}

func patchProtection(p *patch, value json.RawMessage) error {
	var doc protectionJSON
	if err := readPatch("protection", value, &doc); err != nil {
		return err
	}
	p.protect = &doc.Protected
	return nil
}

func patchSoftDelete(p *patch, value json.RawMessage) error {
	var doc softDeleteJSON
	if err := readPatch("soft_delete", value, &doc); err != nil {
		return err
	}
	if !doc.Enabled {
		doc.Days = 0
	} else if doc.Days == 0 {
		doc.Days = defaultSoftDelDays
	}
	p.keepDays = doc.Days
	return p.tigris(func(t *object.TigrisSettings) { t.SoftDeleteDays = doc.Days })
}

func patchNotifications(p *patch, value json.RawMessage) error {
	var doc *object.Webhook
	if err := readPatch("object_notifications", value, &doc); err != nil {
		return err
	}
	if doc != nil && *doc == (object.Webhook{}) {
		doc = nil
	}
	return p.attributes(func(t *object.TigrisAttributes) { t.Webhook = doc })
}

func patchHeaders(p *patch, value json.RawMessage) error {
	var doc map[string]string
	if err := readPatch("additional_http_headers", value, &doc); err != nil {
		return err
	}
	on := doc[noSniffHeader] == "nosniff"
	if on && len(doc) > 1 || !on && len(doc) > 0 {
		return notImplemented("a header other than " + noSniffHeader + ": nosniff")
	}
	return p.tigris(func(t *object.TigrisSettings) { t.NoSniff = on })
}

func patchShadow(p *patch, value json.RawMessage) error {
	var doc *struct {
		object.Shadow
		SecretKey string `json:"secret_key"`
	}
	if err := readPatch("shadow_bucket", value, &doc); err != nil {
		return err
	}
	var shadow *object.Shadow
	if doc != nil && doc.Shadow != (object.Shadow{}) {
		shadow = &doc.Shadow
	}
	return p.attributes(func(t *object.TigrisAttributes) { t.Shadow = shadow })
}

func patchShares(p *patch, value json.RawMessage) error {
	var list []object.Sharing
	if err := readPatch("shares", value, &list); err != nil {
		return err
	}
	return p.attributes(func(t *object.TigrisAttributes) { t.Shares = list })
}
