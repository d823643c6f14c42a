package s3api

import (
	"context"
	"errors"
	"net"
	"strconv"

	"github.com/valyala/fasthttp"

	"stemma/pageserver/auth"
	"stemma/pageserver/object"
	"stemma/timeline"
	"stemma/wal"
	"stemma/wal/storefs"
)

// apiError is an error as S3 words it.
type apiError struct {
	code    string // a key of the table below
	message string // empty: the one of the table
	fields  []auth.Field
	// missing are the keys that BundleKeyNotFound names.
	missing []string
	// cause is logged and kept from the client; only InternalError has one.
	cause error
}

func (e *apiError) Error() string { return e.code + ": " + e.text() }
func (e *apiError) Unwrap() error { return e.cause }

func (e *apiError) text() string {
	if e.message != "" {
		return e.message
	}
	return codes[e.code].message
}

// codes are all error codes that are answered, with status and standard message.
var codes = map[string]struct {
	status  int
	message string
}{
	"AccessControlListNotSupported":     {400, "The bucket does not allow ACLs"},
	"AccessDenied":                      {403, "Access Denied"},
	"AuthorizationHeaderMalformed":      {400, "The authorization header is malformed."},
	"AuthorizationQueryParametersError": {400, "The authorization query parameters are malformed."},
	"BadDigest":                         {400, "The Content-MD5 or checksum value that you specified did not match what the server received."},
	"BadRequest":                        {400, "An error occurred when parsing the HTTP request."},
	"BucketAlreadyExists":               {409, "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."},
	"BucketAlreadyOwnedByYou":           {409, "Your previous request to create the named bucket succeeded and you already own it."},
	"BundleKeyNotFound":                 {404, "One or more of the specified keys do not exist."},
	"BucketNotEmpty":                    {409, "The bucket you tried to delete is not empty"},
	"ConditionalRequestConflict":        {409, "The conditional request cannot succeed due to a conflicting operation against this resource."},
	"EntityTooLarge":                    {400, "Your proposed upload exceeds the maximum allowed size"},
	"EntityTooSmall":                    {400, "Your proposed upload is smaller than the minimum allowed size"},
	"HistoryNotRetained":                {410, "The history at the requested point is not kept any more"},
	"IdempotencyParameterMismatch":      {400, "The token was used before, with other parameters"},
	"IncompleteBody":                    {400, "You did not provide the number of bytes specified by the Content-Length HTTP header"},
	"InternalError":                     {500, "We encountered an internal error. Please try again."},
	"InvalidAccessKeyId":                {403, "The AWS Access Key Id you provided does not exist in our records."},
	"InvalidArgument":                   {400, "Invalid Argument"},
	"InvalidBucketName":                 {400, "The specified bucket is not valid: a name has 3 to 63 lowercase letters, digits, dots and hyphens, and a letter or digit at both ends."},
	"InvalidChunkSizeError":             {403, "The chunk size is not allowed."},
	"InvalidDigest":                     {400, "The Content-MD5 you specified was invalid."},
	"InvalidLocationConstraint":         {400, "The specified location-constraint is not valid"},
	"InvalidObjectState":                {403, "The operation is not valid for the object's storage class"},
	"InvalidEncryptionAlgorithmError":   {400, "The encryption request you specified is not valid. The valid value is AES256."},
	"InvalidPart":                       {400, "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."},
	"InvalidPartOrder":                  {400, "The list of parts was not in ascending order. Parts must be ordered by part number."},
	"InvalidRange":                      {416, "The requested range is not satisfiable"},
	"InvalidRedirectLocation":           {400, "The website redirect location must have a prefix of 'http://' or 'https://' or '/'."},
	"InvalidRequest":                    {400, "Invalid Request"},
	"InvalidStorageClass":               {400, "The storage class you specified is not valid"},
	"InvalidToken":                      {400, "The provided token is malformed or otherwise invalid."},
	"InvalidURI":                        {400, "Couldn't parse the specified URI."},
	"InvalidTag":                        {400, "The tag you provided is invalid"},
	"InvalidWriteOffset":                {400, "The write offset value that you specified does not match the current object size."},
	"KMS.NotFoundException":             {400, "The KMS key does not exist"},
	"KeyTooLongError":                   {400, "Your key is too long"},
	"MalformedTrailerError":             {400, "The request contained trailing data that was not well-formed or did not conform to our published schema."},
	"MalformedXML":                      {400, "The XML you provided was not well-formed or did not validate against our published schema"},
	"MaxMessageLengthExceeded":          {400, "Your request was too big."},
	"MergeConflict":                     {409, "Both sides have changed the same keys"},
	"MetadataTooLarge":                  {400, "Your metadata headers exceed the maximum allowed metadata size"},
	"MethodNotAllowed":                  {405, "The specified method is not allowed against this resource."},
	"MissingContentLength":              {411, "You must provide the Content-Length HTTP header."},
	"MissingRequestBodyError":           {400, "Request Body is empty"},
	"NoSuchBucket":                      {404, "The specified bucket does not exist"},
	"NoSuchKey":                         {404, "The specified key does not exist."},
	"NoSuchSnapshot":                    {404, "The specified snapshot does not exist."},
	"NoSuchUpload":                      {404, "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."},
	"NoSuchVersion":                     {404, "The specified version does not exist."},
	"NotImplemented":                    {501, "A header or parameter you provided implies functionality that is not implemented"},
	"QuotaExceeded":                     {403, "The bucket has no room for it: its quota would be exceeded"},
	"PreconditionFailed":                {412, "At least one of the pre-conditions you specified did not hold"},
	"RequestHeaderSectionTooLarge":      {400, "Your request header section exceeds the maximum allowed size"},
	"RequestTimeTooSkewed":              {403, "The difference between the request time and the current time is too large."},
	"RequestTimeout":                    {400, "Your socket connection to the server was not read from or written to within the timeout period."},
	"ServiceUnavailable":                {503, "The service is unavailable"},
	"SignatureDoesNotMatch":             {403, "The request signature we calculated does not match the signature you provided. Check your key and signing method."},
	"SnapshotAlreadyExists":             {409, "The bucket has a snapshot of that name"},
	"SnapshotHeld":                      {409, "A held snapshot can be deleted only after it was let go, and so can its bucket"},
	"SlowDown":                          {503, "Please reduce your request rate."},
	"StorageFull":                       {503, "The disk of the store is full; nothing was written"},
	"TooManyParts":                      {400, "You have attempted to add more parts than the maximum of 10000 that are allowed for this object. You can use the CopyObject operation to copy this object to another and then add more data to the newly copied object."},
	"XAmzContentSHA256Mismatch":         {400, "The provided 'x-amz-content-sha256' header does not match what was computed."},

	// Of versions and object lock.
	"IllegalVersioningConfigurationException": {400, "The Versioning element must be specified"},
	"InvalidBucketState":                      {409, "The request is not valid for the current state of the bucket."},
	"InvalidRetentionPeriod":                  {400, "The retention period must be a positive integer value."},
	"NoSuchObjectLockConfiguration":           {404, "The specified object does not have a ObjectLock configuration"},
	"ObjectLockConfigurationNotFoundError":    {404, "Object Lock configuration does not exist for this bucket"},

	// Of forms.
	"InvalidPolicyDocument":        {400, "The content of the form does not meet the conditions specified in the policy document."},
	"MalformedPOSTRequest":         {400, "The body of your POST request is not well-formed multipart/form-data."},
	"MaxPostPreDataLengthExceeded": {400, "Your POST request fields preceding the upload file were too large."},

	// Of users, policies and ACLs.
	"ExpiredToken":                         {400, "The provided token has expired."},
	"InvalidBucketAclWithObjectOwnership":  {400, "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"},
	"MalformedACLError":                    {400, "The XML you provided was not well-formed or did not validate against our published schema"},
	"MalformedPolicy":                      {400, "Policies must be valid JSON and the first byte must be '{'"},
	"MissingSecurityHeader":                {400, "Your request was missing a required header"},
	"NoSuchBucketPolicy":                   {404, "The bucket policy does not exist"},
	"NoSuchPublicAccessBlockConfiguration": {404, "The public access block configuration was not found"},
	"OwnershipControlsNotFoundError":       {404, "The bucket ownership controls were not found"},
	"UnexpectedContent":                    {400, "This request does not support content"},
	"UnresolvableGrantByEmailAddress":      {400, "The e-mail address you provided does not match any account on record."},

	// Of the configuration of buckets.
	"AccessForbidden":                                {403, "Access forbidden"},
	"InvalidTargetBucketForLogging":                  {400, "The target bucket for logging does not exist"},
	"MetadataConfigurationNotFound":                  {404, "The metadata configuration was not found"},
	"NoSuchCORSConfiguration":                        {404, "The CORS configuration does not exist"},
	"NoSuchConfiguration":                            {404, "The specified configuration does not exist."},
	"NoSuchLifecycleConfiguration":                   {404, "The lifecycle configuration does not exist"},
	"NoSuchTagSet":                                   {404, "The TagSet does not exist"},
	"NoSuchWebsiteConfiguration":                     {404, "The specified bucket does not have a website configuration"},
	"ReplicationConfigurationNotFoundError":          {404, "The replication configuration was not found"},
	"ServerSideEncryptionConfigurationNotFoundError": {404, "The server side encryption configuration was not found"},
}

// sentinels map errors of the packages below; the first that fits is taken.
var sentinels = []struct {
	err           error
	code, message string
}{
	{object.ErrNoSuchKey, "NoSuchKey", ""},
	{object.ErrNoSuchUpload, "NoSuchUpload", ""},
	{object.ErrNoSuchVersion, "NoSuchVersion", ""},
	{object.ErrInvalidVersionID, "InvalidArgument", "Invalid version id specified"},
	{object.ErrMarker, "MethodNotAllowed", ""},
	{object.ErrLocked, "AccessDenied", "Access Denied because object protected by object lock."},
	{object.ErrNoObjectLock, "InvalidRequest", "Bucket is missing Object Lock Configuration"},
	{object.ErrNoLockConfig, "ObjectLockConfigurationNotFoundError", ""},
	{object.ErrNoLock, "NoSuchObjectLockConfiguration", ""},
	{object.ErrRetainUntil, "InvalidArgument", "The retain until date must be in the future!"},
	{object.ErrPreconditionFailed, "PreconditionFailed", ""},
	{object.ErrQuotaExceeded, "QuotaExceeded", ""},
	{object.ErrInvalidRange, "InvalidRange", ""},
	{object.ErrInvalidPartNumber, "InvalidPart", "The object has no part of that number"},
	{object.ErrRangeAndPart, "InvalidRequest", "Cannot specify both Range header and partNumber query parameter"},
	{object.ErrInvalidCopyRange, "InvalidArgument", "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy"},
	{object.ErrKeyRequired, "InvalidRequest", "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."},
	{object.ErrKeyNotApplicable, "InvalidRequest", "The encryption parameters are not applicable to this object."},
	{object.ErrWrongKey, "InvalidRequest", "The provided encryption parameters did not match the ones used originally."},
	{object.ErrNoSuchKMSKey, "KMS.NotFoundException", ""},
	{object.ErrKMSKeyRequired, "InvalidArgument", "Server Side Encryption with KMS managed key requires HTTP header x-amz-server-side-encryption-aws-kms-key-id"},
	{object.ErrAppendClear, "InvalidRequest", "The object is not encrypted, and the bucket encrypts what is written to it. Copy the object onto itself first."},
	{object.ErrNoMasterKey, "NotImplemented", "The server has no key to encrypt with"},
	{object.ErrBadDigest, "BadDigest", ""},
	{object.ErrInvalidDigest, "InvalidDigest", ""},
	{object.ErrUnknownAlgorithm, "InvalidRequest", "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, MD5, SHA1, SHA256, SHA512, XXHASH3, XXHASH64, XXHASH128]"},
	{object.ErrInvalidChecksum, "InvalidRequest", "The value of a checksum is invalid."},
	{object.ErrChecksumType, "InvalidRequest", "The checksum algorithm or type does not match that of the upload, or they do not go together."},
	{object.ErrIncompleteBody, "IncompleteBody", ""},
	{object.ErrEntityTooLarge, "EntityTooLarge", ""},
	{object.ErrEntityTooSmall, "EntityTooSmall", ""},
	{object.ErrInvalidPart, "InvalidPart", ""},
	{object.ErrInvalidPartOrder, "InvalidPartOrder", ""},
	{object.ErrMalformedParts, "MalformedXML", ""},
	{object.ErrObjectSize, "InvalidRequest", "The provided 'x-amz-mp-object-size' header value does not match what was computed."},
	{object.ErrPartNumber, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive"},
	{object.ErrWriteOffset, "InvalidWriteOffset", ""},
	{object.ErrAppendChanges, "InvalidRequest", "Data that is appended to an object cannot change its metadata, headers, storage class or encryption"},
	{object.ErrTokenReused, "IdempotencyParameterMismatch", ""},
	{object.ErrTooManyParts, "TooManyParts", ""},
	{object.ErrConflict, "ConditionalRequestConflict", ""},
	{object.ErrSettingsTooLarge, "InvalidRequest", "The settings of the bucket are too large"},
	{object.ErrSelfCopy, "InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."},
	{object.ErrTooManyKeys, "MalformedXML", ""},
	{object.ErrKeyTooLong, "KeyTooLongError", ""},
	{object.ErrReservedKey, "MethodNotAllowed", "What begins with .snapshot/ is the past of the bucket, and cannot be written"},
	{object.ErrMetadataTooLarge, "MetadataTooLarge", ""},
	{object.ErrInvalidRedirect, "InvalidRedirectLocation", ""},
	{object.ErrInvalidStorageClass, "InvalidStorageClass", ""},
	{object.ErrInvalidToken, "InvalidArgument", "The continuation token provided is incorrect"},
	{object.ErrInvalidMarker, "InvalidArgument", "Invalid uploadId marker"},
	{object.ErrInvalidBucketName, "InvalidBucketName", ""},
	{object.ErrBucketHasForks, "BucketNotEmpty", "The bucket you tried to delete has forks; delete the forks first, or force the deletion"},
	{object.ErrNotImplemented, "NotImplemented", ""},
	{timeline.ErrNoSuchBucket, "NoSuchBucket", ""},
	{timeline.ErrBucketExists, "BucketAlreadyOwnedByYou", ""},
	{timeline.ErrBucketNotEmpty, "BucketNotEmpty", ""},
	{timeline.ErrReadOnly, "AccessDenied", "The bucket is read-only"},
	{timeline.ErrProtected, "AccessDenied", "The bucket is protected from deletion"},
	{timeline.ErrNoSuchSnapshot, "NoSuchSnapshot", "The bucket has no such snapshot"},
	{timeline.ErrSnapshotExists, "SnapshotAlreadyExists", ""},
	{timeline.ErrSnapshotHeld, "SnapshotHeld", ""},
	{timeline.ErrBadProperties, "InvalidArgument", "The expiry or the description is out of range"},
	{timeline.ErrFuture, "InvalidArgument", "The requested point in time lies in the future"},
	{timeline.ErrSlowDown, "SlowDown", ""},
	{timeline.ErrBatchTooLarge, "EntityTooLarge", ""},
	{wal.ErrTooLarge, "EntityTooLarge", ""},
	{storefs.ErrDiskFull, "StorageFull", ""},
	{timeline.ErrClosed, "ServiceUnavailable", "The server is shutting down"},
	{wal.ErrClosed, "ServiceUnavailable", "The server is shutting down"},
	{context.Canceled, "ServiceUnavailable", "The server is shutting down"},
	{context.DeadlineExceeded, "SlowDown", "The operation took too long; please try again"},
}

// toAPIError words any error as S3 does.
func (r *request) toAPIError(err error) *apiError {
	var known *apiError
	if errors.As(err, &known) {
		return known
	}
	var rule *object.RuleError
	if errors.As(err, &rule) {
		return &apiError{code: rule.Code, message: rule.Message}
	}
	if e := policyError(err); e != nil {
		return e
	}
	var denied *auth.Error
	if errors.As(err, &denied) {
		return &apiError{code: denied.Code, message: denied.Message, fields: denied.Fields}
	}
	var body *bodyError
	if errors.As(err, &body) {
		var netErr net.Error
		if errors.As(body.err, &netErr) && netErr.Timeout() {
			return &apiError{code: "RequestTimeout"}
		}
		return &apiError{code: "IncompleteBody"} // nobody will read it
	}
	var readOnly *wal.ReadOnlyError
	if errors.As(err, &readOnly) {
		return &apiError{code: "ServiceUnavailable", message: "The store is read-only: " + readOnly.Reason}
	}
	var gone *timeline.BelowHorizonError
	if errors.As(err, &gone) {
		return &apiError{code: "HistoryNotRetained", fields: []auth.Field{
			{Name: "RequestedLSN", Value: gone.LSN.String()}, {Name: "OldestLSN", Value: gone.Cutoff.String()},
		}}
	}
	for i := range sentinels {
		if errors.Is(err, sentinels[i].err) {
			return &apiError{code: sentinels[i].code, message: sentinels[i].message, fields: r.fieldsOf(err)}
		}
	}
	if why := r.srv.objects.Store().Err(); why != nil {
		return &apiError{code: "ServiceUnavailable", message: "The store is read-only: " + why.Error(), cause: err}
	}
	return &apiError{code: "InternalError", cause: err}
}

// fieldsOf returns what S3 tells besides code and message.
func (r *request) fieldsOf(err error) []auth.Field {
	var part *object.PartError
	var rng *object.RangeError
	var quota *object.QuotaError
	switch {
	case errors.As(err, &quota):
		return []auth.Field{
			{Name: "BucketName", Value: r.bucket}, {Name: "QuotaOf", Value: quota.Of}, {Name: "Quota", Value: utoa(uint64(quota.Max))},
			{Name: "Used", Value: strconv.FormatInt(quota.Used, 10)}, {Name: "Growth", Value: utoa(uint64(quota.Growth))},
		}
	case errors.As(err, &part):
		return []auth.Field{
			{Name: "UploadId", Value: r.param("uploadId")}, {Name: "PartNumber", Value: itoa(part.Number)}, {Name: "ETag", Value: part.ETag},
			{Name: "ProposedSize", Value: utoa(part.Size)}, {Name: "MinSizeAllowed", Value: itoa(object.MinPartBytes)},
		}
	case errors.As(err, &rng):
		return []auth.Field{{Name: "RangeRequested", Value: rng.Range}, {Name: "ActualObjectSize", Value: utoa(rng.Size)}}
	case errors.Is(err, object.ErrNoSuchKey):
		return []auth.Field{{Name: "Key", Value: r.key}}
	case errors.Is(err, object.ErrNoSuchVersion):
		fields := []auth.Field{{Name: "Key", Value: r.key}}
		if id := r.param("versionId"); id != "" {
			fields = append(fields, auth.Field{Name: "VersionId", Value: id})
		}
		return fields
	case errors.Is(err, object.ErrMarker):
		return []auth.Field{{Name: "Method", Value: string(r.header().Method())}, {Name: "ResourceType", Value: "DeleteMarker"}}
	case errors.Is(err, object.ErrNoSuchUpload):
		return []auth.Field{{Name: "UploadId", Value: r.param("uploadId")}}
	case errors.Is(err, object.ErrKeyTooLong):
		return []auth.Field{{Name: "Size", Value: itoa(len(r.key))}, {Name: "MaxSizeAllowed", Value: itoa(object.MaxKeyBytes)}}
	case errors.Is(err, object.ErrMetadataTooLarge):
		return []auth.Field{{Name: "MaxSizeAllowed", Value: itoa(object.MaxUserMetaBytes)}}
	case errors.Is(err, timeline.ErrNoSuchBucket), errors.Is(err, timeline.ErrBucketExists),
		errors.Is(err, timeline.ErrBucketNotEmpty), errors.Is(err, object.ErrInvalidBucketName):
		return []auth.Field{{Name: "BucketName", Value: r.bucket}}
	}
	return nil
}

// noSuchSource is NoSuchBucket of a bucket that is not the one in the path.
func noSuchSource(bucket string) *apiError {
	return &apiError{code: "NoSuchBucket", fields: []auth.Field{{Name: "BucketName", Value: bucket}}}
}

func invalidArgument(name, value, message string) *apiError {
	return &apiError{code: "InvalidArgument", message: message, fields: []auth.Field{
		{Name: "ArgumentName", Value: name}, {Name: "ArgumentValue", Value: clip(value)},
	}}
}

func notImplemented(what string) *apiError {
	return &apiError{code: "NotImplemented", message: what + " implies functionality that is not implemented"}
}

// writeError makes err the answer.
func (r *request) writeError(err error) {
	resp := &r.ctx.Response
	r.resetResponse() // drops what a handler may have set before it failed
	var same *object.NotModifiedError
	if errors.As(err, &same) {
		resp.SetStatusCode(fasthttp.StatusNotModified)
		r.setValidators(same.Entry)
		r.setLSN(same.At)
		return
	}
	e := r.toAPIError(err)
	status := errorStatus(e.code)
	r.errorCode = e.code
	if status == 500 || e.cause != nil {
		r.srv.log.Error("request failed", "request", r.id, "operation", r.operation(), "bucket", r.bucket, "key", r.key, "err", err)
	}
	var rng *object.RangeError
	if errors.As(err, &rng) && e.code == "InvalidRange" {
		r.set("Content-Range", "bytes */"+utoa(rng.Size))
	}
	if status == 503 {
		r.set("Retry-After", "1")
	}
	r.setMarker(err, status)
	resp.SetStatusCode(status)
	if r.website {
		r.sendErrorPage(e, status)
		return
	}
	if r.wantsJSON() && !r.ctx.IsHead() {
		// Strings alone: it cannot fail.
		_ = r.sendJSON(errorJSON{e.code, e.text(), string(r.target.RawPath), r.id})
		return
	}
	w := newErrorDocument(e, string(r.target.RawPath), r.id, r.srv.hostID)
	resp.Header.SetContentType("application/xml")
	if r.ctx.IsHead() {
		resp.SkipBody = true
		resp.Header.SetContentLength(len(w.bytes()))
		return
	}
	resp.SetBodyRaw(w.bytes())
}

// newErrorDocument returns the document of an error.
func newErrorDocument(e *apiError, resource, requestID, hostID string) *xmlWriter {
	w := newDocument()
	w.open("Error")
	w.text("Code", e.code)
	w.text("Message", e.text())
	for _, f := range e.fields {
		w.text(f.Name, f.Value)
	}
	if len(e.missing) > 0 {
		w.open("MissingKeys")
		for _, k := range e.missing {
			w.text("Key", k)
		}
		w.close("MissingKeys")
	}
	w.text("Resource", resource)
	w.text("RequestId", requestID)
	w.text("HostId", hostID)
	w.close("Error")
	return w
}
