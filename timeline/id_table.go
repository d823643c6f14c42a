package timeline

import "iter"

// idPage is how many ids one allocation of an idTable covers.
const idPage = 32

// idTable maps ids to what they name. Ids are given out one after the other, and those of
// living things lie close together: so it takes little more than a pointer for each. The
// zero value is empty.
type idTable[K ~uint64, T any] struct {
	pages map[K]*idTablePage[T]
	n     int
}

type idTablePage[T any] struct {
	items [idPage]*T
	n     int
}

// get returns nil for an id that names nothing.
func (t *idTable[K, T]) get(id K) *T {
	p := t.pages[id/idPage]
	if p == nil {
		return nil
	}
	return p.items[id%idPage]
}

// set has id name item, which is not nil.
func (t *idTable[K, T]) set(id K, item *T) {
	p := t.pages[id/idPage]
	if p == nil {
		if t.pages == nil {
			t.pages = make(map[K]*idTablePage[T])
		}
		p = new(idTablePage[T])
		t.pages[id/idPage] = p
	}
	at := &p.items[id%idPage]
	if *at == nil {
		p.n++
		t.n++
	}
	*at = item
}

func (t *idTable[K, T]) delete(id K) {
	p := t.pages[id/idPage]
	if p == nil || p.items[id%idPage] == nil {
		return
	}
	p.items[id%idPage] = nil
	p.n--
	t.n--
	if p.n == 0 {
		delete(t.pages, id/idPage)
	}
}

func (t *idTable[K, T]) len() int { return t.n }

// all goes through what is there, in no order.
func (t *idTable[K, T]) all() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for _, p := range t.pages {
			for _, item := range p.items {
				if item != nil && !yield(item) {
					return
				}
			}
		}
	}
}
