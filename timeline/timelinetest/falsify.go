package timelinetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"stemma/layers"
	"stemma/wal"
)

// Falsify makes the oracle wrong about a key that a living bucket shows at its
// tip, in one of three ways, and reports whether it found one. For negative
// controls: a model that goes on without complaint checks nothing.
func (o *Oracle) Falsify(how string) bool {
	for _, name := range o.Names() {
		l := o.names[name].line
		for _, k := range slices.SortedFunc(maps.Keys(l.points), comparePointKeys) {
			versions := l.points[k]
			newest := &versions[len(versions)-1]
			if v, _, ok := l.Get(o.Last(), k); k.ns == layers.NamespaceUploads || ok != (how != "revived") || ok && v.LSN != newest.LSN {
				continue
			}
			switch how {
			case "lost":
				l.points[k] = versions[:len(versions)-1]
			case "changed":
				newest.Body = Content{{Seed: 1 << 60, Len: max(1, newest.Body.Len())}}
			case "revived":
				if newest.Kind != layers.KindTombstone {
					continue
				}
				newest.Kind = layers.KindValue
				if _, _, ok := l.Get(o.Last(), k); !ok { // a range delete hides it too
					newest.Kind = layers.KindTombstone
					continue
				}
			}
			return true
		}
	}
	return false
}

func comparePointKeys(a, b pointKey) int {
	if a.ns != b.ns {
		return int(a.ns) - int(b.ns)
	}
	if a.key < b.key {
		return -1
	}
	return 1
}

// FlipSomewhere closes the store, and inverts a bit of a layer, or of a value
// that a living bucket shows at its tip. For negative controls. Reread must
// notice it.
func (m *Model) FlipSomewhere(area Area) (where string, err error) {
	name, off := "", int64(0)
	if area == AreaLayers {
		if err := m.flush(); err != nil {
			return "", err
		}
	} else if name, off, err = m.findValue(); err != nil {
		return "", err
	}
	m.dropHeld()
	if err := m.store.Close(); err != nil {
		return "", err
	}
	if area == AreaLayers {
		files, err := m.disk.List(area)
		if err != nil || len(files) == 0 {
			return "", fmt.Errorf("no layers: %w", err)
		}
		name = slices.Min(slices.Collect(maps.Keys(files)))
		off = 100 // of the first block
	}
	return fmt.Sprintf("%s/%s, byte %d", area, name, off), m.disk.Flip(area, name, off)
}

// Reread opens the store again and compares everything.
func (m *Model) Reread() error {
	if err := m.open(); err != nil {
		m.store = nil
		return err
	}
	return m.checker().Everything(1)
}

// findValue returns the file and offset of a byte of a stored value, of a segment that was not
// rewritten: in one that was it lies elsewhere.
func (m *Model) findValue() (name string, off int64, err error) {
	files, err := m.disk.List(AreaValues)
	if err != nil {
		return "", 0, err
	}
	for _, bucket := range m.oracle.Names() {
		v, err := m.store.View(context.Background(), bucket, 0)
		if err != nil {
			return "", 0, err
		}
		defer v.Close()
		for _, f := range m.oracle.names[bucket].line.Scan(m.oracle.Last(), layers.NamespaceObjects, "", "") {
			rec, err := v.Get(layers.NamespaceObjects, []byte(f.Key))
			if err != nil {
				return "", 0, err
			}
			if rec.Body.Tag() != layers.BodyExtents {
				continue
			}
			ext, err := rec.Body.Extents(nil)
			if err != nil {
				return "", 0, err
			}
			name := layers.ValueFileName(layers.FileNum(ext[0].Segment), 0)
			if _, ok := files[name]; ok {
				return name, int64(ext[0].Offset + ext[0].Length/2), nil
			}
		}
	}
	return "", 0, fmt.Errorf("no stored value")
}

// Promise lets the oracle believe that a lease of a bucket lasts longer than it
// does. For negative controls.
func (m *Model) Promise(bucket string, at wal.LSN, ttl time.Duration) {
	m.lookAtClocks()
	m.oracle.lease(m.oracle.names[bucket], at, ttl)
}

// Follow lets the oracle know how far the log and the horizon have come, and
// nothing else of what was done behind its back.
func (m *Model) Follow() {
	m.lookAtClocks()
	if err := m.oracle.advance(m.store.Visible(), m.store.Horizon()); err != nil {
		panic("BUG: " + err.Error())
	}
}
