package keyring

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func ring(t testing.TB, keys ...Key) *Ring {
	t.Helper()
	r, err := New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSealed(t *testing.T) {
	r := ring(t, NewKey("a"))
	for _, plain := range []string{"", "x", strings.Repeat("secret", 1000)} {
		sealed := r.Seal("of/it", []byte(plain))
		if len(plain) > 1 && bytes.Contains(sealed, []byte(plain)) {
			t.Error("the plaintext shows")
		}
		if len(sealed) > len(plain)+Overhead {
			t.Errorf("%d bytes sealed are %d", len(plain), len(sealed))
		}
		if got, err := r.Open("of/it", sealed); err != nil || string(got) != plain {
			t.Errorf("opened %q, %v", got, err)
		}
		if _, err := r.Open("of/other", sealed); !errors.Is(err, ErrSealed) {
			t.Errorf("in another context: %v", err)
		}
		if again := r.Seal("of/it", []byte(plain)); bytes.Equal(again, sealed) {
			t.Error("two seals are equal")
		}
		for i := range sealed[:min(len(sealed), 100)] {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1
			if got, err := r.Open("of/it", bad); err == nil {
				t.Errorf("byte %d changed: opened %q", i, got)
			}
			if _, err := r.Open("of/it", sealed[:i]); err == nil {
				t.Errorf("opened from %d bytes", i)
			}
		}
	}
}

func TestRotation(t *testing.T) {
	a, b := NewKey("a"), NewKey("b")
	old := ring(t, a).Seal("c", []byte("x"))
	both := ring(t, b, a)
	if got, err := both.Open("c", old); err != nil || string(got) != "x" {
		t.Errorf("opened %q, %v", got, err)
	}
	anew := both.Seal("c", []byte("y"))
	if name, err := Sealer(anew); err != nil || name != "b" {
		t.Errorf("sealed by %q, %v", name, err)
	}
	if _, err := ring(t, a).Open("c", anew); !errors.Is(err, ErrNoKey) {
		t.Errorf("error %v", err)
	}
	if _, err := both.SealWith("z", "c", nil); !errors.Is(err, ErrNoKey) {
		t.Errorf("error %v", err)
	}
	other := NewKey("b") // the same name is not the same key
	if _, err := ring(t, other).Open("c", anew); !errors.Is(err, ErrSealed) {
		t.Errorf("error %v", err)
	}
}

func TestParse(t *testing.T) {
	a, b := NewKey("a"), NewKey("2026.b_c-D")
	for _, text := range []string{
		a.String() + "," + b.String(),
		"# newest first\n" + a.String() + "\n\n" + b.String() + "\n",
		" " + a.String() + " , " + b.String() + " ",
	} {
		r, err := Parse(text)
		if err != nil {
			t.Error(err)
			continue
		}
		if names := strings.Join(r.Names(), " "); names != "a 2026.b_c-D" {
			t.Errorf("names %q", names)
		}
	}
	for _, text := range []string{"", "# nothing\n", "a", "a:", "a:AAAA", ":" + a.String()[2:], "a b" + a.String()[1:], a.String() + "," + a.String(),
		strings.Repeat("x", maxName+1) + a.String()[1:], a.String() + "=", strings.Repeat("#\n", maxRingText)} {
		_, err := Parse(text)
		if err == nil {
			t.Errorf("%q passed", text)
		} else if strings.Contains(err.Error(), a.String()[2:]) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	r := ring(f, Key{Name: "a"})
	f.Add(r.Seal("c", []byte("x")))
	f.Add([]byte{1, 64})
	f.Fuzz(func(t *testing.T, p []byte) {
		if _, err := r.Open("c", p); err != nil && !errors.Is(err, ErrSealed) && !errors.Is(err, ErrNoKey) {
			t.Errorf("error %v", err)
		}
	})
}
