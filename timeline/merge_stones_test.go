package timeline

import (
	"testing"

	"stemma/layers"
	"stemma/wal"
)

// The verification of a merge must miss no range tombstone: one that lies under a
// newer one hides from a snapshot in between what nothing else does.
func TestSameStones(t *testing.T) {
	stone := func(from, to string, lsn wal.LSN) layers.Record {
		key := func(s string) layers.Key { return layers.MakeKey(1, layers.NamespaceObjects, []byte(s)) }
		return layers.Record{Key: key(from), End: key(to), LSN: lsn, Kind: layers.KindRangeTombstone}
	}
	old, cut := stone("a", "z", 50), []layers.Record{stone("a", "m", 50), stone("m", "z", 50)}
	newer := stone("a", "z", 90)
	for name, c := range map[string]struct {
		want, got []layers.Record
		same      bool
	}{
		"none":               {nil, nil, true},
		"the same":           {[]layers.Record{old, newer}, []layers.Record{newer, old}, true},
		"cut between files":  {[]layers.Record{old}, cut, true},
		"joined":             {cut, []layers.Record{old}, true},
		"lost under a newer": {[]layers.Record{old, newer}, []layers.Record{newer}, false},
		"the newer lost":     {[]layers.Record{old, newer}, []layers.Record{old}, false},
		"a middle lost":      {[]layers.Record{old}, []layers.Record{stone("a", "f", 50), stone("m", "z", 50)}, false},
		"one too many":       {[]layers.Record{old}, []layers.Record{old, newer}, false},
		"another LSN":        {[]layers.Record{old}, []layers.Record{newer}, false},
	} {
		if err := sameStones(c.want, c.got); (err == nil) != c.same {
			t.Errorf("%s: %v", name, err)
		}
	}
}
