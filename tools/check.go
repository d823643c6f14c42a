package tools

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/layers"
	"stemma/timeline"
)

// check looks at everything: rows, log, layers, values, and rows against files.
func check(s *timeline.Offline, fs vfs.FS, out io.Writer) error {
	c, err := newChecker(s, fs, out)
	if err != nil {
		return err
	}
	c.rows()
	c.collect((*layers.Layer).Verify)
	c.levels()
	c.files()
	c.values()
	return c.verdict()
}

// checker gathers what a store refers to and reports what is wrong with it.
type checker struct {
	s        *timeline.Offline
	fs       vfs.FS
	out      io.Writer
	problems int

	descs   []layers.Desc
	adopted map[layers.FileNum]bool // those that only the log names
	stored  *layers.Values
	// handles are the stored values that somebody refers to. A value is read
	// once however many records share it.
	handles map[layers.Handle]string // who refers to it first
}

func newChecker(s *timeline.Offline, fs vfs.FS, out io.Writer) (*checker, error) {
	c := &checker{s: s, fs: fs, out: out, handles: make(map[layers.Handle]string)}
	var err error
	if c.descs, err = s.Layers(); err != nil {
		return nil, err
	}
	generations, err := s.Segments()
	if err != nil {
		return nil, err
	}
	c.stored, err = layers.OpenValues(fs, s.ValuesDir(), layers.ValuesOptions{
		Generations: generations,
		NextFileNum: func() layers.FileNum { panic("BUG: a tool writes a value") },
	})
	return c, err
}

// bad reports a problem.
func (c *checker) bad(format string, args ...any) {
	c.problems++
	fmt.Fprintf(c.out, "BAD: "+format+"\n", args...)
}

func (c *checker) verdict() error {
	if err := c.stored.Close(); err != nil {
		c.bad("close values: %v", err)
	}
	if c.problems > 0 {
		return fmt.Errorf("problems found: %d", c.problems)
	}
	fmt.Fprintln(c.out, "no problem found")
	return nil
}

// rows decodes every row of the catalog.
func (c *checker) rows() {
	n := 0
	err := c.s.Rows(func(text string, err error) error {
		n++
		if err != nil {
			c.bad("catalog: %s: %v", text, err)
		}
		return nil
	})
	if err != nil {
		c.bad("catalog: %v", err)
	}
	fmt.Fprintf(c.out, "catalog: %d rows\n", n)
}

// collect replays the log and opens every layer, and gathers the handles in
// them. verify is called for each layer first.
func (c *checker) collect(verify func(*layers.Layer) error) {
	st, err := c.s.Recover(func(r *layers.Record) error {
		c.refer(r, "log")
		return nil
	})
	if err != nil {
		c.bad("log: %v", err)
	} else {
		printLog(c.out, &st)
	}
	c.adopted = make(map[layers.FileNum]bool)
	for _, d := range st.Adopted {
		c.adopted[d.Num] = true
		c.descs = append(c.descs, d)
	}
	var records uint64
	for _, d := range c.descs {
		if err := c.layer(d, verify); err != nil {
			c.bad("layer %d: %v", d.Num, err)
		}
		records += d.Entries + d.RangeTombstones
	}
	fmt.Fprintf(c.out, "layers: %d with %d records\n", len(c.descs), records)
}

func (c *checker) layer(d layers.Desc, verify func(*layers.Layer) error) error {
	l, err := layers.OpenLayer(c.fs, c.s.LayersDir(), d, nil)
	if err != nil {
		return err
	}
	err = errors.Join(verify(l), eachRecord(l, func(r *layers.Record) error {
		c.refer(r, fmt.Sprintf("layer %d", d.Num))
		return nil
	}))
	return errors.Join(err, l.Close())
}

// refer enters the handles of a record.
func (c *checker) refer(r *layers.Record, who string) {
	if tag := r.Body.Tag(); tag == layers.BodyEmpty || tag == layers.BodyInline {
		return
	}
	if r.Body.Tag() == layers.BodySpilled {
		list, _, _, err := r.Body.Spilled()
		if err != nil {
			c.bad("%s: %s at %d: %v", who, r.Key, r.LSN, err)
			return
		}
		c.handle(list.Handle, who)
	}
	extents, err := c.stored.LoadExtents(r.Body, nil)
	if err != nil {
		c.bad("%s: %s at %d: %v", who, r.Key, r.LSN, err)
		return
	}
	for i := range extents {
		c.handle(extents[i].Handle, who)
	}
}

func (c *checker) handle(h layers.Handle, who string) {
	if _, ok := c.handles[h]; !ok {
		c.handles[h] = who
	}
}

// levels checks that the layers of each level but 0 do not overlap.
func (c *checker) levels() {
	byLevel := make(map[int][]*layers.Desc)
	for i := range c.descs {
		d := &c.descs[i]
		byLevel[d.Level] = append(byLevel[d.Level], d)
	}
	for level, descs := range byLevel {
		if level == 0 {
			continue
		}
		slices.SortFunc(descs, func(a, b *layers.Desc) int { return a.Range.Start.Compare(b.Range.Start) })
		for i := 1; i < len(descs); i++ {
			if descs[i-1].Range.Overlaps(descs[i].Range) {
				c.bad("level %d: layers %d and %d overlap", level, descs[i-1].Num, descs[i].Num)
			}
		}
	}
}

// files holds the rows against the files. A file without a row is no problem:
// a crash leaves such files and the next start removes them.
func (c *checker) files() {
	rows := make(map[layers.FileNum]bool)
	referred := make(map[layers.FileNum]bool) // value segments
	rowed := make(map[layers.FileNum]bool)    // those that a layer with a row refers to
	for _, d := range c.descs {
		rows[d.Num] = true
		for _, s := range d.Segments {
			referred[s.Segment] = true
			rowed[s.Segment] = rowed[s.Segment] || !c.adopted[d.Num]
		}
	}
	names, err := c.fs.List(c.s.LayersDir())
	if err != nil {
		c.bad("list layers: %v", err)
	}
	slices.Sort(names)
	for _, name := range names {
		if num, ok := layers.ParseLayerName(name); !ok {
			c.bad("layers: file %s of another kind", name)
		} else if !rows[num] {
			fmt.Fprintf(c.out, "layers: nothing refers to file %s\n", name)
		}
	}
	segRows, err := c.s.Segments()
	if err != nil {
		c.bad("catalog: %v", err)
	}
	for num, must := range rowed {
		if !must {
			continue
		}
		if _, ok := segRows[num]; !ok {
			c.bad("value segment %d: layers refer to it, the catalog has no row of it", num)
		}
	}
	for h := range c.handles {
		referred[h.Segment] = true
	}
	for _, seg := range c.stored.Segments() {
		if !referred[seg.Num] {
			fmt.Fprintf(c.out, "values: nothing refers to segment %d of %d bytes\n", seg.Num, seg.Bytes)
		}
	}
	for _, name := range c.stored.Orphans() {
		fmt.Fprintf(c.out, "values: nothing refers to file %s\n", name)
	}
}

// values reads every value that was referred to, whole, in the order on disk.
func (c *checker) values() {
	handles := make([]layers.Handle, 0, len(c.handles))
	var bytes uint64
	for h := range c.handles {
		handles = append(handles, h)
		bytes += h.Length
	}
	slices.SortFunc(handles, compareHandles)
	for _, h := range handles {
		if err := c.value(h); err != nil {
			c.bad("value of %d bytes at %d in segment %d, from %s: %v", h.Length, h.Offset, h.Segment, c.handles[h], err)
		}
	}
	fmt.Fprintf(c.out, "values: %d of %d stored bytes, in %d segments\n", len(handles), bytes, len(c.stored.Segments()))
}

func (c *checker) value(h layers.Handle) error {
	r, err := c.stored.NewReader([]layers.Extent{{Handle: h, Len: h.Raw}}, 0, h.Raw)
	if err != nil {
		return err
	}
	n, err := r.WriteTo(io.Discard)
	if err == nil && uint64(n) != h.Raw {
		err = fmt.Errorf("%d bytes, want %d", n, h.Raw)
	}
	return errors.Join(err, r.Close())
}

func compareHandles(a, b layers.Handle) int {
	return cmp.Or(cmp.Compare(a.Segment, b.Segment), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Length, b.Length))
}
