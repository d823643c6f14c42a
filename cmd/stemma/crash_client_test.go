package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"stemma/wal"
)

// crashClient changes keys of its own in every bucket, one request at a time.
type crashClient struct {
	h   *crashTest
	id  int
	s3  *s3.Client
	rng *rand.Rand
	n   int // forks made
}

// step does one operation and enters it in the model. Errors are those of the
// request that failed; a change that got no answer is entered as undecided.
func (c *crashClient) step(ctx context.Context) error {
	n := c.rng.IntN(1000)
	if c.h.churn && n < 220 {
		return c.churn(ctx, n)
	}
	b := c.h.pick(c.rng)
	b.use.RLock()
	defer b.use.RUnlock()
	if b.gone {
		return nil
	}
	key := fmt.Sprintf("c%d/%02d", c.id, c.rng.IntN(crashKeys))
	switch n := c.rng.IntN(1000); {
	case n < 620:
		return c.put(ctx, b, key)
	case n < 760:
		return c.delete(ctx, b, key)
	case n < 800:
		return c.deleteMany(ctx, b)
	case n < 805:
		return c.multipart(ctx, b, key)
	case n < 845:
		return c.copy(ctx, b, key)
	case n < 880:
		return c.fork(ctx, b)
	default:
		return c.get(ctx, b, key)
	}
}

// changed enters the outcome of one change.
func (c *crashClient) changed(b *bucketModel, key string, now content, md middleware.Metadata, err error) error {
	if err != nil {
		if refused(err) {
			return nil
		}
		if isDead(err) {
			b.add(key, change{content: now})
		}
		return fmt.Errorf("change %s/%s: %w", b.name, key, err)
	}
	lsn, err := lsnOf(md)
	if err != nil {
		return fmt.Errorf("change %s/%s: %w", b.name, key, err)
	}
	b.add(key, change{content: now, lsn: lsn})
	return nil
}

// size draws a size: mostly small, often at the limits where values part from
// keys and from the log, up to 1 MiB.
func (c *crashClient) size() int64 {
	switch n := c.rng.IntN(100); {
	case n < 5:
		return 0
	case n < 40:
		return 1 + c.rng.Int64N(4<<10)
	case n < 50:
		return 1<<10 - 1 + c.rng.Int64N(3)
	case n < 60:
		return 32<<10 - 1 + c.rng.Int64N(3)
	case n < 90:
		return 1 + c.rng.Int64N(64<<10)
	default:
		return 1 + c.rng.Int64N(1<<20)
	}
}

func (c *crashClient) bytes(v content) (*bytes.Reader, error) {
	p, err := io.ReadAll(v.reader())
	return bytes.NewReader(p), err
}

func (c *crashClient) put(ctx context.Context, b *bucketModel, key string) error {
	v := c.h.newContent(c.size())
	body, err := c.bytes(v)
	if err != nil {
		return err
	}
	out, err := c.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: body})
	if err != nil {
		return c.changed(b, key, v, middleware.Metadata{}, err)
	}
	return c.changed(b, key, v, out.ResultMetadata, nil)
}

func (c *crashClient) delete(ctx context.Context, b *bucketModel, key string) error {
	out, err := c.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return c.changed(b, key, content{}, middleware.Metadata{}, err)
	}
	return c.changed(b, key, content{}, out.ResultMetadata, nil)
}

func (c *crashClient) deleteMany(ctx context.Context, b *bucketModel) error {
	var ids []types.ObjectIdentifier
	for i := range crashKeys {
		if c.rng.IntN(8) == 0 {
			ids = append(ids, types.ObjectIdentifier{Key: aws.String(fmt.Sprintf("c%d/%02d", c.id, i))})
		}
	}
	if len(ids) == 0 {
		return nil
	}
	out, err := c.s3.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &b.name, Delete: &types.Delete{Objects: ids}})
	if err == nil && len(out.Errors) > 0 {
		return fmt.Errorf("delete %d keys of %s: %s: %s", len(ids), b.name, *out.Errors[0].Code, *out.Errors[0].Message)
	}
	for _, id := range ids {
		var md middleware.Metadata
		if err == nil {
			md = out.ResultMetadata
		}
		if cerr := c.changed(b, *id.Key, content{}, md, err); cerr != nil && !isDead(cerr) {
			return cerr
		}
	}
	return err
}

// multipart uploads two parts, the first of the least size that a part that is
// not the last may have. Some uploads are left or aborted: they change nothing.
func (c *crashClient) multipart(ctx context.Context, b *bucketModel, key string) error {
	const partSize = 5 << 20
	v := c.h.newContent(partSize + 1 + c.rng.Int64N(1<<20))
	create, err := c.s3.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.name, Key: &key})
	if err != nil {
		return pass(err)
	}
	body := v.reader()
	var parts []types.CompletedPart
	for i, size := range []int64{partSize, v.size - partSize} {
		p, err := io.ReadAll(io.LimitReader(body, size))
		if err != nil {
			return err
		}
		n := aws.Int32(int32(i + 1))
		out, err := c.s3.UploadPart(ctx, &s3.UploadPartInput{Bucket: &b.name, Key: &key, UploadId: create.UploadId, PartNumber: n, Body: bytes.NewReader(p)})
		if err != nil {
			return pass(err)
		}
		parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: n, ChecksumCRC32: out.ChecksumCRC32})
	}
	switch c.rng.IntN(4) {
	case 0:
		_, err := c.s3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: &key, UploadId: create.UploadId})
		return pass(err)
	case 1:
		return nil
	}
	out, err := c.s3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &b.name, Key: &key, UploadId: create.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
	if err != nil {
		return c.changed(b, key, v, middleware.Metadata{}, err)
	}
	return c.changed(b, key, v, out.ResultMetadata, nil)
}

// copy copies one of the client's own keys, whose content it therefore knows.
func (c *crashClient) copy(ctx context.Context, b *bucketModel, key string) error {
	src := c.h.pick(c.rng)
	if src != b {
		if !src.use.TryRLock() { // whoever waits for two buckets may wait for ever
			return nil
		}
		defer src.use.RUnlock()
		if src.gone {
			return nil
		}
	}
	from := fmt.Sprintf("c%d/%02d", c.id, c.rng.IntN(crashKeys))
	known := src.possible(from, wal.MaxLSN)
	if len(known) != 1 || (src == b && from == key) {
		return nil // not decided; or a copy to itself, which S3 refuses
	}
	v := known[0]
	out, err := c.s3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b.name, Key: &key, CopySource: aws.String(src.name + "/" + url.PathEscape(from))})
	if !v.present && statusOf(err) == 404 {
		return nil
	}
	if err != nil {
		return c.changed(b, key, v, middleware.Metadata{}, err)
	}
	return c.changed(b, key, v, out.ResultMetadata, nil)
}

// fork forks a bucket at the tip, or now and then at an earlier LSN.
func (c *crashClient) fork(ctx context.Context, src *bucketModel) error {
	_, err := c.forkOf(ctx, src)
	return err
}

// forkOf is fork, and returns the new bucket; nil if there is none.
func (c *crashClient) forkOf(ctx context.Context, src *bucketModel) (*bucketModel, error) {
	if c.h.full() {
		return nil, nil
	}
	// The name says who made it, and draws what makes it new after a restart.
	c.n++
	f := newBucketModel(fmt.Sprintf("fork-%d-%d-%d", c.id, c.n, c.rng.Uint32()), src)
	opts := []func(*s3.Options){withHeader(headerForkSource, src.name)}
	if acked := src.acknowledged(0); len(acked) > 0 && !c.h.noHistory && c.rng.IntN(4) == 0 {
		f.branch = acked[c.rng.IntN(len(acked))].lsn
		opts = append(opts, withHeader(headerForkAt, f.branch.String()))
	}
	out, err := c.s3.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &f.name}, opts...)
	if err != nil {
		if isDead(err) {
			c.h.mu.Lock()
			c.h.forking = append(c.h.forking, f)
			c.h.mu.Unlock()
		}
		return nil, pass(err)
	}
	if f.born, err = lsnOf(out.ResultMetadata); err != nil {
		return nil, fmt.Errorf("fork %s: %w", src.name, err)
	}
	if f.branch == 0 {
		f.branch = f.born - 1
	}
	c.h.mu.Lock()
	c.h.buckets = append(c.h.buckets, f)
	c.h.mu.Unlock()
	return f, nil
}

// get reads one of the client's own keys: it sees its own writes.
func (c *crashClient) get(ctx context.Context, b *bucketModel, key string) error {
	_, err := c.h.readBack(c.s3, b, key, 0)
	return err
}

// pass drops the error of a request that was refused without effect.
func pass(err error) error {
	if refused(err) {
		return nil
	}
	return err
}
