package object

import (
	"bytes"
	"context"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
)

// ListParts returns one page of the parts of an upload, by number. Errors:
// ErrNoSuchUpload, ErrKeyNotApplicable, ErrWrongKey, timeline.ErrNoSuchBucket, ErrCorrupt,
// layers.ErrCorrupt.
func (s *Service) ListParts(ctx context.Context, bucket, key, id string, in *ListPartsInput) (*PartList, error) {
	o, err := parseUpload(key, id)
	if err != nil {
		return nil, err
	}
	v, err := s.store.View(ctx, bucket, 0)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	u, rec, err := o.load(v)
	if err != nil {
		return nil, err
	}
	// Where only the customer's key opens the fields, all but the checksums can be shown without it.
	open := u.crypt == nil || u.crypt.Kind != SSEC || u.crypt.sealedFields != nil || in.CustomerKey != nil
	if open {
		if err := s.unlockUploadFields(u, in.CustomerKey); err != nil {
			return nil, fmt.Errorf("list parts: %w", err)
		}
	}
	l := &PartList{Upload: u.describe(key, o.id, rec.LSN)}
	limit := min(in.Max, MaxListKeys)
	if limit <= 0 || in.After >= MaxPartNumber {
		return l, nil
	}
	err = o.eachPart(v, max(in.After, 0), func(number int, rec *layers.Record) (bool, error) {
		if len(l.Parts) == limit {
			l.Truncated = true
			return false, nil
		}
		var p partRecord
		if err := p.decode(rec.Meta); err != nil {
			return false, fmt.Errorf("part %d: %w", number, err)
		}
		if open {
			if err := p.unlock(u.crypt); err != nil {
				return false, fmt.Errorf("part %d: %w", number, err)
			}
		}
		l.Parts = append(l.Parts, p.describe(number, rec.LSN))
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list parts: %w", err)
	}
	if n := len(l.Parts); n > 0 {
		l.Next = l.Parts[n-1].Number
	}
	return l, nil
}

// ListUploads returns one page of the uploads of a bucket, by key, those of one
// key by age. Errors: ErrInvalidMarker, timeline.ErrNoSuchBucket, ErrCorrupt,
// layers.ErrCorrupt.
func (s *Service) ListUploads(ctx context.Context, bucket string, in *ListUploadsInput) (*UploadList, error) {
	g := grouping{prefix: in.Prefix, delimiter: in.Delimiter, max: min(in.Max, MaxListKeys)}
	lower, upper, ok, err := in.bounds(&g)
	if err != nil {
		return nil, err
	}
	v, err := s.store.View(ctx, bucket, 0)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	l := &UploadList{}
	if !ok || g.max <= 0 {
		return l, nil
	}
	if err := listUploads(v, &g, lower, upper, l); err != nil {
		return nil, fmt.Errorf("list uploads of %q: %w", bucket, err)
	}
	return l, nil
}

// bounds returns the range of upload records to look at.
func (in *ListUploadsInput) bounds(g *grouping) (lower, upper []byte, ok bool, err error) {
	var id uploadID
	if in.KeyMarker != "" && in.UploadIDMarker != "" {
		if id, ok = parseUploadID(in.UploadIDMarker); !ok {
			return nil, nil, false, fmt.Errorf("upload id marker %q: %w", in.UploadIDMarker, ErrInvalidMarker)
		}
	}
	from, to, ok := g.bounds(in.KeyMarker)
	if !ok {
		return nil, nil, false, nil
	}
	lower, upper = appendKeyPrefix(nil, from), []byte{spaceUploads + 1}
	if to != "" {
		upper = appendKeyPrefix(nil, to)
	}
	if id != (uploadID{}) && len(in.KeyMarker) <= MaxKeyBytes && g.within(in.KeyMarker) {
		lower = append(uploadKey(in.KeyMarker, id), 0)
	}
	return lower, upper, bytes.Compare(lower, upper) < 0, nil
}

// within reports whether a key is listed by itself.
func (g *grouping) within(key string) bool {
	return len(key) >= len(g.prefix) && key[:len(g.prefix)] == g.prefix && g.group([]byte(key)) == ""
}

func listUploads(v *timeline.View, g *grouping, lower, upper []byte, l *UploadList) error {
	scan := v.Scan(layers.NamespaceUploads, lower, upper)
	defer scan.Close()
	lastID := ""
	for ok := scan.First(); ok; {
		rec := scan.Record()
		key, id, err := parseUploadKey(rec.Key.User())
		if err != nil {
			return err
		}
		if g.full() {
			l.Truncated, l.NextKeyMarker, l.NextUploadIDMarker = true, g.last, lastID
			break
		}
		if group := g.group(key); group != "" {
			l.Prefixes = append(l.Prefixes, group)
			g.took(group)
			lastID = ""
			next := successor(group)
			ok = next != "" && scan.SeekGE(appendKeyPrefix(nil, next))
			continue
		}
		u, err := decodeUpload(rec.Meta)
		if err != nil {
			return fmt.Errorf("upload %v of %q: %w", id, key, err)
		}
		l.Uploads = append(l.Uploads, u.describe(string(key), id, rec.LSN))
		lastID = id.String()
		g.took(string(key))
		ok = scan.Next()
	}
	return scan.Err()
}
