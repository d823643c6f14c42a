package layers

import (
	"bytes"
	"slices"
	"testing"
)

func TestKeyParts(t *testing.T) {
	k := MakeKey(0x0102030405060708, NamespacePages, []byte("user"))
	if k.Timeline() != 0x0102030405060708 || k.Namespace() != NamespacePages || string(k.User()) != "user" || string(k.Suffix()) != "\x40user" {
		t.Errorf("parts of %x", []byte(k))
	}
	if got := k.String(); got != `72623859790382856/40/"user"` {
		t.Error(got)
	}
	if got := AppendKey([]byte("x"), 1, NamespaceConfig, nil); !bytes.Equal(got, []byte("x\x00\x00\x00\x00\x00\x00\x00\x01\x10")) {
		t.Errorf("%x", []byte(got))
	}
	for n, want := range map[int]bool{0: false, 8: false, 9: true, 9 + MaxUserKeyBytes: true, 10 + MaxUserKeyBytes: false} {
		if got := Key(make([]byte, n)).Valid(); got != want {
			t.Errorf("key of %d bytes: valid %v", n, got)
		}
	}
	if got := Key("short").String(); got != "bad key 73686f7274" {
		t.Error(got)
	}
}

// Byte order is the order of timeline, namespace, user key.
func TestKeyOrder(t *testing.T) {
	rng := testRNG(t)
	less := func(t1 TimelineID, n1 Namespace, u1 []byte, t2 TimelineID, n2 Namespace, u2 []byte) int {
		switch {
		case t1 != t2 && t1 < t2, t1 == t2 && n1 < n2:
			return -1
		case t1 != t2, n1 != n2:
			return 1
		}
		return bytes.Compare(u1, u2)
	}
	for range 2000 {
		t1, t2 := TimelineID(rng.Uint64()>>rng.IntN(64)), TimelineID(rng.Uint64()>>rng.IntN(64))
		if rng.IntN(2) == 0 {
			t2 = t1
		}
		n1, n2 := Namespace(rng.IntN(3)), Namespace(rng.IntN(3))
		u1, u2 := randomBytes(rng, rng.IntN(3)), randomBytes(rng, rng.IntN(3))
		if got, want := MakeKey(t1, n1, u1).Compare(MakeKey(t2, n2, u2)), less(t1, n1, u1, t2, n2, u2); got != want {
			t.Fatalf("%d %d %x against %d %d %x: %d, want %d", t1, n1, u1, t2, n2, u2, got, want)
		}
	}
}

func TestKeyRange(t *testing.T) {
	k := func(s string) Key { return Key(s) }
	ranges := []KeyRange{{k("b"), k("d")}, {k("b"), nil}, {nil, k("d")}, {nil, nil}, {k("d"), k("e")}, {k("a"), k("b")}, {k("c"), k("cc")}}
	keys := []Key{k(""), k("a"), k("b"), k("bb"), k("c"), k("ca"), k("d"), k("dd"), k("e")}
	for _, a := range ranges {
		for _, key := range keys {
			want := string(key) >= string(a.Start) && (a.End == nil || string(key) < string(a.End))
			if a.Contains(key) != want {
				t.Errorf("%q in %q: want %v", key, a, want)
			}
		}
		for _, b := range ranges {
			// The keys above are dense enough to witness every overlap.
			want := slices.ContainsFunc(keys, func(k Key) bool { return a.Contains(k) && b.Contains(k) })
			if a.Overlaps(b) != want {
				t.Errorf("%q overlaps %q: want %v", a, b, want)
			}
		}
	}
}

func TestLayerNames(t *testing.T) {
	for _, num := range []FileNum{0, 1, 0xabcdef, 1<<64 - 1} {
		name := LayerName(num)
		if got, ok := ParseLayerName(name); !ok || got != num {
			t.Errorf("%s: %d %v", name, got, ok)
		}
	}
	for _, name := range []string{"", "0000000000000001", "0000000000000001.val", "000000000000001.layer", "00000000000000001.layer",
		"000000000000000A.layer", "000000000000000g.layer", "+000000000000001.layer", "0000000000000001.layers"} {
		if num, ok := ParseLayerName(name); ok {
			t.Errorf("%q is layer %d", name, num)
		}
	}
}
