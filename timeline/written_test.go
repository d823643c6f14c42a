package timeline

import (
	"fmt"
	"slices"
	"testing"

	"stemma/layers"
)

// There are more buckets than are looked at at once, written ones at the ends of what is, and
// idle ones to the end.
func TestWrittenBuckets(t *testing.T) {
	m := newMoves(t, "a")
	forks := make([]NewBucket, 3*writtenPage)
	for i := range forks {
		forks[i].Name = fmt.Sprintf("b%04d", i)
	}
	_, err := m.Fork(t.Context(), ForkOptions{Source: "a", Forks: forks})
	m.must(err)
	got := func() (names []string) {
		for info := range m.WrittenBuckets() {
			names = append(names, info.Name)
		}
		return names
	}
	if names := got(); len(names) > 0 {
		t.Errorf("%v were written before anything was", names)
	}
	want := []string{"a"}
	for _, i := range []int{0, writtenPage - 2, writtenPage - 1, writtenPage, 2*writtenPage - 1, 2 * writtenPage} {
		m.put(forks[i].Name, layers.NamespaceObjects, "k", "v")
		want = append(want, forks[i].Name)
	}
	m.put("a", layers.NamespaceObjects, "k", "v")
	if names := got(); !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	for info := range m.WrittenBuckets() {
		if info.Name != "a" {
			t.Errorf("%q after the end was asked for", info.Name)
		}
		break
	}
}
