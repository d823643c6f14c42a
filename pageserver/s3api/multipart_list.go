package s3api

import (
	"cmp"
	"context"
	"math"

	"stemma/pageserver/object"
)

func listParts(ctx context.Context, r *request) error {
	id, err := r.uploadID()
	if err != nil {
		return err
	}
	var l listing
	if l.url, err = r.urlEncoding(); err != nil {
		return err
	}
	limit, err := r.intParam("max-parts", object.MaxListKeys, 0, math.MaxInt32)
	if err != nil {
		return err
	}
	limit = min(limit, object.MaxListKeys)
	after, err := r.intParam("part-number-marker", 0, 0, math.MaxInt32)
	if err != nil {
		return err
	}
	key, err := r.customerKey(sseCustomer)
	if err != nil {
		return err
	}
	lsn := r.srv.objects.Store().Visible()
	res, err := r.srv.objects.ListParts(ctx, r.bucket, r.key, id, &object.ListPartsInput{
		After: min(after, object.MaxPartNumber), Max: limit, CustomerKey: key,
	})
	if err != nil {
		return err
	}
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	w := newResult("ListPartsResult")
	w.text("Bucket", r.bucket)
	w.text("Key", l.name(r.key))
	if l.url {
		w.text("EncodingType", "url")
	}
	w.text("UploadId", res.ID)
	r.writeOwner(w, "Initiator", cmp.Or(res.Initiator, b.ownerOf(res.Owner)))
	r.writeOwner(w, "Owner", b.ownerOf(res.Owner))
	w.text("StorageClass", res.StorageClass.String())
	w.int("PartNumberMarker", after)
	w.int("NextPartNumberMarker", res.Next)
	w.int("MaxParts", limit)
	w.bool("IsTruncated", res.Truncated)
	if res.Algorithm != object.NoChecksum {
		w.text("ChecksumAlgorithm", res.Algorithm.String())
		w.text("ChecksumType", res.ChecksumType())
	}
	for i := range res.Parts {
		p := &res.Parts[i]
		w.open("Part")
		w.int("PartNumber", p.Number)
		w.time("LastModified", p.LSN)
		w.text("ETag", `"`+p.ETag.String()+`"`)
		w.checksum(p.Checksum)
		w.uint("Size", p.Size)
		w.close("Part")
	}
	w.close("ListPartsResult")
	r.setLSN(lsn)
	r.sendXML(w)
	return nil
}

func listUploads(ctx context.Context, r *request) error {
	l, err := r.parseListing("max-uploads")
	if err != nil {
		return err
	}
	in := object.ListUploadsInput{
		Prefix: l.prefix, Delimiter: l.delimiter, Max: l.max,
		KeyMarker: r.param("key-marker"), UploadIDMarker: r.param("upload-id-marker"),
	}
	lsn := r.srv.objects.Store().Visible()
	res, err := r.srv.objects.ListUploads(ctx, r.bucket, &in)
	if err != nil {
		return err
	}
	b, err := r.resource(r.bucket)
	if err != nil {
		return err
	}
	w := newResult("ListMultipartUploadsResult")
	w.text("Bucket", r.bucket)
	w.text("KeyMarker", l.name(in.KeyMarker))
	w.text("UploadIdMarker", in.UploadIDMarker)
	w.optional("NextKeyMarker", l.name(res.NextKeyMarker))
	w.optional("NextUploadIdMarker", res.NextUploadIDMarker)
	w.text("Prefix", l.name(l.prefix))
	w.optional("Delimiter", l.name(l.delimiter))
	if l.url {
		w.text("EncodingType", "url")
	}
	w.int("MaxUploads", l.max)
	w.bool("IsTruncated", res.Truncated)
	for i := range res.Uploads {
		u := &res.Uploads[i]
		w.open("Upload")
		w.text("Key", l.name(u.Key))
		w.text("UploadId", u.ID)
		r.writeOwner(w, "Initiator", cmp.Or(u.Initiator, b.ownerOf(u.Owner)))
		r.writeOwner(w, "Owner", b.ownerOf(u.Owner))
		w.text("StorageClass", u.StorageClass.String())
		w.time("Initiated", u.LSN)
		if u.Algorithm != object.NoChecksum {
			w.text("ChecksumAlgorithm", u.Algorithm.String())
			w.text("ChecksumType", u.ChecksumType())
		}
		w.close("Upload")
	}
	l.prefixes(w, res.Prefixes)
	w.close("ListMultipartUploadsResult")
	r.setLSN(lsn)
	r.sendXML(w)
	return nil
}
