package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// CommitOpKind says what a CommitOp does.
type CommitOpKind byte

// The kinds.
const (
	// CommitPut stores Data at Key.
	CommitPut CommitOpKind = iota + 1
	// CommitDelete deletes Key as a delete without a version id does; nothing there is fine.
	CommitDelete
	// CommitRename gives what is at Source the key Key.
	CommitRename
	// CommitCopy makes what is at Source of SrcBucket, as of SrcAt, the object at Key.
	CommitCopy
	// CommitRenamePrefix gives every key that begins with Source the beginning Key instead.
	CommitRenamePrefix
	// CommitDeletePrefix deletes every key that begins with Key.
	CommitDeletePrefix
)

// CommitOp is one operation of a Commit.
type CommitOp struct {
	Kind   CommitOpKind
	Key    string
	Source string
	// SrcBucket of a copy may be empty: the bucket itself, as it is before the commit unless SrcAt
	// says otherwise.
	SrcBucket string
	SrcAt     wal.LSN
	// Data is the body of a put; it is kept until Commit returns.
	Data []byte
	// Replace has a rename or copy take Headers, UserMeta and Tags instead of the source's. A put
	// always does.
	Replace      bool
	Headers      Headers
	UserMeta     []Field
	Tags         []Field // by key
	StorageClass StorageClass
}

// CommitCondition is a precondition on a key. Just one of the fields below Key is set.
type CommitCondition struct {
	Key    string
	ETag   string // raw If-Match: tags, or * for whatever is there
	LSN    wal.LSN
	Absent bool
}

// CommitInput says what Commit does.
type CommitInput struct {
	// IfLSN refuses a bucket of which an object has changed above that LSN; zero: it may.
	IfLSN wal.LSN
	If    []CommitCondition
	Ops   []CommitOp
}

// Bounds of one Commit.
const (
	MaxCommitOps    = 10_000
	MaxCommitPrefix = 200_000 // keys that operations on prefixes stand for
)

// CommitResult is what Commit did.
type CommitResult struct {
	// LSN is that of the commit, or what was read at when there was nothing to write.
	LSN wal.LSN
	// Ops are the results of the operations, in order.
	Ops []CommitOpResult
}

// CommitOpResult is what one operation did.
type CommitOpResult struct {
	// Entry is the object that it made; nil of a delete, and of prefixes.
	Entry *Entry
	// Keys is how many keys it has written, renamed or deleted.
	Keys int
}

// ErrBadCommit: InvalidArgument; operations that contradict each other, or that there are not.
var ErrBadCommit = errors.New("object: bad commit")

// ErrMustRewrite: InvalidRequest; a copy whose body would have to be encrypted anew.
var ErrMustRewrite = errors.New("object: the body would have to be encrypted anew")

// CommitError says which operation, or which condition, a Commit failed by.
type CommitError struct {
	Condition bool
	Index     int
	Key       string
	Err       error
}

func (e *CommitError) Error() string {
	what := "operation"
	if e.Condition {
		what = "condition"
	}
	return fmt.Sprintf("%s %d, %q: %v", what, e.Index, e.Key, e.Err)
}

// Unwrap returns Err.
func (e *CommitError) Unwrap() error { return e.Err }

// Commit does many operations in one commit: all of them become visible at one LSN, or nothing. All see the bucket as it
// was before the commit, so that two keys can be exchanged by two renames; a key can be written or deleted
// by one of them only, and be renamed away by one only. Versions, defaults for locks and encryption are as with a
// put, copy, rename and delete of one key. Bodies move by handle.
//
// Errors, most as *CommitError: ErrBadCommit, ErrKeyTooLong, ErrNoSuchKey (of a source), ErrPreconditionFailed,
// timeline.ErrTargetChanged (IfLSN), ErrMustRewrite, ErrKeyRequired (copy of what a customer's key
// encrypts), ErrMetadataTooLarge, ErrInvalidStorageClass, timeline.ErrNoSuchBucket, ErrBatchTooLarge, those of a read and of a commit.
func (s *Service) Commit(ctx context.Context, bucket string, in *CommitInput) (*CommitResult, error) {
	c := committer{s: s, ctx: ctx, bucket: bucket, in: in}
	if err := c.check(); err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.prepare(); err != nil {
		return nil, err
	}
	var lsn wal.LSN
	err := s.withPages(ctx, bucket, func() (err error) {
		lsn, err = c.run()
		return err
	})
	if errors.Is(err, timeline.ErrBatchTooLarge) { // what lies in memory only is moved by value
		if ferr := s.store.Flush(ctx); ferr == nil {
			lsn, err = c.run()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("commit to %q: %w", bucket, err)
	}
	for i := range c.results {
		if e := c.results[i].Entry; e != nil {
			if e.LSN = lsn; e.pages.paged() {
				e.ETag = e.pages.tag(lsn)
			}
		}
	}
	return &CommitResult{LSN: lsn, Ops: c.results}, nil
}

// committer is one Commit. Its transaction may run again.
type committer struct {
	s      *Service
	ctx    context.Context
	bucket string
	in     *CommitInput

	prefixes bool           // some operation is on a prefix
	written  map[string]int // keys that operations write or delete, with their indexes
	renamed  map[string]int // keys that are renamed away
	puts     []preparedPut  // as in.Ops
	sources  []*source      // as in.Ops; of copies from elsewhere
	stored   stored
	holds    holds        // of one try
	copied   []*flattened // the same
	results  []CommitOpResult
}

// preparedPut is an object that is ready to be written.
type preparedPut struct {
	entry *Entry
	body  layers.Body
}

// letGo ends what a try needs.
func (c *committer) letGo() {
	c.holds.letGo()
	for _, f := range c.copied {
		f.close()
	}
	c.copied = nil
}

func (c *committer) close() {
	c.letGo()
	c.stored.done()
	for _, src := range c.sources {
		if src != nil {
			src.close()
		}
	}
}

func (c *committer) failed(i int, err error) error {
	return &CommitError{Index: i, Key: c.in.Ops[i].Key, Err: err}
}

// check refuses what is wrong whatever the bucket holds.
func (c *committer) check() error {
	if n := len(c.in.Ops); n == 0 || n > MaxCommitOps || len(c.in.If) > MaxCommitOps {
		return fmt.Errorf("%d operations and %d conditions, want 1 to %d and at most as many: %w", n, len(c.in.If), MaxCommitOps, ErrBadCommit)
	}
	c.written, c.renamed = make(map[string]int, len(c.in.Ops)), make(map[string]int)
	for i := range c.in.Ops {
		if err := c.checkOp(i); err != nil {
			return c.failed(i, err)
		}
	}
	for i := range c.in.If {
		k := &c.in.If[i]
		err := checkKey(k.Key)
		if n := boolInt(k.ETag != "") + boolInt(k.LSN != 0) + boolInt(k.Absent); err == nil && n != 1 {
			err = fmt.Errorf("want just one of a tag, an LSN and absence: %w", ErrBadCommit)
		}
		if err != nil {
			return &CommitError{Condition: true, Index: i, Key: k.Key, Err: err}
		}
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (c *committer) checkOp(i int) error {
	o := &c.in.Ops[i]
	if o.StorageClass >= numStorageClasses {
		return ErrInvalidStorageClass
	}
	if err := checkDescription(&o.Headers, o.UserMeta, o.Tags); err != nil {
		return err
	}
	switch o.Kind {
	case CommitRenamePrefix, CommitDeletePrefix:
		c.prefixes = true
		if o.Kind == CommitRenamePrefix && (o.Source == "" || o.Source == o.Key) || o.Kind == CommitDeletePrefix && o.Key == "" {
			return fmt.Errorf("a prefix is empty, or becomes itself: %w", ErrBadCommit)
		}
		return nil
	case CommitRename, CommitCopy:
		if err := checkKey(o.Source); err != nil {
			return fmt.Errorf("source: %w", err)
		}
		if o.Source == o.Key && (o.Kind == CommitRename || o.SrcBucket == "" && o.SrcAt == 0 && !o.Replace) {
			return ErrSelfCopy
		}
		if o.Kind == CommitRename {
			if err := claim(c.renamed, o.Source, i); err != nil {
				return err
			}
		}
	case CommitPut, CommitDelete:
	default:
		return fmt.Errorf("operation of kind %d: %w", o.Kind, ErrBadCommit)
	}
	if err := checkKey(o.Key); err != nil {
		return err
	}
	return claim(c.written, o.Key, i)
}

// claim makes a key that of an operation.
func claim(keys map[string]int, key string, i int) error {
	if other, taken := keys[key]; taken {
		return fmt.Errorf("operation %d is for the same key %q: %w", other, key, ErrBadCommit)
	}
	keys[key] = i
	return nil
}

// prepare receives the bodies of puts, and opens what is copied from elsewhere.
func (c *committer) prepare() error {
	c.puts, c.sources = make([]preparedPut, len(c.in.Ops)), make([]*source, len(c.in.Ops))
	if _, err := c.s.store.Bucket(c.bucket, 0); err != nil {
		return err
	}
	for i := range c.in.Ops {
		o := &c.in.Ops[i]
		err := c.ctx.Err()
		switch {
		case err != nil:
		case o.Kind == CommitPut:
			err = c.receive(i, o)
		case o.Kind == CommitCopy && (o.SrcBucket != "" || o.SrcAt != 0):
			bucket := o.SrcBucket
			if bucket == "" {
				bucket = c.bucket
			}
			c.sources[i], err = c.openSource(bucket, o)
		}
		if err != nil {
			return c.failed(i, err)
		}
	}
	return nil
}

// openSource opens what is copied from elsewhere; of what was written in place it makes a copy.
func (c *committer) openSource(bucket string, o *CommitOp) (*source, error) {
	src, err := c.s.openSource(c.ctx, bucket, o.Source, &GetInput{At: o.SrcAt})
	if err != nil || !src.paged() {
		return src, err
	}
	e := *src.entry
	if src.flat, err = c.s.copyPages(c.ctx, src.views, src.entry, &e, 0, e.Size); err != nil {
		src.close()
		return nil, err
	}
	src.entry = &e
	return src, nil
}

func (c *committer) receive(i int, o *CommitOp) error {
	crypt, err := c.s.cryptFor(c.ctx, c.bucket, SSE{}, nil)
	if err != nil {
		return err
	}
	sc := getScratch()
	defer sc.put()
	r, err := c.s.receive(c.ctx, sc, &c.stored, &incoming{
		body: bytes.NewReader(o.Data), size: int64(len(o.Data)), maximum: c.s.o.MaxPutBytes, expect: &Expect{},
		algorithm: CRC64NVME, inlineBelow: c.s.o.MaxInlineBytes, crypt: crypt,
	})
	if err != nil {
		return err
	}
	p := &c.puts[i]
	p.entry = &Entry{
		Size: r.size, ETag: ETag{Sum: crypt.tag(r.md5)}, StorageClass: o.StorageClass, Checksum: r.sum,
		Headers: o.Headers, UserMeta: o.UserMeta, Tags: o.Tags, crypt: crypt,
	}
	if r.ext != nil {
		p.body, err = c.s.appendBody(c.ctx, &c.stored, nil, r.ext)
		return err
	}
	p.body = slices.Clone(r.body) // it lies in the scratch
	return nil
}
