package object

import (
	"bytes"
	"context"
	"errors"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// withPages runs what may bring objects that are written in place to a bucket. If that does not say yet that it has such,
// it comes to say so, and run is run again.
func (s *Service) withPages(ctx context.Context, bucket string, run func() error) error {
	for {
		err := run()
		if !errors.Is(err, errNoPages) {
			return err
		}
		if err := s.announcePages(ctx, bucket); err != nil {
			return err
		}
	}
}

// takePages makes entry, which the source of a merge has written in place, the current version of a key. Where the target
// has the same file at the key, or a copy of it by an earlier merge, and need not keep that as a version, only pages that differ
// are written; elsewhere all of them are, to a file of its own. Either way they go by handle, and the ETag stays.
func (m *merger) takePages(w *keyWriter, e *timeline.MergeEntry, entry *Entry) error {
	if !w.set.Pages {
		return errNoPages
	}
	c := pageCarrier{ctx: m.ctx, tx: w.tx, entry: entry, file: entry.pages, reader: pageReader{s: m.s, src: e.Source}}
	c.reader.file = &c.file
	if e.Ours != nil {
		ours, err := asObject(*e.Ours)
		if err != nil {
			return err
		}
		done, err := c.onto(e, w.set, ours)
		if err != nil {
			return err
		}
		if done {
			if err := entry.goesOn(w.set, ours, w.tx.BranchLSN()); err != nil {
				return err
			}
			entry.movePages(c.to)
			entry.Versioned = false
			w.tx.Put(layers.NamespaceObjects, w.key, entry.append(nil), nil)
			return nil
		}
	}
	c.to = m.s.newFileID(w.tx.LSN())
	if err := c.all(e.Source); err != nil {
		return err
	}
	entry.movePages(c.to)
	return w.put(entry, nil)
}

// onto writes what differs to the pages that the target has, if that can be done.
func (c *pageCarrier) onto(e *timeline.MergeEntry, set *Settings, ours *found) (done bool, err error) {
	id, there := &c.file.id, &ours.head.pages
	if !there.paged() || !set.replaces(ours) {
		return false, nil
	}
	c.to = there.id
	if there.id == *id {
		return true, c.changes(e.Diff(nil, layers.NamespacePages, id[:], id.end()))
	}
	if there.kept.id != *id {
		return false, nil
	}
	// It is what the file was by an earlier version, if that was one of the source.
	then, err := e.SourceAt(there.kept.lsn)
	if then == nil || err != nil {
		return false, err
	}
	defer then.Close()
	was, err := getObject(then, e.Key)
	if err != nil || was == nil || was.lsn != there.kept.lsn || was.head.pages.id != *id {
		return false, err
	}
	return true, c.changes(e.Diff(then, layers.NamespacePages, id[:], id.end()))
}

// carryPages writes a version of lsn that was written in place. A target that has the version keeps its pages.
func (m *merger) carryPages(w *keyWriter, source *timeline.View, f *found, lsn wal.LSN) error {
	if !w.set.Pages {
		return errNoPages
	}
	entry, err := f.entry()
	if err != nil {
		return err
	}
	there, err := getVersion(w.tx, w.versions(), lsn)
	if err != nil {
		return err
	}
	if there != nil && there.head.pages.paged() {
		entry.movePages(there.head.pages.id)
		entry.pages = there.head.pages
	} else {
		c := pageCarrier{ctx: m.ctx, tx: w.tx, entry: entry, file: entry.pages, to: m.s.newFileID(w.tx.LSN()), reader: pageReader{s: m.s, src: source}}
		c.reader.file = &c.file
		if err := c.all(source); err != nil {
			return err
		}
		entry.pages.keep(lsn)
		entry.movePages(c.to)
	}
	entry.made = lsn
	w.tx.Put(layers.NamespaceVersions, stamped(w.versions(), lsn), entry.append(nil), nil)
	return nil
}

// pageCarrier writes records of a file to a transaction, as those of the file to. The source must stay open until
// the commit has ended: it keeps what they refer to.
type pageCarrier struct {
	ctx    context.Context
	tx     *timeline.Tx
	entry  *Entry     // of the source, perhaps locked
	reader pageReader // of the source
	file   pageFile
	to     fileID
	moves  int
	buf    []byte // one page
}

// all writes what the source has of the file.
func (c *pageCarrier) all(source *timeline.View) (err error) {
	scan := source.Scan(layers.NamespacePages, c.file.id[:], c.file.id.end())
	defer func() { err = errors.Join(err, scan.Close()) }()
	for ok := scan.First(); ok; ok = scan.Next() {
		if err := c.put(scan.Record().Key.User(), scan.Record()); err != nil {
			return err
		}
	}
	return scan.Err()
}

// changes makes the target, which has what is on the other side of the difference, have what the source has. It closes d.
func (c *pageCarrier) changes(d *timeline.Diff) (err error) {
	defer func() { err = errors.Join(err, d.Close()) }()
	for d.Next() {
		x := d.Difference()
		switch {
		case x.B == nil:
			c.tx.Delete(layers.NamespacePages, c.key(x.Key))
			err = c.tx.MakeRoom()
		case x.A != nil && x.A.Kind == layers.KindValue && x.B.Kind == layers.KindValue && bytes.Equal(x.A.Meta, x.B.Meta) && bytes.Equal(x.A.Body, x.B.Body):
		default:
			err = c.put(x.Key, x.B)
		}
		if err != nil {
			return err
		}
	}
	return d.Err()
}

// key returns the key in the target of one of the source.
func (c *pageCarrier) key(user []byte) []byte {
	return append(c.to[:len(c.to):len(c.to)], user[len(c.to):]...)
}

// put writes a page, or the base, of which rec is the newest record. A page with deltas is written in full.
func (c *pageCarrier) put(user []byte, rec *layers.Record) error {
	if c.moves++; c.moves%256 == 0 && c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	key := c.key(user)
	if rec.Kind == layers.KindValue {
		c.tx.Put(layers.NamespacePages, key, bytes.Clone(rec.Meta), bytes.Clone(rec.Body))
		return c.tx.MakeRoom()
	}
	page, ok := c.file.id.pageOf(user)
	if !ok {
		return corrupt("key %x among pages", user)
	}
	if c.buf == nil {
		c.buf = make([]byte, c.file.pageBytes())
	}
	if crypt := c.entry.crypt; crypt != nil && c.reader.seal == nil {
		if err := c.reader.s.openKey(crypt, nil); err != nil { // a customer's key has no deltas
			return err
		}
		c.reader.seal = c.entry.pageSeal()
	}
	clear(c.buf)
	if err := c.reader.fill(c.buf, page<<c.file.shift); err != nil {
		return err
	}
	if err := c.reader.run(c.ctx); err != nil {
		return err
	}
	p, meta := trimZeros(c.buf), []byte(nil)
	if c.reader.seal != nil && len(p) > 0 {
		meta, p = c.reader.seal.seal(page, layers.KindValue, nil, p)
	}
	c.tx.Put(layers.NamespacePages, key, meta, layers.AppendInlineBody(nil, p))
	return c.tx.MakeRoom()
}
