package s3api

import (
	"context"
	"net/url"
	"strings"

	"stemma/pageserver/object"
)

// taggingXML is the document of the tags of a bucket or an object.
type taggingXML struct {
	TagSet *tagSetXML `xml:"TagSet"`
}

type tagSetXML struct {
	Tags []tagXML `xml:"Tag"`
}

type tagXML struct {
	Key   *string `xml:"Key"`
	Value *string `xml:"Value"`
}

// fields returns the tags of the document. Error: MalformedXML.
func (x *taggingXML) fields() ([]object.Field, error) {
	if x.TagSet == nil {
		return nil, &apiError{code: "MalformedXML"}
	}
	tags := make([]object.Field, len(x.TagSet.Tags))
	for i, t := range x.TagSet.Tags {
		if t.Key == nil || t.Value == nil {
			return nil, &apiError{code: "MalformedXML"}
		}
		tags[i] = object.Field{Key: *t.Key, Value: *t.Value}
	}
	return tags, nil
}

// readTags reads the tags that the body of the request has.
func (r *request) readTags() ([]object.Field, error) {
	var doc taggingXML
	if err := r.readConfig("Tagging", &doc); err != nil {
		return nil, err
	}
	return doc.fields()
}

// sendTags answers with tags.
func (r *request) sendTags(tags []object.Field) {
	set := tagSetXML{Tags: make([]tagXML, len(tags))}
	for i := range tags {
		set.Tags[i] = tagXML{&tags[i].Key, &tags[i].Value}
	}
	r.sendConfig("Tagging", &taggingXML{&set})
}

func getBucketTagging(ctx context.Context, r *request) error {
	set, err := r.settings(ctx)
	if err != nil {
		return err
	}
	if len(set.Tags) == 0 {
		return &apiError{code: "NoSuchTagSet"}
	}
	r.sendTags(set.Tags)
	return nil
}

func putBucketTagging(ctx context.Context, r *request) error {
	tags, err := r.readTags()
	if err != nil {
		return err
	}
	err = r.updateSettings(ctx, func() error { return object.CheckBucketTags(tags) }, func(set *object.Settings) { set.Tags = tags })
	if err == nil {
		r.noContent()
	}
	return err
}

func deleteBucketTagging(ctx context.Context, r *request) error {
	return r.deleteSettings(ctx, func(set *object.Settings) { set.Tags = nil })
}

func getObjectTagging(ctx context.Context, r *request) error {
	id, err := r.versionID()
	if err != nil {
		return err
	}
	at, err := r.at()
	if err != nil {
		return err
	}
	o, err := r.srv.objects.Head(ctx, r.bucket, r.key, &object.GetInput{At: at, Version: id, Clear: true})
	if err != nil {
		return err
	}
	r.setVersionID(o.ID)
	r.setLSN(o.At)
	r.sendTags(o.Tags)
	return nil
}

func putObjectTagging(ctx context.Context, r *request) error {
	tags, err := r.readTags()
	if err != nil {
		return err
	}
	if err := r.mayTag(tags); err != nil {
		return err
	}
	return r.setTags(ctx, tags)
}

func deleteObjectTagging(ctx context.Context, r *request) error {
	if err := r.setTags(ctx, nil); err != nil {
		return err
	}
	r.noContent()
	return nil
}

func (r *request) setTags(ctx context.Context, tags []object.Field) error {
	id, err := r.versionID()
	if err != nil {
		return err
	}
	o, err := r.srv.objects.SetTags(ctx, r.bucket, r.key, id, tags)
	return r.changedVersion(o, err)
}

// taggingHeader is the header that gives an object tags when it is made.
const taggingHeader = "x-amz-tagging"

// headerTags returns the tags that an object is to have from the start, by key.
// Errors: InvalidArgument, InvalidTag.
func (r *request) headerTags() ([]object.Field, error) {
	raw := r.amz(taggingHeader)
	if raw == "" {
		return nil, nil
	}
	tags, err := parseTagHeader(raw)
	if err != nil {
		return nil, err
	}
	if err := object.CheckObjectTags(tags); err != nil {
		return nil, err
	}
	object.SortTags(tags)
	return tags, nil
}

// parseTagHeader parses the header, in the order that it has. Error: InvalidArgument.
func parseTagHeader(raw string) ([]object.Field, error) {
	malformed := invalidArgument(taggingHeader, raw,
		"The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.")
	var tags []object.Field
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(raw, "&") {
		if len(tags) > object.MaxObjectTags {
			break // CheckObjectTags says so
		}
		k, v, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(k)
		if err != nil || seen[key] {
			return nil, malformed
		}
		value, err := url.QueryUnescape(v)
		if err != nil {
			return nil, malformed
		}
		seen[key] = true
		tags = append(tags, object.Field{Key: key, Value: value})
	}
	return tags, nil
}

// copyTags returns whether a copy has tags of its own instead of the source's, and which.
func (r *request) copyTags() (replace bool, tags []object.Field, err error) {
	if replace, err = r.directive("x-amz-tagging-directive"); err != nil {
		return false, nil, err
	}
	if !replace {
		if v := r.amz(taggingHeader); v != "" {
			return false, nil, invalidArgument(taggingHeader, v, "x-amz-tagging needs x-amz-tagging-directive REPLACE")
		}
		return false, nil, nil
	}
	tags, err = r.headerTags()
	return true, tags, err
}
