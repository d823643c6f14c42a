package layers

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"testing"
	"time"

	"stemma/wal/storefs"
)

// valueFile1 is a file system whose value segment 1 has the given bytes behind
// its header.
func valueFile1(t testing.TB, data []byte) valuesTest {
	t.Helper()
	fs := storefs.NewMem()
	if err := fs.MkdirAll("values", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(fs.PathJoin("values", ValueName(1)), "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(append(valueHeader{num: 1, kind: valuesPacked, created: 5}.append(nil), data...)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	return openTestValues(t, fs, ValuesOptions{})
}

func FuzzValueHeader(f *testing.F) {
	f.Add(valueHeader{num: 7, kind: valuesStreamed, created: 1}.append(nil), uint64(7), uint32(0), false)
	f.Add(valueHeader{num: 8, generation: 3, kind: valuesPacked}.append(nil), uint64(8), uint32(3), true)
	f.Add([]byte(valueMagic), uint64(1), uint32(0), true)
	f.Fuzz(func(t *testing.T, h []byte, num uint64, generation uint32, below bool) {
		if below { // repair the checksum
			h = append(h, make([]byte, valueHeaderBytes)...)[:valueHeaderBytes]
			binary.LittleEndian.PutUint32(h[valueHeaderBytes-4:], crc32.Checksum(h[:valueHeaderBytes-4], castagnoli))
		}
		v, err := decodeValueHeader(h, FileNum(num), generation)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v is not ErrCorrupt", err)
			}
			return
		}
		if again := v.append(nil); !bytes.Equal(again, h) {
			t.Fatal("an accepted header encodes otherwise")
		}
	})
}

// FuzzReadValue reads an arbitrary handle of an arbitrary file. Below the
// checksum the handle gets the one that the bytes have, so that the chunk table
// and the decompressor see arbitrary bytes too.
func FuzzReadValue(f *testing.F) {
	var lz Packer
	text := bytes.Repeat([]byte("stemma "), 300)
	packed := bytes.Clone(lz.compress(text))
	f.Add(packed, uint64(valueHeaderBytes), uint64(len(packed)), uint64(len(text)), uint64(3), uint64(40), uint32(0), true)
	f.Add(make([]byte, 70_000), uint64(valueHeaderBytes), uint64(66_000), uint64(66_000), uint64(0), uint64(66_000), uint32(0), true)
	f.Add([]byte("abc"), uint64(valueHeaderBytes), uint64(3), uint64(3), uint64(1), uint64(2), uint32(0), false)
	f.Add([]byte{}, uint64(1<<61), uint64(1<<62), uint64(1<<63), uint64(1), uint64(1<<40), uint32(0), false)
	f.Fuzz(func(t *testing.T, data []byte, off, length, raw, skip, n uint64, crc uint32, below bool) {
		v := valueFile1(t, data)
		e := Extent{Handle: Handle{Segment: 1, Offset: off, Length: length, Raw: raw, CRC: crc}, Skip: skip, Len: n}
		if below && e.check(int64(valueHeaderBytes+len(data))) == nil {
			at := off - valueHeaderBytes
			if table := valueTableBytes(length); table > 0 {
				e.CRC = crc32.Checksum(data[at+length:at+length+table], castagnoli)
			} else {
				e.CRC = crc32.Checksum(data[at:at+length], castagnoli)
			}
		}
		all, err := v.ReadAll(nil, e)
		if err == nil && uint64(len(all)) != n || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("ReadAll of %+v: %d bytes, %v", e, len(all), err)
		}
		r, err2 := v.NewReader([]Extent{e}, 0, n)
		if err2 != nil {
			t.Fatal(err2)
		}
		defer r.Close()
		streamed, err2 := io.ReadAll(r)
		if (err == nil) != (err2 == nil) || err == nil && !bytes.Equal(all, streamed) {
			t.Fatalf("ReadAll: %v, reader: %v", err, err2)
		}
		if err == nil && n > 0 && !e.compressed() && !bytes.Equal(all, data[off-valueHeaderBytes+skip:][:n]) {
			t.Fatal("served other bytes than the file has")
		}
	})
}

// checkHandles holds EachHandle against what LoadExtents said of b.
func checkHandles(t *testing.T, v valuesTest, b Body, ext []Extent, want error) {
	var got []Handle
	err := v.EachHandle(t.Context(), b, func(h Handle) error {
		got = append(got, h)
		return nil
	})
	if b.Tag() == BodyInline && err == nil && len(got) == 0 {
		return
	}
	if (err == nil) != (want == nil) || err != nil && !errors.Is(err, ErrCorrupt) {
		t.Fatalf("EachHandle: %v, LoadExtents: %v", err, want)
	}
	if err != nil {
		return
	}
	if b.Tag() == BodySpilled {
		if list, _, _, _ := b.Spilled(); got[0] != list.Handle {
			t.Fatalf("first handle %+v, want that of the list", got[0])
		}
		got = got[1:]
	}
	if len(got) != len(ext) {
		t.Fatalf("%d handles of %d extents", len(got), len(ext))
	}
	for i, h := range got {
		if h != ext[i].Handle {
			t.Fatalf("handle %d: %+v, want %+v", i, h, ext[i].Handle)
		}
	}
}

// FuzzLoadExtents resolves arbitrary bodies over an arbitrary, well authenticated list.
func FuzzLoadExtents(f *testing.F) {
	ext := []Extent{{Handle: Handle{Segment: 1, Offset: 4096, Length: 9, Raw: 9}, Len: 9}}
	list := AppendExtentsBody(nil, ext)
	f.Add([]byte(list), uint64(9), uint64(1), []byte(nil))
	f.Add([]byte(list), uint64(9), uint64(2), []byte(AppendSpilledBody(nil, ext[0], 9, []FileNum{1})))
	f.Fuzz(func(t *testing.T, list []byte, length, seg uint64, body []byte) {
		v := valueFile1(t, list)
		for _, b := range []Body{body, AppendSpilledBody(nil, Extent{
			Handle: Handle{Segment: 1, Offset: valueHeaderBytes, Length: uint64(len(list)), Raw: uint64(len(list)), CRC: crc32.Checksum(list, castagnoli)},
			Len:    uint64(len(list)),
		}, length, []FileNum{FileNum(seg)})} {
			ext, err := v.LoadExtents(b, nil)
			checkHandles(t, v, b, ext, err)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("error %v is not ErrCorrupt", err)
				}
				continue
			}
			var sum uint64
			for _, e := range ext {
				sum += e.Len
			}
			if n, err := b.Len(); err != nil || n != sum {
				t.Fatalf("body of %d bytes has extents of %d, %v", n, sum, err)
			}
		}
	})
}

// The bytes of format version 2, for ever: what is written, and that a
// compressed value is read.
func TestValueFormatGolden(t *testing.T) {
	mem := storefs.NewMem()
	v := openTestValues(t, mem, ValuesOptions{Now: func() time.Time { return time.Unix(0, 0x0102030405060708) }})
	p, _ := v.NewPacker("test")
	defer p.Close()
	p.Add([]byte("one"))
	two, _ := p.Add([]byte("two"))
	if _, err := p.Finish(); err != nil {
		t.Fatal(err)
	}
	if want := (Handle{Segment: 1, Offset: 4099, Length: 3, Raw: 3, CRC: 0x52d8b3a3}); two != want {
		t.Errorf("handle %#v, want %#v", two, want)
	}
	big := v.mustPut(testRNG(t), make([]byte, valueChunkBytes+1))[0]
	if want := (Handle{Segment: 2, Offset: 4096, Length: 65537, Raw: 65537, CRC: 0x72edbff8}); big.Handle != want {
		t.Errorf("handle %#v, want %#v", big.Handle, want)
	}
	read := func(num FileNum, from, to int) string {
		data, err := mem.UnsafeGetFileDataBuffer(v.path(num))
		if err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(data[from:min(to, len(data))])
	}
	for _, g := range []struct{ what, got, want string }{
		{"header", read(1, 0, 40), "5354454d4d415653" + "02000000" + "00000000" + "0100000000000000" + "0807060504030201" + "0200000000000000"},
		{"end of header", read(1, 4088, 4096), "00000000" + "3711828c"},
		{"packed values", read(1, 4096, 1<<20), "6f6e65" + "74776f"},
		{"header of a stream", read(2, 0, 40), "5354454d4d415653" + "02000000" + "00000000" + "0200000000000000" + "0807060504030201" + "0100000000000000"},
		{"last byte and chunk table", read(2, 4096+65536, 1<<20), "00" + "a4c4c072" + "51537d52"},
	} {
		if g.got != g.want {
			t.Errorf("%s:\n%s, want\n%s", g.what, g.got, g.want)
		}
	}
	block, _ := hex.DecodeString("2f6162020029000200e06162616261626162616261626162")
	e := Extent{Handle: Handle{Segment: 1, Offset: valueHeaderBytes, Length: uint64(len(block)), Raw: 80, CRC: 0x4486aa2b}, Skip: 1, Len: 3}
	if got, err := valueFile1(t, block).ReadAll(nil, e); err != nil || string(got) != "bab" {
		t.Errorf("compressed value: %q, %v", got, err)
	}
}
