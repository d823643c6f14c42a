package s3api

import (
	"context"
	"encoding/xml"
	"errors"
	"strconv"

	"stemma/pageserver/object"
)

var uploadPartOperation = &operation{name: "UploadPart", handle: uploadPart, long: true, params: []string{"partNumber", "uploadId"}}

func createUpload(ctx context.Context, r *request) error {
	in := object.UploadInput{Headers: r.contentHeaders(), UserMeta: r.userMeta(), ChecksumType: r.amz("x-amz-checksum-type")}
	var err error
	if in.StorageClass, err = r.storageClass(); err != nil {
		return err
	}
	if in.Tags, err = r.headerTags(); err != nil {
		return err
	}
	if in.Algorithm, err = object.ParseAlgorithm(r.amz("x-amz-checksum-algorithm")); err != nil {
		return err
	}
	if in.SSE, in.CustomerKey, err = r.sse(); err != nil {
		return err
	}
	if in.Lock, err = r.askedLock(); err != nil {
		return err
	}
	if in.Access, err = r.newAccess(); err != nil {
		return err
	}
	if in.Initiator, err = r.initiator(&in.Access); err != nil {
		return err
	}
	u, err := r.srv.objects.CreateUpload(ctx, r.bucket, r.key, &in)
	if err != nil {
		return err
	}
	if u.Algorithm != object.NoChecksum {
		r.set("x-amz-checksum-algorithm", u.Algorithm.String())
		r.set("x-amz-checksum-type", u.ChecksumType())
	}
	r.setAbort(ctx, u)
	r.setSSE(u.SSE, in.CustomerKey, true)
	r.setLSN(u.LSN)
	w := newResult("InitiateMultipartUploadResult")
	w.text("Bucket", r.bucket)
	w.text("Key", r.key)
	w.text("UploadId", u.ID)
	w.close("InitiateMultipartUploadResult")
	r.sendXML(w)
	return nil
}

// uploadID returns the parameter. Error: InvalidArgument when it is not there.
func (r *request) uploadID() (string, error) {
	id, ok := r.target.Get("uploadId")
	if !ok {
		return "", invalidArgument("uploadId", "", "This operation does not accept a query-string without uploadId.")
	}
	return id, nil
}

func uploadPart(ctx context.Context, r *request) error {
	if err := r.putLength(); err != nil {
		return err
	}
	number, err := r.partNumber(true)
	if err != nil {
		return err
	}
	id, err := r.uploadID()
	if err != nil {
		return err
	}
	var in object.PutPartInput
	if in.CustomerKey, err = r.customerKey(sseCustomer); err != nil {
		return err
	}
	if in.ContentMD5, err = r.contentMD5(); err != nil {
		return err
	}
	body, err := r.openBody()
	if err != nil {
		return err
	}
	if in.Checksum, err = r.expectChecksum(body); err != nil {
		return err
	}
	in.Body, in.Size = body, body.Size()
	part, err := r.srv.objects.PutPart(ctx, r.bucket, r.key, id, number, &in)
	if err != nil {
		return err
	}
	r.set("ETag", `"`+part.ETag.String()+`"`)
	r.setChecksum(part.Checksum)
	r.setSSE(part.SSE, in.CustomerKey, false)
	r.setLSN(part.LSN)
	return nil
}

func uploadPartCopy(ctx context.Context, r *request) error {
	number, err := r.partNumber(true)
	if err != nil {
		return err
	}
	id, err := r.uploadID()
	if err != nil {
		return err
	}
	in := object.CopyPartInput{SrcCond: r.sourceConditions(), Range: r.amz("x-amz-copy-source-range")}
	if in.SrcBucket, in.SrcKey, in.SrcVersion, err = r.copySource(); err != nil {
		return err
	}
	if in.SrcAt, err = r.sourceAt(in.SrcBucket); err != nil {
		return err
	}
	if in.CustomerKey, err = r.customerKey(sseCustomer); err != nil {
		return err
	}
	if in.SrcCustomerKey, err = r.customerKey(sseCopySource); err != nil {
		return err
	}
	if in.SrcAllow, err = r.allowSource(in.SrcBucket, in.SrcKey, in.SrcVersion.String(), in.SrcVersion != 0 || in.SrcAt != 0); err != nil {
		return err
	}
	part, err := r.srv.objects.CopyPart(ctx, r.bucket, r.key, id, number, &in)
	if err != nil {
		return copyError(r.hideMissing(err, in.SrcBucket, in.SrcKey))
	}
	r.setSource(part.SrcLSN, part.SrcID)
	r.setSSE(part.SSE, in.CustomerKey, false)
	r.setLSN(part.LSN)
	w := newResult("CopyPartResult")
	w.time("LastModified", part.LSN)
	w.text("ETag", `"`+part.ETag.String()+`"`)
	w.checksum(part.Checksum)
	w.close("CopyPartResult")
	r.sendXML(w)
	return nil
}

// completeXML is the body of CompleteMultipartUpload.
type completeXML struct {
	XMLName xml.Name       `xml:"CompleteMultipartUpload"`
	Parts   []completePart `xml:"Part"`
	Unknown []unknownXML   `xml:",any"`
}

type completePart struct {
	PartNumber        *int         `xml:"PartNumber"`
	ETag              *string      `xml:"ETag"`
	ChecksumCRC32     *string      `xml:"ChecksumCRC32"`
	ChecksumCRC32C    *string      `xml:"ChecksumCRC32C"`
	ChecksumCRC64NVME *string      `xml:"ChecksumCRC64NVME"`
	ChecksumSHA1      *string      `xml:"ChecksumSHA1"`
	ChecksumSHA256    *string      `xml:"ChecksumSHA256"`
	ChecksumSHA512    *string      `xml:"ChecksumSHA512"`
	ChecksumMD5       *string      `xml:"ChecksumMD5"`
	ChecksumXXHASH64  *string      `xml:"ChecksumXXHASH64"`
	ChecksumXXHASH3   *string      `xml:"ChecksumXXHASH3"`
	ChecksumXXHASH128 *string      `xml:"ChecksumXXHASH128"`
	Unknown           []unknownXML `xml:",any"`
}

// parse returns the part. Errors: MalformedXML, InvalidPart.
func (p *completePart) parse() (object.CompletePart, error) {
	if p.PartNumber == nil || p.ETag == nil || len(p.Unknown) > 0 {
		return object.CompletePart{}, &apiError{code: "MalformedXML"}
	}
	c := object.CompletePart{Number: *p.PartNumber, ETag: *p.ETag}
	for _, sum := range []struct {
		a    object.Algorithm
		text *string
	}{
		{object.CRC32, p.ChecksumCRC32}, {object.CRC32C, p.ChecksumCRC32C}, {object.CRC64NVME, p.ChecksumCRC64NVME},
		{object.SHA1, p.ChecksumSHA1}, {object.SHA256, p.ChecksumSHA256}, {object.SHA512, p.ChecksumSHA512}, {object.MD5, p.ChecksumMD5},
		{object.XXHASH64, p.ChecksumXXHASH64}, {object.XXHASH3, p.ChecksumXXHASH3}, {object.XXHASH128, p.ChecksumXXHASH128},
	} {
		if sum.text == nil || *sum.text == "" {
			continue
		}
		if c.Checksum.Algorithm != object.NoChecksum {
			return c, &apiError{code: "MalformedXML"}
		}
		var err error
		if c.Checksum, err = object.ParseChecksum(sum.a, *sum.text); err != nil {
			return c, &object.PartError{Err: object.ErrInvalidPart, Number: c.Number, ETag: c.ETag}
		}
	}
	return c, nil
}

func completeUpload(ctx context.Context, r *request) error {
	id, err := r.uploadID()
	if err != nil {
		return err
	}
	in := object.CompleteInput{Cond: r.writeConditions(), ChecksumType: r.amz("x-amz-checksum-type"), Size: -1}
	if in.Parts, err = r.completeParts(); err != nil {
		return err
	}
	if in.Checksum, err = r.checksumHeader(); err != nil {
		return err
	}
	if text := r.amz("x-amz-mp-object-size"); text != "" {
		if in.Size, err = strconv.ParseInt(text, 10, 64); err != nil || in.Size < 0 {
			return invalidArgument("x-amz-mp-object-size", text, "The object size must be a number of bytes")
		}
	}
	if in.CustomerKey, err = r.customerKey(sseCustomer); err != nil {
		return err
	}
	e, err := r.srv.objects.CompleteUpload(ctx, r.bucket, r.key, id, &in)
	if errors.Is(err, object.ErrKeyRequired) {
		return invalidArgument(sseCustomer+"algorithm", "", "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm.")
	}
	if err != nil {
		return err
	}
	r.setNewVersion(e)
	r.setExpiration(ctx, e)
	r.setSSE(e.SSE(), in.CustomerKey, false)
	r.setLSN(e.LSN)
	w := newResult("CompleteMultipartUploadResult")
	w.text("Location", r.location())
	w.text("Bucket", r.bucket)
	w.text("Key", r.key)
	w.text("ETag", `"`+e.ETag.String()+`"`)
	w.checksum(e.Checksum)
	w.optional("ChecksumType", e.Checksum.Type())
	w.close("CompleteMultipartUploadResult")
	r.sendXML(w)
	return nil
}

// completeParts reads the body of a complete. The checksum headers speak of the
// object, not of the document.
func (r *request) completeParts() ([]object.CompletePart, error) {
	p, err := r.plainDocument(maxLongXMLBytes)
	if err != nil {
		return nil, err
	}
	var doc completeXML
	if err := decodeXML(p, &doc); err != nil {
		return nil, err
	}
	if len(doc.Unknown) > 0 || len(doc.Parts) == 0 || len(doc.Parts) > object.MaxPartNumber {
		return nil, &apiError{code: "MalformedXML"}
	}
	parts := make([]object.CompletePart, len(doc.Parts))
	for i := range doc.Parts {
		if parts[i], err = doc.Parts[i].parse(); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// location returns the URL of the object, as the client addressed it.
func (r *request) location() string {
	scheme := "http://"
	if r.secure() {
		scheme = "https://"
	}
	return scheme + string(r.header().Host()) + string(r.target.RawPath)
}

func abortUpload(ctx context.Context, r *request) error {
	id, err := r.uploadID()
	if err != nil {
		return err
	}
	if err := r.srv.objects.AbortUpload(ctx, r.bucket, r.key, id); err != nil {
		return err
	}
	r.setLSN(r.srv.objects.Store().Visible())
	r.noContent()
	return nil
}
