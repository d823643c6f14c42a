package client

import (
	"context"
	"net/url"
	"strconv"
)

// ObjectInfo is an object without its body.
type ObjectInfo struct {
	Key         string            `json:"key"`
	Size        uint64            `json:"size"`
	ETag        string            `json:"etag,omitempty"`
	LSN         LSN               `json:"lsn,string"` // of the version
	ContentType string            `json:"content_type,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	File        string            `json:"file,omitempty"` // of an object that was written in place: another one if it is replaced
}

// ObjectPage is a page of objects, by key, and of the common prefixes of those that a delimiter rolls up.
type ObjectPage struct {
	LSN      LSN          `json:"lsn,string"` // what was read at
	Objects  []ObjectInfo `json:"objects"`
	Prefixes []string     `json:"prefixes"`
	Next     string       `json:"next,omitempty"` // continues it as token; absent on the last page
}

// ObjectListOptions say which objects to list. The zero value is all of them.
type ObjectListOptions struct {
	Prefix    string
	Delimiter string // keys that have it behind the prefix are rolled up
	After     string // only keys above it
	Token     string // Next of the page before
	At        string // point in time; empty: the tip
	Limit     int    // of a page; zero: 1000, which is the most
}

// Objects returns one page of objects with their metadata. All pages of a listing are of one LSN.
func (c *Client) Objects(ctx context.Context, bucket string, o ObjectListOptions) (*ObjectPage, error) {
	q := url.Values{}
	for k, v := range map[string]string{"prefix": o.Prefix, "delimiter": o.Delimiter, "after": o.After, "token": o.Token, "at": o.At} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	return ask[ObjectPage](ctx, c, "GET", path("buckets", bucket, "list"), q, nil)
}

// lookRequest is the body of a Look.
type lookRequest struct {
	Keys []string `json:"keys"`
	At   string   `json:"at,omitempty"` // point in time; absent: the tip
}

// Looks is what was found at each key, at one LSN.
type Looks struct {
	LSN  LSN    `json:"lsn,string"`
	Keys []Seen `json:"keys"` // in the order of the request
}

// Seen is what is at a key.
type Seen struct {
	Object *ObjectInfo `json:"object,omitempty"` // absent: there is none
	Below  bool        `json:"below"`            // other keys begin with the key
}

// Look describes what is at some keys, at most 100, at a point in time; empty: the tip.
func (c *Client) Look(ctx context.Context, bucket, at string, keys ...string) (*Looks, error) {
	return ask[Looks](ctx, c, "POST", path("buckets", bucket, "look"), nil, lookRequest{Keys: keys, At: at})
}
