package s3api

import (
	"crypto/tls"
	"strings"
	"time"

	"stemma/pageserver/object"
	"stemma/wal"
)

// AccessRecord is what is recorded of one request. Empty strings and negative
// numbers are not known, or not of this request.
type AccessRecord struct {
	Time      time.Time // of its arrival
	Bucket    string
	Key       string
	Owner     string // canonical id of the bucket's owner
	RemoteIP  string
	Requester string // who signed it
	RequestID string
	HostID    string
	Operation string // REST.GET.OBJECT
	Method    string
	URI       string // as it was sent, without signatures
	Proto     string
	Status    int
	ErrorCode string
	Sent      int64 // bytes of the answer's body
	Size      int64 // of the object
	Total     time.Duration
	Referer   string
	UserAgent string
	VersionID string
	LSN       wal.LSN
	AuthType  string // AuthHeader or QueryString; empty: not signed
	Host      string
	Cipher    string
	TLS       string // TLSv1.3
	ByACL     bool   // an ACL was needed to allow it
}

// Access records requests. It must not block, nor keep what it is given. Both
// functions are called at the end of a request, concurrently.
type Access interface {
	// All reports whether every request is to be recorded.
	All() bool
	// Record takes a request. to says where the bucket wants it; nil: nowhere.
	Record(rec *AccessRecord, to *object.LoggingEnabled)
}

// record records the request, if anybody wants that.
func (r *request) record() {
	a := r.srv.o.Access
	if a == nil {
		return
	}
	var to *object.LoggingEnabled
	if r.bucket != "" && r.proof != nil {
		if set, err := r.srv.objects.Settings(r.srv.base, r.bucket, 0); err == nil && set.Logging != nil {
			to = set.Logging.Enabled
		}
	}
	if to == nil && !a.All() {
		return
	}
	a.Record(r.accessRecord(), to)
}

func (r *request) accessRecord() *AccessRecord {
	h, resp := r.header(), &r.ctx.Response
	rec := &AccessRecord{
		Time: r.start, Bucket: r.bucket, Key: r.key, Owner: r.loggedOwner(), RemoteIP: r.ctx.RemoteIP().String(), RequestID: r.id, HostID: r.srv.hostID,
		Method: string(h.Method()), URI: r.loggedURI(), Proto: string(h.Protocol()), Status: resp.StatusCode(), ErrorCode: r.errorCode,
		Sent: -1, Size: -1, Total: time.Since(r.start), Referer: r.peek("Referer"), UserAgent: r.peek("User-Agent"),
		VersionID: r.param("versionId"), Host: string(h.Host()), ByACL: r.byACL,
	}
	if st := r.ctx.TLSConnectionState(); st != nil {
		rec.Cipher, rec.TLS = tls.CipherSuiteName(st.CipherSuite), strings.ReplaceAll(tls.VersionName(st.Version), "TLS ", "TLSv")
	}
	rec.Operation = r.loggedOperation(rec.Method)
	n := resp.Header.ContentLength()
	if !r.streaming && !resp.IsBodyStream() { // Body would read a stream
		n = len(resp.Body())
	}
	if n > 0 && !h.IsHead() {
		rec.Sent = int64(n)
		if rec.Operation == "REST.GET.OBJECT" && rec.Status < 300 {
			rec.Size = int64(n)
		}
	}
	if lsn, err := wal.ParseLSN(string(resp.Header.Peek("x-stemma-lsn"))); err == nil {
		rec.LSN = lsn
	}
	if r.proof != nil {
		rec.Requester, rec.AuthType = r.proof.Key.ID, "AuthHeader"
		switch {
		case r.proof.Version == "":
			rec.AuthType = ""
		case r.proof.Presigned:
			rec.AuthType = "QueryString"
		}
	}
	return rec
}

// loggedOwner returns the owner of the bucket; empty when there is no bucket.
func (r *request) loggedOwner() string {
	if r.bucket == "" {
		return ""
	}
	b, err := r.resource(r.bucket)
	if err != nil {
		return ""
	}
	return b.owner
}

// loggedURI returns the request's target without what gives access.
func (r *request) loggedURI() string {
	uri := string(r.header().RequestURI())
	for _, name := range []string{"X-Amz-Signature=", "X-Amz-Security-Token=", "Signature="} {
		for from := 0; ; {
			i := strings.Index(uri[from:], name)
			if i < 0 {
				break
			}
			i += from
			if from = i + len(name); i == 0 || uri[i-1] != '?' && uri[i-1] != '&' {
				continue
			}
			end := strings.IndexByte(uri[from:], '&')
			if end < 0 {
				uri = uri[:from] + "-"
				break
			}
			uri = uri[:from] + "-" + uri[from+end:]
		}
	}
	return uri
}

// loggedResources are subresources that are called otherwise in records.
var loggedResources = map[string]string{
	"delete": "MULTI_OBJECT_DELETE", "logging": "LOGGING_STATUS", "uploadId": "UPLOAD", "partNumber": "PART", "policy": "BUCKETPOLICY",
	"list-type": "BUCKET", "requestPayment": "REQUEST_PAYMENT", "publicAccessBlock": "PUBLIC_ACCESS_BLOCK", "ownershipControls": "OWNERSHIP_CONTROLS",
}

// loggedOperation returns the name of the operation in records.
func (r *request) loggedOperation(method string) string {
	resource := "OBJECT"
	switch {
	case r.bucket == "" && r.key == "":
		resource = "SERVICE"
	case r.key == "":
		resource = "BUCKET"
	}
	if r.op != nil && strings.HasPrefix(r.op.name, "Copy") || r.op != nil && strings.HasSuffix(r.op.name, "PartCopy") {
		method = "COPY"
	}
	for _, p := range r.target.Params {
		if !subresources[p.Name] || p.Name == "versionId" || p.Name == "uploadId" && r.param("partNumber") != "" {
			continue
		}
		if resource = loggedResources[p.Name]; resource == "" {
			resource = strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_"))
		}
		break
	}
	if r.website {
		return "WEBSITE." + method + "." + resource
	}
	return "REST." + method + "." + resource
}
