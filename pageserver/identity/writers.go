package identity

import (
	"context"
	"fmt"

	"stemma/pageserver/auth"
	"stemma/timeline"
)

// Writer is who made a commit. Records of objects know it by number only.
type Writer struct {
	Number uint32 `json:"number"`
	Unique string `json:"unique"` // of the user
	ARN    string `json:"arn"`    // as it was when the user first wrote something
}

// Numbers of writers that are no users, and that of the first user.
const (
	NoWriter        = 0 // the root, or the server itself
	AnonymousWriter = 1
	firstWriter     = 2
)

// Writer returns the number of whoever acts for a caller; the first time, it is written to the store. Users have one for
// ever, also once they are deleted; sessions that of their user. The root, and keys of the root that are held to
// buckets, have NoWriter. Errors: those of a commit.
func (d *Directory) Writer(ctx context.Context, c *auth.Caller) (uint32, error) {
	switch {
	case c.Anonymous():
		return AnonymousWriter, nil
	case c.Unique == auth.RootID:
		return NoWriter, nil
	}
	d.mu.RLock()
	n := d.mu.writerOf[c.Unique]
	d.mu.RUnlock()
	if n != 0 {
		return n, nil
	}
	err := d.change(ctx, func(b *timeline.Batch) (func(), error) {
		if n = d.mu.writerOf[c.Unique]; n != 0 { // meanwhile
			return func() {}, nil
		}
		w := Writer{Number: uint32(firstWriter + len(d.mu.writers)), Unique: c.Unique, ARN: c.ARN}
		putRecord(b, fmt.Sprintf("writer/%010d", w.Number), &w)
		n = w.Number
		return func() {
			if err := d.setWriter(w); err != nil {
				panic("BUG: " + err.Error())
			}
		}, nil
	})
	return n, err
}

// setWriter makes a writer known; they come in the order of their numbers. The caller holds d.mu for writing.
func (d *Directory) setWriter(w Writer) error {
	if int64(w.Number) != int64(firstWriter+len(d.mu.writers)) || d.mu.writerOf[w.Unique] != 0 {
		return fmt.Errorf("writer %d is %s: %w", w.Number, w.Unique, ErrCorrupt)
	}
	d.mu.writers = append(d.mu.writers, w)
	d.mu.writerOf[w.Unique] = w.Number
	return nil
}

// WriterName names a writer: by the user's ARN as it is now, or as it was when the user is gone; "anonymous"; empty for
// NoWriter.
func (d *Directory) WriterName(number uint32) string {
	switch number {
	case NoWriter:
		return ""
	case AnonymousWriter:
		return "anonymous"
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	i := int(number) - firstWriter
	if i >= len(d.mu.writers) {
		return fmt.Sprintf("writer %d", number)
	}
	w := &d.mu.writers[i]
	if u := d.mu.uniques[w.Unique]; u != nil {
		return u.ARN()
	}
	return w.ARN
}
