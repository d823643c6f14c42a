package layers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"stemma/wal/storefs"
)

func FuzzRemapFooter(f *testing.F) {
	good := remapFooter{num: 7, generation: 2, tableOffset: 8192, entries: 300, originalBytes: 1 << 20}
	f.Add(good.append(nil), uint64(7), uint32(2), int64(8192+2*4096+16+64), false)
	f.Add(good.append(nil), uint64(7), uint32(2), int64(100), true)
	f.Add([]byte(remapMagic), uint64(1), uint32(1), int64(1<<40), true)
	f.Fuzz(func(t *testing.T, p []byte, num uint64, generation uint32, size int64, below bool) {
		if below { // repair magic and checksum
			p = append(p, make([]byte, remapFooterBytes)...)[:remapFooterBytes]
			copy(p[56:], remapMagic)
			binary.LittleEndian.PutUint32(p[52:], crc32.Checksum(p[:52], castagnoli))
		}
		got, err := decodeRemapFooter(p, FileNum(num), generation, size)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v is not ErrCorrupt", err)
			}
			return
		}
		if !bytes.Equal(got.append(nil), p) {
			t.Fatal("an accepted footer encodes otherwise")
		}
		if end := got.indexOffset() + got.indexBytes() + remapFooterBytes; end != uint64(size) || got.tableOffset < valueHeaderBytes {
			t.Fatalf("footer %+v of a file of %d bytes", got, size)
		}
	})
}

// FuzzRemapTable looks offsets up in an arbitrary table. Below the checksums, pages,
// index and footer get those that the bytes have.
func FuzzRemapTable(f *testing.F) {
	var table []byte
	var entries []remapEntry
	for i := range uint64(300) {
		entries = append(entries, remapEntry{4096 + 10*i, 4096 + 5*i})
	}
	table = appendRemapPage(table, entries[:remapPageEntries], 7, 2, 8192)
	table = appendRemapPage(table, entries[remapPageEntries:], 7, 2, 12288)
	f.Add(table, uint64(300), uint64(4106), uint64(3), uint64(1<<20), true)
	f.Add(table, uint64(256), uint64(4096+10*255), uint64(3), uint64(1<<20), true)
	f.Add(table, uint64(300), uint64(4096+10*299), uint64(1<<40), uint64(1<<20), false)
	f.Add([]byte{}, uint64(0), uint64(4096), uint64(1), uint64(4096), true)
	f.Fuzz(func(t *testing.T, table []byte, n, off, length, original uint64, below bool) {
		n %= 5 * remapPageEntries
		foot := remapFooter{num: 7, generation: 2, tableOffset: 8192, entries: n, originalBytes: original}
		pages := remapPages(n)
		table = append(table, make([]byte, pages*remapPageBytes)...)[:pages*remapPageBytes]
		var index []byte
		for i := range pages {
			page := table[i*remapPageBytes:][:remapPageBytes]
			if below {
				const crcAt = remapPageBytes - 4
				binary.LittleEndian.PutUint32(page[crcAt:], remapCRC(page[:crcAt], 7, 2, 8192+i*remapPageBytes))
			}
			index = append(index, page[:8]...)
		}
		foot.indexCRC = crc32.Checksum(index, castagnoli)
		data := append(make([]byte, 8192), table...)
		data = foot.append(append(data, index...))
		fs := storefs.NewMem()
		file, err := fs.OpenReadWrite("f", "test")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteAt(data, 0); err != nil {
			t.Fatal(err)
		}
		r, err := openRemap(file, 7, 2)
		if err == nil {
			err = checkRemapTable(t, r, file, table, ValueRange{off, length})
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("error %v is not ErrCorrupt", err)
		}
	})
}

// checkRemapTable looks want up in r and checks that each page that is accepted
// encodes the same.
func checkRemapTable(t *testing.T, r *valueRemap, file vfs.File, table []byte, want ValueRange) error {
	for i := range uint64(len(r.index)) {
		page, err := r.readPage(file, i)
		if err != nil {
			continue
		}
		var entries []remapEntry
		for j := range int(page.entries) {
			entries = append(entries, remapEntry{page.old(j), page.new(j)})
		}
		if !bytes.Equal(appendRemapPage(nil, entries, r.num, r.generation, r.pageOffset(i)), table[i*remapPageBytes:][:remapPageBytes]) {
			t.Fatal("an accepted page encodes otherwise")
		}
		for _, e := range entries {
			if at, err := r.locate(file, ValueRange{Offset: e.old}); err != nil || at != e.new {
				t.Fatalf("offset %d at %d, %v; want %d", e.old, at, err, e.new)
			}
		}
	}
	at, err := r.locate(file, want)
	if err == nil && (at < valueHeaderBytes || at+want.Length > r.tableOffset || at+want.Length < at) {
		t.Fatalf("%+v lies at %d, the table at %d", want, at, r.tableOffset)
	}
	return err
}
