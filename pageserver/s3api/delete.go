package s3api

import (
	"context"
	"encoding/xml"
	"strconv"
	"unicode/utf8"

	"stemma/pageserver/object"
)

func deleteObject(ctx context.Context, r *request) error {
	k := object.DeleteKey{Key: r.key}
	var err error
	if k.Version, err = r.versionID(); err != nil {
		return err
	}
	if k.Version != 0 {
		if err := r.refuseTrash(ctx, k.Version); err != nil {
			return err
		}
	}
	if k.Bypass, err = r.bypass(); err != nil {
		return err
	}
	if k.Cond, err = r.deleteConditions(); err != nil {
		return err
	}
	res, err := r.srv.objects.Delete(ctx, r.bucket, k)
	if err != nil {
		return err
	}
	r.setVersionID(res.ID)
	if res.Marker {
		r.set("x-amz-delete-marker", "true")
	}
	r.setLSN(res.LSN)
	r.noContent()
	return nil
}

// deleteXML is the body of DeleteObjects.
type deleteXML struct {
	XMLName xml.Name     `xml:"Delete"`
	Objects []deleteItem `xml:"Object"`
	Quiet   bool         `xml:"Quiet"`
	Unknown []unknownXML `xml:",any"`
}

type deleteItem struct {
	Key              *string      `xml:"Key"`
	VersionID        *string      `xml:"VersionId"`
	ETag             *string      `xml:"ETag"`
	LastModifiedTime *string      `xml:"LastModifiedTime"`
	Size             *uint64      `xml:"Size"`
	Unknown          []unknownXML `xml:",any"`
}

func deleteObjects(ctx context.Context, r *request) error {
	p, err := r.document(maxLongXMLBytes, true)
	if err != nil {
		return err
	}
	if len(p) == 0 {
		return &apiError{code: "MissingRequestBodyError"}
	}
	var doc deleteXML
	if err := decodeXML(p, &doc); err != nil {
		return err
	}
	if len(doc.Unknown) > 0 || len(doc.Objects) == 0 || len(doc.Objects) > object.MaxDeleteKeys {
		return &apiError{code: "MalformedXML"}
	}
	bypass, err := r.bypass()
	if err != nil {
		return err
	}
	keys := make([]object.DeleteKey, 0, len(doc.Objects))
	results := make([]object.DeleteResult, len(doc.Objects)) // per object of the document
	places := make([]int, 0, len(doc.Objects))
	for i := range doc.Objects {
		item := &doc.Objects[i]
		if item.Key == nil {
			return &apiError{code: "MalformedXML"}
		}
		k := object.DeleteKey{Key: *item.Key, Bypass: bypass}
		if k.Version, results[i].Err = item.check(); results[i].Err != nil {
			continue
		}
		if k.Cond, err = item.conditions(); err != nil {
			return err
		}
		if results[i].Err = r.mayDeleteKey(k.Key, k.Version.String(), bypass); results[i].Err != nil {
			continue
		}
		keys, places = append(keys, k), append(places, i)
	}
	if len(keys) > 0 {
		done, lsn, err := r.srv.objects.DeleteMany(ctx, r.bucket, keys)
		if err != nil {
			return err
		}
		for j := range done {
			results[places[j]] = done[j]
		}
		r.setLSN(lsn)
	} else if err := r.checkBucket(); err != nil {
		return err
	}
	r.sendXML(r.deleteResult(&doc, results))
	return nil
}

// check refuses what cannot be deleted, or not on these terms, and returns the version id.
func (d *deleteItem) check() (id object.VersionID, err error) {
	switch {
	case len(d.Unknown) > 0:
		return 0, notImplemented("the element " + clip(d.Unknown[0].XMLName.Local))
	case !utf8.ValidString(*d.Key):
		return 0, &apiError{code: "InvalidURI"}
	case d.VersionID == nil || *d.VersionID == "":
		return 0, nil
	}
	if id, err = object.ParseVersionID(*d.VersionID); err != nil {
		err = &apiError{code: "NoSuchVersion"}
	}
	return id, err
}

// conditions returns those of the item. Error: MalformedXML.
func (d *deleteItem) conditions() (object.Conditions, error) {
	cond := object.Conditions{MatchSize: d.Size}
	if d.ETag != nil {
		cond.IfMatch = *d.ETag
	}
	if d.LastModifiedTime != nil {
		if cond.MatchModified = parseHTTPTime(*d.LastModifiedTime); cond.MatchModified.IsZero() {
			return cond, &apiError{code: "MalformedXML"}
		}
	}
	return cond, nil
}

// deleteConditions returns the conditions of DeleteObject. Errors:
// InvalidArgument, NotImplemented.
func (r *request) deleteConditions() (object.Conditions, error) {
	if r.condition("If-None-Match") != "" {
		return object.Conditions{}, notImplemented("the header If-None-Match on DELETE")
	}
	cond := object.Conditions{IfMatch: r.condition("If-Match")}
	const modified, size = "x-amz-if-match-last-modified-time", "x-amz-if-match-size"
	if text := r.amz(modified); text != "" {
		if cond.MatchModified = parseHTTPTime(text); cond.MatchModified.IsZero() {
			return cond, invalidArgument(modified, text, "The time must be an HTTP date")
		}
	}
	if text := r.amz(size); text != "" {
		n, err := strconv.ParseUint(text, 10, 63)
		if err != nil {
			return cond, invalidArgument(size, text, "The size must be a number of bytes")
		}
		cond.MatchSize = &n
	}
	return cond, nil
}

func (r *request) deleteResult(doc *deleteXML, results []object.DeleteResult) *xmlWriter {
	w := newResult("DeleteResult")
	for i := range results {
		item, res := &doc.Objects[i], &results[i]
		switch {
		case res.Err != nil:
			e := r.toAPIError(res.Err)
			w.open("Error")
			w.text("Key", *item.Key)
			if item.VersionID != nil {
				w.optional("VersionId", *item.VersionID)
			}
			w.text("Code", e.code)
			w.text("Message", e.text())
			w.close("Error")
		case !doc.Quiet:
			w.open("Deleted")
			w.text("Key", *item.Key)
			if item.VersionID != nil {
				w.optional("VersionId", *item.VersionID)
			}
			if res.Marker {
				w.bool("DeleteMarker", true)
				w.text("DeleteMarkerVersionId", res.ID.String())
			}
			w.close("Deleted")
		}
	}
	w.close("DeleteResult")
	return w
}
