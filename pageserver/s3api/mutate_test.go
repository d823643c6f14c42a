package s3api

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stemma/internal/seeds"
	"stemma/pageserver/auth"
)

// TestMutatedRequests sends requests that were changed at random, rightly signed and
// not, to a real server: whatever is wrong with them, none is answered with a 5xx but
// 501, nothing panics, and nothing is left behind. STEMMA_MUTATE_SECONDS says for how
// long, in rounds of at most 10 s with a server and a store of their own; default 2.
// There are operations of S3 in both styles of naming a bucket, forms, actions of STS and
// IAM, and requests to websites; callers are the root, others with and without rights, a
// session, and nobody.
func TestMutatedRequests(t *testing.T) {
	total := 2 * time.Second
	if text := os.Getenv("STEMMA_MUTATE_SECONDS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("STEMMA_MUTATE_SECONDS=%q is no number of seconds", text)
		}
		total = time.Duration(n) * time.Second
	}
	seed := seeds.For(t)
	requests := int64(0)
	round := func(seed uint64, d time.Duration) (statuses [6]int64) {
		t.Run("round", func(t *testing.T) { statuses = mutationRound(t, seed, d) }) // whose cleanup lets go of the store
		return statuses
	}
	round(seed, 0) // starts what lives as long as the process
	before, heap := runtime.NumGoroutine(), uint64(0)
	for i := uint64(0); total > 0 && !t.Failed(); i++ {
		d := min(total, 10*time.Second)
		total -= d
		n := round(seed+i, d)
		for _, some := range n {
			requests += some
		}
		deadline := time.Now().Add(10 * time.Second)
		for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if now := runtime.NumGoroutine(); now > before {
			stacks := make([]byte, 1<<20)
			t.Errorf("round %d: %d goroutines, %d before\n%s", i, now, before, stacks[:runtime.Stack(stacks, true)])
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		if i == 0 {
			heap = m.HeapAlloc
		}
		t.Logf("round %d: answers by the hundreds of their status %v, %d MiB of heap behind them", i, n, m.HeapAlloc>>20)
		if n[2] == 0 || n[4] == 0 {
			t.Errorf("round %d: requests are all the same", i)
		}
		if m.HeapAlloc > heap+64<<20 {
			t.Errorf("round %d: %d bytes of heap, %d behind the first", i, m.HeapAlloc, heap)
		}
	}
	t.Logf("%d requests were answered", requests)
}

// mutationRound sends requests to a server of its own, and returns how many were
// answered, by the first digit of the status.
func mutationRound(t *testing.T, seed uint64, d time.Duration) (statuses [6]int64) {
	f := newMutationFixture(t)
	var wg sync.WaitGroup
	var answers [6]atomic.Int64
	end := time.Now().Add(d)
	for worker := range uint64(4) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			m := &mutator{Rand: rand.New(rand.NewPCG(seed, worker)), mutationFixture: f, answers: &answers}
			for time.Now().Before(end) && !t.Failed() {
				q := m.request()
				raw := m.encode(q)
				if err := m.send(raw, q.method, q.addr); err != nil {
					t.Errorf("%v\nrequest to %s: %q", err, q.addr, raw[:min(len(raw), 4096)])
				}
			}
		}()
	}
	wg.Wait()
	f.put("/mut-after", "") // it still serves
	f.put("/mut-after/k", "after")
	f.get("/mut-after/k")
	f.close()
	for i := range answers {
		statuses[i] = answers[i].Load()
	}
	return statuses
}

// mutator makes requests. It belongs to one goroutine.
type mutator struct {
	*rand.Rand
	*mutationFixture
	answers *[6]atomic.Int64
}

// wild is what stands for any value, name or document.
var wild = []string{
	"", "0", "1", "-1", "2", "1000", "10001", "18446744073709551616", "9223372036854775807", "null", "true", "TRUE", "false", "*", "x", "a,b", `""`, `"`, "''",
	"%", "%zz", "%00", "%2F", "%2e%2e", "+", " ", "&", "<", "\x00", "\x7f", "\xff\xfe", "é", "日本", "..", ".", "/", "//", "../..", "bytes=0-1", "bytes=-1",
	"bytes=1-0", "bytes=99-", "bytes=18446744073709551615-", "Thu, 01 Jan 2015 00:00:00 GMT", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "STANDARD", "SHA256",
	"CRC32", "COMPOSITE", "FULL_OBJECT", "AAAAAA==", "1B2M2Y8AsgTpgAmY7PhCfg==", "mut-a/k", "/mut-a/k", "mut-a/k?versionId=1", "arn:aws:s3:::mut-a", "url", "ENABLED",
	"REPLACE", "COPY", "private", "public-read", "AES256", "aws:kms", "GOVERNANCE", "ON", "k=v&a=b", "aws-chunked", "gzip", "id=\"x\"", "chunked", "100-continue",
	"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "UNSIGNED-PAYLOAD", "us-east-1", "{}", "[]", "<a/>",
}

// wildHeaders are the headers that some operation reads.
var wildHeaders = strings.Fields(`Range If-Match If-None-Match If-Modified-Since If-Unmodified-Since Content-Type Content-MD5 Content-Encoding
	Cache-Control Expires Content-Language Content-Disposition Expect Transfer-Encoding Content-Length Connection Origin Access-Control-Request-Method
	Access-Control-Request-Headers Date Host x-amz-acl x-amz-grant-read x-amz-checksum-crc32 x-amz-checksum-sha256 x-amz-checksum-crc64nvme x-amz-checksum-type
	x-amz-checksum-algorithm x-amz-checksum-mode x-amz-sdk-checksum-algorithm x-amz-trailer x-amz-decoded-content-length x-amz-copy-source x-amz-copy-source-range
	x-amz-copy-source-if-match x-amz-metadata-directive x-amz-tagging-directive x-amz-tagging x-amz-storage-class x-amz-meta-a x-amz-website-redirect-location
	x-amz-write-offset-bytes x-amz-rename-source x-amz-client-token x-amz-mp-object-size x-amz-object-attributes x-amz-max-parts x-amz-part-number-marker
	x-amz-bucket-namespace x-amz-if-match-initiated-time x-amz-if-match-size x-amz-if-match-last-modified-time x-amz-expected-bucket-owner x-amz-server-side-encryption x-amz-server-side-encryption-customer-algorithm
	x-amz-server-side-encryption-customer-key x-amz-server-side-encryption-customer-key-md5 x-amz-object-lock-mode x-amz-object-lock-retain-until-date
	x-amz-object-lock-legal-hold x-amz-bypass-governance-retention x-amz-bucket-object-lock-enabled x-amz-mfa x-amz-request-payer x-amz-security-token
	x-amz-object-ownership x-stemma-at x-stemma-copy-source-at x-stemma-undo X-Tigris-Snapshot-Version X-Tigris-Fork-Source-Bucket X-Tigris-Force-Delete
	Accept X-Tigris-Fork-Source-Bucket-Snapshot X-Tigris-Enable-Snapshot X-Tigris-Rename X-Tigris-Bundle-Format X-Tigris-Bundle-Compression X-Tigris-Bundle-On-Error
	x-amz-grant-full-control x-amz-copy-source-server-side-encryption-customer-algorithm x-amz-confirm-remove-self-bucket-access x-amz-skip-destination-validation`)

// wildParams are the parameters beside those of the routes.
var wildParams = strings.Fields(`versionId partNumber uploadId prefix delimiter marker max-keys encoding-type start-after continuation-token fetch-owner
	key-marker version-id-marker upload-id-marker max-uploads max-parts part-number-marker max-buckets response-content-type response-expires x-id list-type
	acl policy tagging X-Amz-Algorithm X-Amz-Expires X-Amz-Credential AWSAccessKeyId Signature Expires`)

// documents are bodies that some operation takes.
var documents = []string{
	"", "hello", `<Delete><Object><Key>k</Key><VersionId>1</VersionId><ETag>x</ETag></Object><Quiet>true</Quiet></Delete>`,
	`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"1f3c0b8e5d5ba57dbe7d2ee2de1ad1a5"</ETag></Part></CompleteMultipartUpload>`,
	`<CreateBucketConfiguration><LocationConstraint>eu</LocationConstraint></CreateBucketConfiguration>`,
	`<CreateBucketConfiguration><Tags><Tag><Key>k</Key><Value>v</Value></Tag></Tags></CreateBucketConfiguration>`,
	`<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>`,
	`<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Disabled</MfaDelete></VersioningConfiguration>`,
	`<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>`,
	`<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter><Prefix>a</Prefix></Filter><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>`,
	`<AccessControlPolicy><Owner><ID>x</ID></Owner><AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>`,
	`<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>`,
	`<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate></Retention>`, `<LegalHold><Status>ON</Status></LegalHold>`,
	`<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>`,
	`<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>`,
	`<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>`,
	`<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>`,
	`<BucketLoggingStatus><LoggingEnabled><TargetBucket>mut-b</TargetBucket><TargetPrefix>l/</TargetPrefix></LoggingEnabled></BucketLoggingStatus>`,
	`<NotificationConfiguration><QueueConfiguration><Queue>arn:aws:sqs:us-east-1:1:q</Queue><Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>`,
	`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::mut-a/*","Condition":{"StringEquals":{"a":"b"}}}]}`,
	`<BucketLoggingStatus><LoggingEnabled><TargetBucket>mut-b</TargetBucket><TargetPrefix/><TargetGrants><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>x</ID></Grantee><Permission>READ</Permission></Grant></TargetGrants></LoggingEnabled></BucketLoggingStatus>`,
	`<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>`, `<AccelerateConfiguration><Status>Suspended</Status></AccelerateConfiguration>`,
	`{"keys":["k","dir/large"]}`, `{"type":1}`, `<Bundle><Object><Key>k</Key></Object></Bundle>`,
	"5\r\nhello\r\n0\r\n\r\n", "5;chunk-signature=" + strings.Repeat("0", 64) + "\r\nhello\r\n0;chunk-signature=" + strings.Repeat("0", 64) + "\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
	"--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhello\r\n--b--\r\n",
}

func pick[T any](m *mutator, of []T) T { return of[m.IntN(len(of))] }

// chance is true once in n times.
func (m *mutator) chance(n int) bool { return m.IntN(n) == 0 }

// value returns one for a parameter or header.
func (m *mutator) value(name string) string {
	switch {
	case name == "uploadId" && !m.chance(4):
		return pick(m, m.uploads)
	case m.chance(3):
		return m.scramble(pick(m, wild))
	}
	return pick(m, wild)
}

// scramble changes some bytes.
func (m *mutator) scramble(text string) string {
	p := []byte(text)
	for range m.IntN(4) {
		switch at := m.IntN(len(p) + 1); m.IntN(5) {
		case 0:
			p = slices.Insert(p, at, byte(m.IntN(256)))
		case 1:
			p = slices.Insert(p, at, []byte(pick(m, wild))...)
		case 2:
			p = p[:at]
		case 3:
			p = append(p, p[:min(at, 100)]...)
		default:
			if at < len(p) {
				p[at] ^= 1 << m.IntN(8)
			}
		}
	}
	return string(p)
}

// mutant is a request that is being put together.
type mutant struct {
	method, path   string
	query, headers [][2]string
	body           string
	host, addr     string // addr is where it is sent to
	as             caller
	service        string // that it is signed for
	signed         bool
}

// request returns a request of any kind.
func (m *mutator) request() *mutant {
	q := &mutant{host: m.addr, addr: m.addr, as: pick(m, m.callers), service: "s3", signed: true}
	switch m.IntN(12) {
	case 0, 1:
		m.form(q)
	case 2, 3:
		m.action(q)
	case 4:
		m.page(q)
	default:
		m.operation(q)
	}
	if q.as.ID == "" {
		q.signed = false
	}
	return q
}

// bucket returns the name of a bucket, most often one that is there.
func (m *mutator) bucket() string {
	return pick(m, []string{"mut-a", "mut-a", "mut-a", "mut-b", "mut-c", "mut-c", "mut-gone", "absent", "UPPER"})
}

func (m *mutator) key() string {
	return pick(m, []string{"k", "k", "dir/large", "new", "dir//", "%2e%2e/x", "a%20b", strings.Repeat("l", 1025)})
}

// operation makes the request of a route.
func (m *mutator) operation(q *mutant) {
	rt := &m.routes[m.IntN(len(m.routes))]
	q.method, q.path = rt.method, "/"
	bucket := ""
	if rt.level != serviceLevel {
		bucket = m.bucket()
		q.path += bucket
	}
	if rt.level == objectLevel {
		q.path += "/" + m.key()
	}
	if rt.param != "" {
		q.query = append(q.query, [2]string{rt.param, ""})
		if good := map[string]string{"uploadId": pick(m, m.uploads), "list-type": "2", "partNumber": "1"}[rt.param]; good != "" {
			q.query[0][1] = good
		}
	}
	if strings.Contains(rt.op.name, "UploadPart") {
		q.query = append(q.query, [2]string{"uploadId", pick(m, m.uploads)})
	}
	for _, p := range rt.op.params {
		if p != rt.param && m.chance(6) {
			q.query = append(q.query, [2]string{p, m.value(p)})
		}
	}
	if rt.header != "" {
		q.headers = append(q.headers, [2]string{rt.header, pick(m, []string{"/mut-a/k", "mut-a/dir/large", m.headerValue("")})})
	}
	if q.body = pick(m, documents); !m.chance(4) {
		q.body = m.document(rt.param)
	}
	m.mutate(q)
	if bucket != "" && m.chance(4) { // the bucket in the name of the host
		q.host = pick(m, []string{bucket, bucket, strings.ToUpper(bucket), m.token()}) + "." + pick(m, []string{"localhost", "localhost:9000", "s3.localhost"})
		q.path = strings.TrimPrefix(q.path, "/"+bucket)
		if q.path == "" {
			q.path = "/"
		}
	}
}

// document returns one that fits a route, if there is any.
func (m *mutator) document(param string) string {
	word := strings.ToLower(strings.ReplaceAll(param, "-", ""))
	if special := map[string]string{"acl": "accesscontrolpolicy", "policy": "principal", "uploadid": "complete"}[word]; special != "" {
		word = special
	}
	fit := slices.DeleteFunc(slices.Clone(documents), func(d string) bool {
		return word == "" || !strings.Contains(strings.ToLower(d[:min(len(d), 60)]), word)
	})
	if len(fit) == 0 {
		return pick(m, documents)
	}
	return pick(m, fit)
}

// mutate changes up to three things of a request.
func (m *mutator) mutate(q *mutant) {
	for range pick(m, []int{0, 0, 1, 1, 2, 3}) {
		switch m.IntN(9) {
		case 0:
			q.method = pick(m, []string{"GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", m.token()})
		case 1:
			q.path = m.scramble(q.path)
		case 2, 3:
			name := pick(m, wildParams)
			if m.chance(8) {
				name = m.value("")
			}
			q.query = append(q.query, [2]string{name, m.value(name)})
		case 4, 5, 6:
			name := pick(m, wildHeaders)
			if m.chance(8) {
				name = m.token()
			}
			q.headers = append(q.headers, [2]string{name, m.headerValue(name)})
		case 7:
			q.body = m.scramble(q.body)
		case 8:
			q.body = strings.Repeat(q.body, m.IntN(400<<10/(len(q.body)+1)+1)) // long, and not well-formed
		}
	}
}

func (m *mutator) token() string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r) {
			return 'x'
		}
		return r
	}, "x"+m.value(""))
}

// headerValue is a value that does not end the header, most often.
func (m *mutator) headerValue(name string) string {
	v := m.value(name)
	if !m.chance(50) {
		v = strings.Map(func(r rune) rune {
			if r == '\n' || r == '\r' || r == 0 {
				return '.'
			}
			return r
		}, v)
	}
	return v
}

// encode signs and writes the request.
func (m *mutator) encode(q *mutant) []byte {
	sum := sha256.Sum256([]byte(q.body))
	hash := hex.EncodeToString(sum[:])
	if m.chance(8) {
		hash = pick(m, []string{
			"UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", m.token(),
		})
		q.headers = append(q.headers, [2]string{"x-amz-decoded-content-length", pick(m, []string{"5", "5", "0", strconv.Itoa(len(q.body)), m.headerValue("")})})
	}
	if m.chance(2) {
		q.headers = append(q.headers, [2]string{"Content-MD5", md5Of(q.body)})
	}
	if q.signed || m.chance(4) {
		q.headers = append(q.headers, [2]string{"x-amz-content-sha256", hash})
	}
	if q.as.token != "" && q.signed {
		q.headers = append(q.headers, [2]string{"x-amz-security-token", q.as.token})
	}
	date := time.Now().UTC().Format("20060102T150405Z")
	presigned := q.signed && m.chance(8)
	if presigned {
		hash = "UNSIGNED-PAYLOAD"
		for _, p := range [][2]string{
			{"X-Amz-Algorithm", "AWS4-HMAC-SHA256"}, {"X-Amz-Credential", q.as.ID + "/" + date[:8] + "/us-east-1/" + q.service + "/aws4_request"}, {"X-Amz-Date", date},
			{"X-Amz-Expires", pick(m, []string{"60", "604800", m.value("")})}, {"X-Amz-SignedHeaders", "host"},
		} {
			if !m.chance(40) {
				q.query = append(q.query, p)
			}
		}
	}
	target := m.target(q)
	var b bytes.Buffer
	authorization := ""
	if presigned {
		_, _, signature := m.sign(q, target, nil, hash, date)
		target += "&X-Amz-Signature=" + signature
	} else if q.signed {
		late := len(q.headers) // what is added or changed after signing
		if m.chance(10) {
			late = m.IntN(late)
		}
		scope, names, signature := m.sign(q, target, append(q.headers[:late:late], [2]string{"x-amz-date", date}), hash, date)
		authorization = fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", q.as.ID, scope, names, signature)
		if m.chance(20) {
			authorization = m.scramble(authorization)
		}
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", q.method, target, q.host)
	if authorization != "" {
		fmt.Fprintf(&b, "Authorization: %s\r\n", strings.NewReplacer("\r", ".", "\n", ".").Replace(authorization))
	}
	for _, h := range append(q.headers, [2]string{"x-amz-date", date}) {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	switch m.IntN(12) {
	case 0: // no length
	case 1:
		fmt.Fprintf(&b, "Content-Length: %d\r\n", m.IntN(2*len(q.body)+10))
	case 2:
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		fmt.Fprintf(&b, "%x\r\n%s\r\n0\r\n\r\n", len(q.body), q.body)
		return b.Bytes()
	default:
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(q.body))
	}
	fmt.Fprintf(&b, "\r\n%s", q.body)
	return b.Bytes()
}

// target returns path and query as they are sent.
func (m *mutator) target(q *mutant) string {
	var parts []string
	for _, p := range q.query {
		name, value := p[0], p[1]
		if !m.chance(10) {
			name, value = string(auth.AppendEscaped(nil, name, false)), string(auth.AppendEscaped(nil, value, false))
		}
		if value != "" || m.chance(2) {
			name += "=" + value
		}
		parts = append(parts, name)
	}
	target := q.path
	if len(parts) > 0 {
		target += "?" + strings.Join(parts, "&")
	}
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '\r' || r == '\n' {
			return '.'
		}
		return r
	}, target)
}

// sign returns what Version 4 says of the request: scope, signed headers and signature,
// over the path as it is sent.
func (m *mutator) sign(q *mutant, target string, headers [][2]string, hash, date string) (scope, signed, signature string) {
	t, _ := auth.ParseTarget([]byte(target)) // what it refuses, no signature saves
	path, _, _ := strings.Cut(target, "?")
	var params []string
	for _, p := range t.Params {
		params = append(params, string(auth.AppendEscaped(nil, p.Name, false))+"="+string(auth.AppendEscaped(nil, p.Value, false)))
	}
	slices.Sort(params)
	values := map[string][]string{"host": {q.host}}
	for _, h := range headers {
		if name := strings.ToLower(h[0]); strings.HasPrefix(name, "x-amz-") {
			values[name] = append(values[name], strings.Join(strings.Fields(h[1]), " "))
		}
	}
	names := slices.Sorted(maps.Keys(values))
	var canonical strings.Builder
	fmt.Fprintf(&canonical, "%s\n%s\n%s\n", q.method, path, strings.Join(params, "&"))
	for _, name := range names {
		fmt.Fprintf(&canonical, "%s:%s\n", name, strings.Join(values[name], ","))
	}
	signed = strings.Join(names, ";")
	fmt.Fprintf(&canonical, "\n%s\n%s", signed, hash)
	scope = date[:8] + "/us-east-1/" + q.service + "/aws4_request"
	sum := sha256.Sum256([]byte(canonical.String()))
	return scope, signed, signV4(q.as.Secret, scope, "AWS4-HMAC-SHA256\n"+date+"\n"+scope+"\n"+hex.EncodeToString(sum[:]))
}

// signV4 signs a text with the key of a scope.
func signV4(secret, scope, text string) string {
	key := []byte("AWS4" + secret)
	for _, part := range append(strings.Split(scope, "/"), text) {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// send sends a request on a connection of its own, and reads what comes back.
func (m *mutator) send(raw []byte, method, addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	go func() { // the answer may come before all of it is sent
		if _, err := c.Write(raw); err == nil {
			c.(*net.TCPConn).CloseWrite()
		}
	}()
	br := bufio.NewReader(c)
	for n := 0; ; n++ {
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		var netErr net.Error
		switch {
		case errors.As(err, &netErr) && netErr.Timeout():
			return fmt.Errorf("no answer: %w", err)
		case err != nil && n == 0 && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, &netErr):
			return fmt.Errorf("read answer: %w", err)
		case err != nil:
			return nil // the end
		}
		body, _ := io.ReadAll(res.Body) // ends early where the connection does
		if res.StatusCode >= 500 && res.StatusCode != http.StatusNotImplemented {
			return fmt.Errorf("answered with %d: %s", res.StatusCode, body)
		}
		if res.StatusCode >= 200 && res.Header.Get("x-amz-request-id") == "" {
			return fmt.Errorf("answered with %d and no request id: %s", res.StatusCode, body)
		}
		m.answers[res.StatusCode/100].Add(1)
		if res.StatusCode >= 200 {
			method = "GET" // of what was in the body of the first
		}
	}
}
