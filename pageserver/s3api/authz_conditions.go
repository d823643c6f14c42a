package s3api

import (
	"strconv"
	"strings"
	"time"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// conditions has the values of condition keys for one decision about a request. It
// implements policy.Context.
type conditions struct {
	r    *request
	need *need
}

// Values implements policy.Context.
func (c *conditions) Values(key string) []string {
	service, name, _ := strings.Cut(key, ":")
	switch service {
	case "aws":
		return c.global(name)
	case "s3":
		return c.s3(name)
	case "sts":
		if name == "authentication" {
			return one(strconv.FormatBool(c.r.proof.Caller.Session != ""))
		}
	}
	return nil
}

// one returns s as the only value; none if it is empty.
func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// global returns values of keys that all services of AWS have.
func (c *conditions) global(name string) []string {
	r, who := c.r, c.r.proof.Caller
	switch name {
	case "sourceip":
		return one(r.ctx.RemoteIP().String())
	case "securetransport":
		return one(strconv.FormatBool(r.secure()))
	case "referer":
		return one(r.peek("Referer"))
	case "useragent":
		return one(r.peek("User-Agent"))
	case "currenttime":
		return one(r.start.UTC().Format(time.RFC3339))
	case "epochtime":
		return one(strconv.FormatInt(r.start.Unix(), 10))
	case "username":
		return one(who.Name)
	case "userid":
		return one(who.Unique)
	case "principalarn":
		return one(who.ARN)
	case "principalaccount":
		return c.account(who.ID)
	case "principaltype":
		return one(principalType(who))
	case "resourceaccount":
		if c.need.bucket != nil {
			return c.account(c.need.bucket.owner)
		}
	case "requestedregion":
		return one(r.srv.o.Region)
	case "viaawsservice", "principalisawsservice", "multifactorauthpresent":
		return one("false")
	}
	if c.need.action == tagResource { // of tags of objects S3 has keys of its own
		if tag, ok := strings.CutPrefix(name, "requesttag/"); ok {
			return tagValue(c.need.tags, tag)
		} else if name == "tagkeys" {
			return tagKeys(c.need.tags)
		}
	}
	return nil
}

func (c *conditions) account(canonical string) []string {
	if canonical == "" {
		return nil
	}
	return one(auth.AccountNumber(canonical))
}

func principalType(c *auth.Caller) string {
	switch {
	case c.Anonymous():
		return "Anonymous"
	case c.Root:
		return "Account"
	case c.Session != "":
		return "AssumedRole"
	}
	return "User"
}

// s3 returns values of the keys of S3.
func (c *conditions) s3(name string) []string {
	r := c.r
	switch {
	case name == "x-amz-copy-source":
		source := strings.TrimPrefix(r.amz(name), "/")
		if plain, ok := auth.Unescape(source); ok {
			source = plain
		}
		return one(source)
	case name == "x-amz-content-sha256":
		return one(r.peek(name))
	case strings.HasPrefix(name, "x-amz-"):
		return r.amzAll(name)
	case strings.HasPrefix(name, "object-lock-"):
		return c.lock(strings.TrimPrefix(name, "object-lock-"))
	}
	if tag, ok := strings.CutPrefix(name, "existingobjecttag/"); ok {
		if c.need.entry == nil {
			return nil
		}
		return tagValue(c.need.entry.Tags, tag)
	}
	if tag, ok := strings.CutPrefix(name, "requestobjecttag/"); ok {
		return tagValue(c.requestTags(), tag)
	}
	if tag, ok := strings.CutPrefix(name, "buckettag/"); ok && c.need.bucket != nil {
		return tagValue(c.need.bucket.set.Tags, tag)
	}
	return c.ofRequest(name)
}

func (c *conditions) ofRequest(name string) []string {
	r := c.r
	switch name {
	case "prefix":
		if c.need.prefix != nil {
			return []string{*c.need.prefix}
		}
		return c.param("prefix")
	case "delimiter", "max-keys":
		if c.need.prefix != nil {
			return nil
		}
		return c.param(name)
	case "versionid":
		if c.need.version != "" {
			return one(c.need.version)
		}
		return c.param("versionId")
	case "signatureversion":
		return one(r.proof.Version)
	case "authtype":
		return one(r.authType())
	case "signatureage":
		if r.proof.Version == "" {
			return nil
		}
		return one(strconv.FormatInt(r.start.Sub(r.proof.At).Milliseconds(), 10))
	case "tlsversion":
		if st := r.ctx.TLSConnectionState(); st != nil {
			return one(strconv.FormatFloat(1+float64(st.Version-0x0301)/10, 'f', 1, 64))
		}
	case "if-match":
		return one(r.peek("If-Match"))
	case "if-none-match":
		return one(r.peek("If-None-Match"))
	case "resourceaccount":
		return c.global(name)
	case "requestobjecttagkeys":
		return tagKeys(c.requestTags())
	}
	return nil
}

// authType returns how the request was signed, in the words of S3.
func (r *request) authType() string {
	switch {
	case r.proof.Version == "":
		return ""
	case r.op == postOperation:
		return "POST"
	case r.proof.Presigned:
		return "REST-QUERY-STRING"
	}
	return "REST-HEADER"
}

// lock returns values of the headers that lock an object.
func (c *conditions) lock(name string) []string {
	const until = "x-amz-object-lock-retain-until-date"
	if name != "remaining-retention-days" {
		return one(c.r.amz("x-amz-object-lock-" + name))
	}
	at, err := time.Parse(time.RFC3339Nano, c.r.amz(until))
	if err != nil {
		return nil
	}
	return one(strconv.Itoa(int(at.Sub(c.r.start).Hours() / 24)))
}

// amzAll returns the values of all x-amz-* headers of a name that are not empty: a
// grant may come in several.
func (r *request) amzAll(name string) (values []string) {
	for i := range r.amzFields {
		if f := &r.amzFields[i]; f.Name == name && f.Value != "" {
			values = append(values, f.Value)
		}
	}
	return values
}

// param returns a parameter of the query, also an empty one.
func (c *conditions) param(name string) []string {
	if v, ok := c.r.target.Get(name); ok {
		return []string{v}
	}
	return nil
}

// requestTags returns the tags that the request wants an object to have.
func (c *conditions) requestTags() []object.Field {
	if c.need.tags != nil {
		return c.need.tags
	}
	tags, err := parseTagHeader(c.r.amz(taggingHeader))
	if err != nil {
		return nil
	}
	return tags
}

func tagKeys(tags []object.Field) (keys []string) {
	for _, t := range tags {
		keys = append(keys, t.Key)
	}
	return keys
}

// tagValue returns the value of a tag; the key of a condition is in lower case.
func tagValue(tags []object.Field, key string) []string {
	for _, t := range tags {
		if strings.EqualFold(t.Key, key) {
			return []string{t.Value}
		}
	}
	return nil
}
