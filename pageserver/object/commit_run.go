package object

import (
	"errors"
	"fmt"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// run does all in one transaction. What speaks of a set of keys that nobody has listed needs the bucket to itself.
func (c *committer) run() (wal.LSN, error) {
	if c.prefixes || c.in.IfLSN != 0 {
		return c.s.store.Exclusive(c.ctx, c.bucket, c.transact)
	}
	locks := make([]timeline.Lock, 0, 2*len(c.in.Ops)+len(c.in.If))
	lock := func(key string) {
		locks = append(locks, timeline.Lock{NS: layers.NamespaceObjects, Key: []byte(key), Exclusive: true})
	}
	for i := range c.in.Ops {
		lock(c.in.Ops[i].Key)
		if src := c.in.Ops[i].Source; src != "" {
			lock(src)
		}
	}
	for i := range c.in.If {
		lock(c.in.If[i].Key)
	}
	return c.s.store.Update(c.ctx, c.bucket, locks, c.transact)
}

// commitTx is one try of a committer.
type commitTx struct {
	*committer
	tx  *timeline.Tx
	set *Settings
	// written and renamed are those of the committer, and what operations on prefixes stand for.
	written, renamed map[string]int
	expanded         int
}

func (c *committer) transact(tx *timeline.Tx) error {
	c.letGo()
	c.results = make([]CommitOpResult, len(c.in.Ops))
	set, err := c.s.settings(tx)
	if err != nil {
		return err
	}
	t := commitTx{committer: c, tx: tx, set: set, written: c.written, renamed: c.renamed}
	if c.in.IfLSN != 0 {
		if err := tx.CheckUnchanged(c.in.IfLSN, layers.NamespaceObjects, layers.NamespaceVersions); err != nil {
			return err
		}
	}
	for i := range c.in.If {
		if err := t.met(&c.in.If[i]); err != nil {
			return &CommitError{Condition: true, Index: i, Key: c.in.If[i].Key, Err: err}
		}
	}
	if c.prefixes {
		if err := t.claimPrefixes(); err != nil {
			return err
		}
	}
	for i := range c.in.Ops {
		if err := t.do(i); err != nil {
			return c.failed(i, err)
		}
	}
	// What was renamed away, and is not written by another, goes.
	for source, i := range t.renamed {
		if _, again := t.written[source]; again {
			continue
		}
		if err := t.remove(source); err != nil {
			return c.failed(i, err)
		}
	}
	return nil
}

// met evaluates a condition. Errors: ErrPreconditionFailed.
func (t *commitTx) met(k *CommitCondition) error {
	f, err := getObject(t.tx, []byte(k.Key))
	switch {
	case err != nil:
		return err
	case k.Absent && f == nil:
		return nil
	case k.Absent || f == nil, k.LSN != 0 && f.lsn != k.LSN:
		return ErrPreconditionFailed
	case k.ETag != "":
		tag, err := t.s.shownETag(f)
		if err != nil {
			return err
		}
		if !matchTags(k.ETag, tag, false) {
			return ErrPreconditionFailed
		}
	}
	return nil
}

// eachKey visits the objects whose keys begin with a prefix, within what a commit can stand for.
func (t *commitTx) eachKey(prefix string, visit func(f *found) error) (err error) {
	scan := t.tx.Scan(layers.NamespaceObjects, []byte(prefix), bound(successor(prefix)))
	defer func() { err = errors.Join(err, scan.Close()) }()
	for ok := scan.First(); ok; ok = scan.Next() {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		f, err := asObject(*scan.Record())
		if err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
	}
	return scan.Err()
}

// claimPrefixes finds out what keys the operations on prefixes stand for.
func (t *commitTx) claimPrefixes() error {
	written, renamed := make(map[string]int, len(t.written)), make(map[string]int)
	for k, i := range t.written {
		written[k] = i
	}
	for k, i := range t.renamed {
		renamed[k] = i
	}
	t.written, t.renamed = written, renamed
	for i := range t.in.Ops {
		o := &t.in.Ops[i]
		if o.Kind != CommitRenamePrefix && o.Kind != CommitDeletePrefix {
			continue
		}
		prefix := o.Source
		if o.Kind == CommitDeletePrefix {
			prefix = o.Key
		}
		err := t.eachKey(prefix, func(f *found) error {
			key := string(f.rec.Key.User())
			if t.expanded++; t.expanded > MaxCommitPrefix {
				return fmt.Errorf("more than %d keys in prefixes: %w", MaxCommitPrefix, timeline.ErrBatchTooLarge)
			}
			if o.Kind == CommitDeletePrefix {
				return claim(t.written, key, i)
			}
			to := o.Key + key[len(prefix):]
			if err := checkKey(to); err != nil {
				return fmt.Errorf("%q would be: %w", key, err)
			}
			if err := claim(t.renamed, key, i); err != nil {
				return err
			}
			return claim(t.written, to, i)
		})
		if err != nil {
			return t.failed(i, err)
		}
	}
	return nil
}

// do does one operation, but for what is renamed away.
func (t *commitTx) do(i int) error {
	o, r := &t.in.Ops[i], &t.results[i]
	switch o.Kind {
	case CommitPut:
		p := &t.puts[i]
		e := *p.entry // a try may be one of several
		r.Entry, r.Keys = &e, 1
		return t.write(o.Key, &e, p.body)
	case CommitDelete:
		f, err := getObject(t.tx, []byte(o.Key))
		if err != nil {
			return err
		}
		r.Keys = boolInt(f != nil)
		if f == nil && t.set.Versioning == Unversioned {
			return nil
		}
		return t.remove(o.Key)
	case CommitDeletePrefix:
		return t.eachKey(o.Key, func(f *found) error {
			r.Keys++
			return t.remove(string(f.rec.Key.User()))
		})
	case CommitRenamePrefix:
		return t.eachKey(o.Source, func(f *found) error {
			r.Keys++
			_, err := t.move(o, f, o.Key+string(f.rec.Key.User()[len(o.Source):]))
			return err
		})
	case CommitCopy:
		if src := t.sources[i]; src != nil {
			return t.copyFrom(i, src)
		}
	}
	f, err := getObject(t.tx, []byte(o.Source))
	if err == nil && f == nil {
		err = fmt.Errorf("source %q: %w", o.Source, ErrNoSuchKey)
	}
	if err != nil {
		return err
	}
	r.Keys = 1
	r.Entry, err = t.move(o, f, o.Key)
	return err
}

// move writes what is at a key under another one, as a rename or a copy.
func (t *commitTx) move(o *CommitOp, f *found, key string) (*Entry, error) {
	e, err := f.entry()
	if err != nil {
		return nil, err
	}
	copied := e.pages.paged() && (o.Kind == CommitCopy || !t.set.replaces(f)) // what has the pages stays
	from := *e
	switch {
	case o.Kind == CommitCopy:
		err = t.asCopy(o, e)
	case copied:
		err = t.s.unlock(e, nil)
	case o.Replace:
		err = t.s.unlock(e, nil) // what is replaced is encrypted, too
	}
	if err != nil {
		return nil, err
	}
	if copied {
		pages, err := t.s.copyPages(t.ctx, within(t.tx), &from, e, 0, e.Size) // the key of from was opened with that of e
		if err != nil {
			return nil, err
		}
		t.copied = append(t.copied, pages)
	}
	if err := t.holds.add(t.s, f.rec.Body); err != nil {
		return nil, err
	}
	o.describe(e)
	if o.Kind != CommitCopy {
		if err := e.goesOn(t.set, f, t.tx.BranchLSN()); err != nil {
			return nil, err
		}
	}
	return t.shown(e), t.write(key, e, f.rec.Body)
}

// copyFrom writes what lies elsewhere.
func (t *commitTx) copyFrom(i int, src *source) error {
	o, e := &t.in.Ops[i], *src.entry
	if err := t.asCopy(o, &e); err != nil {
		return err
	}
	o.describe(&e)
	t.results[i] = CommitOpResult{Entry: t.shown(&e), Keys: 1}
	return t.write(o.Key, &e, src.body)
}

// asCopy makes e an entry of its own, which has the body of the source.
func (t *commitTx) asCopy(o *CommitOp, e *Entry) error {
	if err := t.s.unlock(e, nil); err != nil {
		return err
	}
	crypt, stays, err := t.s.copyCrypt(t.ctx, t.bucket, &CopyInput{}, e.crypt)
	if err != nil {
		return err
	}
	if !stays {
		return fmt.Errorf("copy it by itself: %w", ErrMustRewrite)
	}
	e.crypt, e.Access, e.StorageClass, e.uploadID = crypt, Access{}, o.StorageClass, uploadID{}
	if !o.Replace {
		e.Headers.WebsiteRedirect = ""
	}
	return nil
}

// describe gives an entry the description of the operation, if it is to have that.
func (o *CommitOp) describe(e *Entry) {
	if o.Replace {
		e.Headers, e.UserMeta, e.Tags = o.Headers, o.UserMeta, o.Tags
	}
	e.LSN, e.made, e.renamed, e.Lock, e.inherited = 0, 0, renameToken{}, Lock{}, inheritance{}
}

// shown returns the entry with what is encrypted of it in the clear, if the store has the key.
func (t *commitTx) shown(e *Entry) *Entry {
	if e.crypt != nil && t.s.unlock(e, nil) != nil {
		c := *e
		c.ETag = ETag{} // only who has the key may know it
		return &c
	}
	return e
}

func (t *commitTx) write(key string, e *Entry, body layers.Body) error {
	if e.pages.paged() && !t.set.Pages {
		return errNoPages
	}
	e.putBase(t.tx)
	e.Lock = e.Lock.orDefault(t.set, t.s.now())
	return t.writer(key).put(e, body)
}

func (t *commitTx) remove(key string) error { return t.writer(key).deleteCurrent() }

// writer returns the writer of a key. The pages of what is renamed away go along.
func (t *commitTx) writer(key string) *keyWriter {
	_, away := t.renamed[key]
	return &keyWriter{s: t.s, tx: t.tx, set: t.set, holds: &t.holds, key: []byte(key), keepsPages: away}
}
