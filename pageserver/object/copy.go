package object

import (
	"context"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// source is a version of an object that is being copied from. Its segments are
// held until close.
type source struct {
	entry   *Entry
	id      VersionID // that is shown
	lsn     wal.LSN   // of the record
	body    layers.Body
	ext     []layers.Extent // after load, of the whole body, parts table included; nil when inline
	release func()
	// Of an object that is written in place instead of body and ext:
	leased *timeline.Leased // what it is read at
	flat   *flattened       // what was made of it, if anything
}

func (src *source) paged() bool { return src.leased != nil }

// openSource reads a version and holds its segments while a view still keeps
// them. ctx bounds only the view. Call close when the commit that names the
// extents has ended.
func (s *Service) openSource(ctx context.Context, bucket, key string, in *GetInput) (*source, error) {
	v, err := s.store.View(ctx, bucket, in.At)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	defer v.Close()
	e, rec, err := s.find(v, key, in.Version)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if in.Allow != nil {
		if err := in.Allow(e); err != nil {
			return nil, err
		}
	}
	id, err := s.shownID(v, e)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if err := s.unlock(e, in.CustomerKey); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if err := in.Cond.checkSource(e); err != nil {
		return nil, err
	}
	src := &source{entry: e, id: id, lsn: rec.LSN, body: rec.Body, release: func() {}}
	if e.pages.paged() {
		if src.leased, err = v.Lease(pageLease); err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
		return src, nil
	}
	if tag := rec.Body.Tag(); tag == layers.BodyInline || tag == layers.BodyEmpty {
		return src, nil
	}
	segs, err := rec.Body.Segments(nil)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if src.release, err = s.values.Hold(segs); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return src, nil
}

func (src *source) close() {
	src.release()
	if src.flat != nil {
		src.flat.close()
	}
}

// load fills src.ext.
func (s *Service) load(src *source) (err error) {
	if src.ext == nil && src.body.Tag() != layers.BodyInline {
		if src.ext, err = s.values.LoadExtents(src.body, nil); err != nil {
			err = fmt.Errorf("source: %w", err)
		}
	}
	return err
}

// checksum reads bytes [off, off+n) of the source and returns their MD5 and
// checksum.
func (s *Service) checksum(ctx context.Context, src *source, off, n uint64, a Algorithm) ([16]byte, Checksum, error) {
	r, err := s.openBytes(ctx, src, off, n)
	if err != nil {
		return [16]byte{}, Checksum{}, err
	}
	defer r.Close()
	sc := getScratch()
	defer sc.put()
	sc.digest.reset(a, NoChecksum)
	if _, err := r.WriteTo(digestWriter{ctx, sc.digest}); err != nil {
		return [16]byte{}, Checksum{}, fmt.Errorf("read source: %w", err)
	}
	return sc.digest.md5Sum(), sc.digest.checksum(a), nil
}

// openBytes opens bytes [off, off+n) of the source.
func (s *Service) openBytes(ctx context.Context, src *source, off, n uint64) (*Reader, error) {
	if src.paged() {
		v, err := src.leased.View(pageLease)
		if err != nil {
			return nil, err
		}
		defer v.Close()
		return s.openPages(ctx, v, src.entry, off, n)
	}
	if err := s.load(src); err != nil {
		return nil, err
	}
	return s.newReader(src.entry, src.body, src.ext, off, n)
}

// digestWriter sums what is written to it until its context ends.
type digestWriter struct {
	ctx context.Context
	d   *digest
}

// Write implements io.Writer.
func (w digestWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	w.d.write(p)
	return len(p), nil
}

// Copy makes a version of one object the object at another key, or the same.
// The body is not copied: the new record has the handles of the old, or its
// inline bytes. ETag, parts and checksum stay, unless another checksum is asked
// for, which makes Copy read the body. Where the copy is encrypted under another
// key, the body is written anew.
//
// Errors: those of Get for the source, all of its conditions as
// ErrPreconditionFailed; ErrSelfCopy, ErrChecksumType, and those of Put for the
// destination.
func (s *Service) Copy(ctx context.Context, bucket, key string, in *CopyInput) (*CopyResult, error) {
	if err := in.check(key); err != nil {
		return nil, err
	}
	src, err := s.openSource(ctx, in.SrcBucket, in.SrcKey, &GetInput{
		At: in.SrcAt, Version: in.SrcVersion, Cond: in.SrcCond, CustomerKey: in.SrcCustomerKey, Allow: in.SrcAllow,
	})
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	defer src.close()
	if bucket == in.SrcBucket && key == in.SrcKey && in.SrcAt == 0 && in.SrcVersion == 0 && !in.changes(src.entry) {
		return nil, fmt.Errorf("copy %q: %w", key, ErrSelfCopy)
	}
	e := *src.entry
	e.uploadID, e.LSN, e.made, e.renamed, e.inherited, e.Versioned, e.Lock = uploadID{}, 0, 0, renameToken{}, inheritance{}, false, in.Lock
	e.StorageClass, e.Access = in.StorageClass, in.Access
	if in.Replace {
		e.Headers, e.UserMeta = in.Headers, in.UserMeta
	} else {
		e.Headers.WebsiteRedirect = in.Headers.WebsiteRedirect
	}
	if in.ReplaceTags {
		e.Tags = in.Tags
	}
	sc := getScratch()
	defer sc.put()
	sc.key = append(sc.key[:0], key...)
	var st stored
	defer st.done()
	body, err := s.copyBody(ctx, sc, &st, bucket, in, src, &e)
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	if err := s.commitEntry(ctx, sc, bucket, &in.Cond, &e, body); err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	return &CopyResult{Entry: e, SrcLSN: src.entry.LSN, SrcID: src.id}, nil
}

func (in *CopyInput) check(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if in.StorageClass >= numStorageClasses {
		return ErrInvalidStorageClass
	}
	if in.Algorithm >= numAlgorithms {
		return ErrChecksumType
	}
	if err := CheckACL(in.ACL); err != nil {
		return err
	}
	return checkDescription(&in.Headers, in.UserMeta, in.Tags)
}

// changes reports whether the copy differs from the source in what S3 lets a
// copy onto itself change.
func (in *CopyInput) changes(e *Entry) bool {
	return in.Replace || in.ReplaceTags || in.SSE.Kind != NoSSE || in.StorageClass != e.StorageClass || in.Headers.WebsiteRedirect != e.Headers.WebsiteRedirect ||
		in.Algorithm != NoChecksum && in.Algorithm != e.Checksum.Algorithm
}
