package s3api

import (
	"context"
	"slices"
	"strings"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
)

// operation is one operation of S3.
type operation struct {
	name   string // as S3 names it
	handle func(context.Context, *request) error
	// params are the query parameters that it knows.
	params []string
	// tigris are the X-Tigris-* headers that it knows, in lower case without the prefix.
	tigris []string
	// amz are the x-amz-* headers that it serves of those that are refused elsewhere.
	amz []string
	// reads says that x-stemma-at means the LSN that is read at.
	reads bool
	// long says that it moves a body, and so may take any time.
	long bool
}

// level is what a request names.
type level byte

const (
	serviceLevel level = iota
	bucketLevel
	objectLevel
)

// route leads to an operation. The first that fits is taken.
type route struct {
	method string
	level  level
	param  string // query parameter that must be there; empty: none
	header string // x-amz-* or x-tigris-* header that must be there; empty: none
	op     *operation
}

var routes = []route{
	{"GET", serviceLevel, "", "", &operation{name: "ListBuckets", handle: listBuckets, tigris: []string{"fork"},
		params: []string{"prefix", "max-buckets", "continuation-token", "bucket-region", "IncludeForkInfo", "IncludeVisibility", "IncludeTypeInfo", "IncludeRegionsInfo", "IncludeOwnerInfo", "IncludeStats", "OnlyDeleted"}}},

	{"GET", bucketLevel, "location", "", &operation{name: "GetBucketLocation", handle: getBucketLocation, params: []string{"location"}}},
	{"GET", bucketLevel, "uploads", "", &operation{name: "ListMultipartUploads", handle: listUploads,
		params: []string{"uploads", "prefix", "delimiter", "key-marker", "upload-id-marker", "max-uploads", "encoding-type"}}},
	{"GET", bucketLevel, "list-type", "", &operation{name: "ListObjectsV2", handle: listObjectsV2, reads: true, tigris: []string{"snapshot-version"},
		params: []string{"list-type", "prefix", "delimiter", "start-after", "continuation-token", "max-keys", "encoding-type", "fetch-owner"}}},
	{"GET", bucketLevel, "", "", &operation{name: "ListObjects", handle: listObjects, reads: true, tigris: []string{"snapshot-version"},
		params: []string{"prefix", "delimiter", "marker", "max-keys", "encoding-type"}}},
	{"HEAD", bucketLevel, "", "", &operation{name: "HeadBucket", handle: headBucket, reads: true, tigris: []string{"snapshot-version"}}},
	{"PUT", bucketLevel, "", "", &operation{name: "CreateBucket", handle: createBucket, reads: true, amz: []string{bucketLockHeader},
		tigris: []string{"enable-snapshot", "fork-source-bucket", "fork-source-bucket-snapshot", "snapshot-version", "soft-delete"}}},
	{"DELETE", bucketLevel, "", "", &operation{name: "DeleteBucket", handle: deleteBucket, tigris: []string{"force-delete"}}},
	{"POST", bucketLevel, "delete", "", &operation{name: "DeleteObjects", handle: deleteObjects, params: []string{"delete"}}},
	{"POST", bucketLevel, "", "", postOperation},

	{"GET", objectLevel, "uploadId", "", &operation{name: "ListParts", handle: listParts,
		params: []string{"uploadId", "max-parts", "part-number-marker", "encoding-type"}}},
	{"GET", objectLevel, "attributes", "", &operation{name: "GetObjectAttributes", handle: getObjectAttributes, reads: true,
		params: []string{"attributes", "versionId"}, tigris: []string{"snapshot-version"}}},
	{"GET", objectLevel, "torrent", "", &operation{name: "GetObjectTorrent", handle: getObjectTorrent, params: []string{"torrent"}}},
	{"GET", objectLevel, "", "", &operation{name: "GetObject", handle: getObject, reads: true, long: true, params: objectParams, tigris: []string{"snapshot-version"}}},
	{"HEAD", objectLevel, "", "", &operation{name: "HeadObject", handle: headObject, reads: true, params: objectParams, tigris: []string{"snapshot-version"}}},
	{"PUT", objectLevel, "partNumber", "x-amz-copy-source", &operation{name: "UploadPartCopy", handle: uploadPartCopy, long: true,
		params: []string{"partNumber", "uploadId"}, tigris: []string{"snapshot-version"}}},
	{"PUT", objectLevel, "partNumber", "", uploadPartOperation},
	{"PUT", objectLevel, "", "x-amz-copy-source", &operation{name: "CopyObject", handle: copyObject, long: true, tigris: []string{"snapshot-version"},
		amz: append(lockHeaders, taggingHeader)}},
	{"PUT", objectLevel, "renameObject", "", &operation{name: "RenameObject", handle: renameObject, params: []string{"renameObject"}, amz: []string{
		"x-amz-rename-source", "x-amz-rename-source-if-match", "x-amz-rename-source-if-none-match",
		"x-amz-rename-source-if-modified-since", "x-amz-rename-source-if-unmodified-since"}}},
	{"PUT", objectLevel, "", "", putObjectOperation},
	{"POST", objectLevel, "uploads", "", &operation{name: "CreateMultipartUpload", handle: createUpload, params: []string{"uploads"},
		amz: append(lockHeaders, taggingHeader)}},
	{"POST", objectLevel, "uploadId", "", &operation{name: "CompleteMultipartUpload", handle: completeUpload, params: []string{"uploadId"}}},
	{"POST", objectLevel, "restore", "", &operation{name: "RestoreObject", handle: restoreObject, reads: true, params: []string{"restore", "versionId"}, tigris: []string{"snapshot-version"}}},
	{"DELETE", objectLevel, "uploadId", "", &operation{name: "AbortMultipartUpload", handle: abortUpload, params: []string{"uploadId"}}},
	{"DELETE", objectLevel, "", "", &operation{name: "DeleteObject", handle: deleteObject, params: []string{"versionId"},
		amz: []string{"x-amz-if-match-last-modified-time", "x-amz-if-match-size"}}},
}

var putObjectOperation = &operation{name: "PutObject", handle: putObject, long: true, amz: append(lockHeaders, taggingHeader, "x-amz-write-offset-bytes")}

var objectParams = []string{
	"partNumber", "versionId", "response-content-type", "response-content-language", "response-expires",
	"response-cache-control", "response-content-disposition", "response-content-encoding",
}

// subresources are the parameters by which S3 means another operation, or
// another object. Those that an operation does not know are refused.
var subresources = makeSet(
	"abac", "accelerate", "accelerateConfiguration", "acl", "analytics", "annotation", "attributes", "append", "bundle", "cors", "delete", "encryption",
	"func", "intelligent-tiering", "inventory", "legal-hold", "lifecycle", "list-type", "location", "logging", "metadata",
	"metadataConfiguration", "metadataInventoryTable", "metadataJournalTable", "metadataTable", "metrics", "notification",
	"object-lock", "ownershipControls", "partNumber", "policy", "policyStatus", "position", "publicAccessBlock", "renameObject", "replication",
	"requestPayment", "restore", "retention", "select", "select-type", "session", "tagging", "torrent", "uploadId", "uploads",
	"versionId", "versioning", "versions", "website", "Action", "OnlyDeleted",
)

func makeSet(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// routeTable has the routes of each method and level, those of configuration first.
var routeTable = map[routeClass][]route{}

type routeClass struct {
	method string
	level  level
}

func init() { // not in the declaration: handlers lead back to the table
	for _, rt := range slices.Concat(tigrisRoutes, trashRoutes, accessRoutes, configRoutes, versionRoutes, routes) {
		c := routeClass{rt.method, rt.level}
		routeTable[c] = append(routeTable[c], rt)
	}
}

// route finds the operation. The operation may come with an error: it is what
// was meant, but it was asked for in a way that is not served.
func (r *request) route() (*operation, error) {
	method, at := string(r.header().Method()), objectLevel
	switch {
	case r.bucket == "" && r.key == "":
		at = serviceLevel
	case r.bucket == "" || object.Reserved(r.bucket):
		return nil, &apiError{code: "InvalidBucketName"}
	case r.key == "":
		at = bucketLevel
	}
	if method == "OPTIONS" && at != serviceLevel {
		return preflightOperation, nil // its parameters are those of the request that it asks about
	}
	if method == "POST" && at == serviceLevel {
		return queryOperation, nil // its parameters are those of actions
	}
	if at == objectLevel && r.asksWho(method) {
		return whoAmIOperation, nil
	}
	known := routeTable[routeClass{method, at}]
	for i := range known {
		rt := &known[i]
		if rt.param != "" {
			if _, ok := r.target.Get(rt.param); !ok {
				continue
			}
		}
		if rt.header != "" && !r.carries(rt.header) {
			continue
		}
		return rt.op, r.checkParams(rt.op)
	}
	if known != nil || method == "POST" || method == "PATCH" {
		return nil, &apiError{code: "NotImplemented"}
	}
	return nil, &apiError{code: "MethodNotAllowed"}
}

// checkParams refuses parameters that would make the request something else.
func (r *request) checkParams(op *operation) error {
	method := string(r.header().Method())
	for _, p := range r.target.Params {
		switch {
		case p.Name == "x-id" || slices.Contains(op.params, p.Name):
		case r.presigned && hasPrefixFold(p.Name, "x-amz-"): // see collectAmz
		case subresources[p.Name] || p.Value == "" || (method != "GET" && method != "HEAD"):
			return notImplemented("the query parameter " + clip(p.Name))
		}
	}
	return nil
}

// Headers that change what an operation means, and that are not served.
var (
	refusedPrefixes = []string{
		"x-amz-object-lock-", "x-amz-rename-source",
	}
	refusedHeaders = makeSet(
		"x-amz-tagging", "x-amz-write-offset-bytes", bucketLockHeader, "x-amz-if-match-last-modified-time",
		"x-amz-if-match-size", "x-amz-if-match-initiated-time",
	)
	// idleTigris are X-Tigris-* headers that clients send by themselves, and that
	// ask for nothing.
	idleTigris = makeSet("cas", "consistent", "prefetch", "namespace", "regions")
)

// takesACL are the operations that headers can give an ACL.
var takesACL = makeSet("CreateBucket", "PutBucketAcl", "PutObject", "PostObject", "CopyObject", "CreateMultipartUpload", "PutObjectAcl", "PatchBucket")

// collectAmz gathers the x-amz-* headers. Clients that presign move some of them
// to the query. Error: InvalidArgument for what could not have been a header.
func (r *request) collectAmz() error {
	r.amzFields = r.fewFields[:0]
	for name, value := range r.header().All() {
		if !hasPrefixFold(name, "x-amz-") || string(name) == "X-Amz-Date" || string(name) == "X-Amz-Content-Sha256" {
			continue // the two are for package auth alone, and in every request
		}
		r.amzFields = append(r.amzFields, auth.Field{Name: strings.ToLower(string(name)), Value: string(value)})
	}
	if _, r.presigned = r.target.Get("X-Amz-Signature"); !r.presigned {
		return nil
	}
	for _, p := range r.target.Params {
		if !hasPrefixFold(p.Name, "x-amz-") || signingParams[p.Name] {
			continue
		}
		if strings.ContainsFunc(p.Name, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == ':' }) || !validHeaderValue(p.Value) {
			return invalidArgument(clip(p.Name), "", "The parameter stands for a header, and no header can hold it")
		}
		if f := (auth.Field{Name: strings.ToLower(p.Name), Value: strings.TrimSpace(p.Value)}); !slices.Contains(r.amzFields, f) {
			r.amzFields = append(r.amzFields, f) // some clients send the header as well
		}
	}
	return nil
}

// validHeaderValue reports whether a header can hold s.
func validHeaderValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// signingParams are the parameters of a presigned URL itself.
var signingParams = makeSet(
	"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Content-Sha256",
)

// hasPrefixFold reports whether s begins with prefix, which is ASCII in lower
// case, in any case.
func hasPrefixFold[T string | []byte](s T, prefix string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

// amz returns the first value of an x-amz-* header, named in lower case; empty
// when it is absent.
func (r *request) amz(name string) string {
	for i := range r.amzFields {
		if r.amzFields[i].Name == name {
			return r.amzFields[i].Value
		}
	}
	return ""
}

// checkHeaders refuses headers that the operation does not serve.
func (r *request) checkHeaders() error {
	for name := range r.header().All() {
		if hasPrefixFold(name, "x-tigris-") {
			if err := r.checkTigris(strings.ToLower(string(name[len("x-tigris-"):]))); err != nil {
				return err
			}
		}
	}
	if at := r.peek("X-Stemma-At"); at != "" && !r.op.reads {
		return invalidArgument("x-stemma-at", at, "A write cannot be made in the past")
	}
	for _, f := range r.amzFields {
		switch {
		case hasSSEPrefix(f.Name):
			if err := r.checkSSEHeader(f.Name); err != nil {
				return err
			}
		case f.Name == "x-amz-acl", strings.HasPrefix(f.Name, "x-amz-grant-"):
			if !takesACL[r.op.name] && f.Value != "private" {
				return notImplemented("the header " + clip(f.Name))
			}
		case f.Name == "x-amz-expected-bucket-owner" || f.Name == "x-amz-source-expected-bucket-owner":
			if err := r.checkOwner(f.Name, f.Value); err != nil {
				return err
			}
		case slices.Contains(r.op.amz, f.Name):
		case refusedHeaders[f.Name] && f.Value != "false",
			slices.ContainsFunc(refusedPrefixes, func(p string) bool { return strings.HasPrefix(f.Name, p) }):
			return notImplemented("the header " + clip(f.Name))
		}
	}
	return nil
}

// checkTigris refuses the header X-Tigris-name if the operation does not know it.
func (r *request) checkTigris(name string) error {
	if idleTigris[name] || slices.Contains(r.op.tigris, name) {
		return nil
	}
	if r.header().IsDelete() {
		return invalidArgument("X-Tigris-"+clip(name), "", "DELETE does not know this header; nothing was deleted")
	}
	return notImplemented("the header x-tigris-" + clip(name))
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64]
	}
	return s
}
