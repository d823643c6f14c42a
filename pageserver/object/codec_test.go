package object

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"stemma/wal"
)

var rewrite = flag.Bool("rewrite-golden", false, "rewrite the golden files")

// samples are one meta of each shape.
func samples() map[string][]byte {
	full := &Entry{
		Size: 12345678, ETag: ETag{Sum: [16]byte{1, 2, 3, 15: 0xff}, Parts: 2}, StorageClass: GlacierIR,
		Checksum: Checksum{Algorithm: SHA256, Composite: true, Parts: 2, Sum: [64]byte{9, 31: 7}},
		Headers: Headers{
			ContentType: "text/plain", ContentEncoding: "gzip", ContentDisposition: "inline", ContentLanguage: "la",
			CacheControl: "no-store", Expires: "never", WebsiteRedirect: "/elsewhere",
		},
		UserMeta: []Field{{"b", "2"}, {"a", "ü"}, {"empty", ""}},
		Tags:     []Field{{"colour", "rot"}, {"none", ""}}, made: 1 << 60,
		uploadID: uploadID{1, 15: 2},
		parts: partTable{inline: appendParts(nil, []PartInfo{
			{Number: 1, Size: 12345677}, {Number: 3, Size: 1},
		})},
	}
	plain := &Entry{Size: 5, ETag: ETag{Sum: [16]byte{5}}, Checksum: Checksum{Algorithm: CRC64NVME, Sum: [64]byte{8}}}
	tail := &Entry{Size: 7, ETag: ETag{Sum: [16]byte{5}, Parts: 10000}, parts: partTable{tail: 300}}
	upload := &uploadRecord{
		class: OneZoneIA, algorithm: CRC32C, composite: true, headers: Headers{ContentType: "a/b"}, userMeta: []Field{{"k", "v"}},
		tags: []Field{{"t", "u"}},
	}
	access := Access{Owner: "somebody", ACL: ACL{{Kind: GranteeOwner, Permission: PermFullControl}, {Kind: GranteeUser, ID: "other", Permission: PermRead}, {Kind: GranteeAll, Permission: PermReadACP}}}
	part := &partRecord{size: 5 << 20, md5: [16]byte{4}, checksum: Checksum{Algorithm: CRC32C, Sum: [64]byte{1, 2, 3, 4}}}
	return map[string][]byte{
		"object_full": full.append(nil), "object_plain": plain.append(nil), "object_tail": tail.append(nil),
		"object_empty": (&Entry{}).append(nil), "upload": upload.append(nil),
		"upload_implicit": (&uploadRecord{algorithm: CRC64NVME, implicit: true}).append(nil),
		"part":            part.append(nil, nil), "part_bare": (&partRecord{}).append(nil, nil),
		"object_sse_s3": lockedEntry(SSES3).append(nil), "object_sse_kms": lockedEntry(SSEKMS).append(nil),
		"upload_sse_c":        (&uploadRecord{algorithm: CRC32, crypt: lockedCrypt(SSEC)}).append(nil),
		"object_sse_c_fields": withFieldsKey(lockedEntry(SSEC)).append(nil),
		"object_pages_sse_s3": lockedPages(SSES3).append(nil),
		"object_pages_sse_c":  sealedFor(withFieldsKey(lockedPages(SSEC))).append(nil),
		"object_access":       (&Entry{Size: 5, StorageClass: StandardIA, ETag: ETag{Sum: [16]byte{5}}, Access: access}).append(nil),
		"object_inherited":    (&Entry{Size: 5, LSN: 1, ETag: ETag{Sum: [16]byte{5}}, Access: access, inherited: inheritance{base: 300, size: 4}}).append(nil),
		"object_empty_acl":    (&Entry{Access: Access{ACL: ACL{}}}).append(nil),
		"upload_access":       (&uploadRecord{algorithm: CRC32, access: access, initiator: "third"}).append(nil),
		"part_sealed":         (&partRecord{size: 7, locked: lockedCrypt(SSES3).locked}).append(nil, nil),
	}
}

// lockedCrypt is an encryption record with fields that nobody opens.
func lockedCrypt(k SSEKind) *crypt {
	c := &crypt{SSE: SSE{Kind: k}, id: [16]byte{1, 15: 2}, sealed: bytes.Repeat([]byte{9}, 70), locked: bytes.Repeat([]byte{3}, 40)}
	if k == SSEKMS {
		c.KeyID, c.Context, c.BucketKey = "key-1", "e30=", true
	}
	return c
}

func withFieldsKey(e *Entry) *Entry {
	e.crypt.sealedFields = bytes.Repeat([]byte{5}, 70)
	return e
}

// lockedPages is what was written in place.
func lockedPages(k SSEKind) *Entry {
	return &Entry{Size: 300, pages: pageFile{id: fileID{1, 11: 2}, shift: 12, base: 200}, crypt: lockedCrypt(k)}
}

func sealedFor(e *Entry) *Entry {
	e.crypt.sealedFor = fileID{7, 11: 8}
	return e
}

func lockedEntry(k SSEKind) *Entry {
	return &Entry{
		Size: 300, ETag: ETag{Sum: [16]byte{5}, Parts: 10000}, Checksum: Checksum{Algorithm: SHA256, Composite: true},
		uploadID: uploadID{4}, parts: partTable{tail: 400}, crypt: lockedCrypt(k),
	}
}

// Bytes that were written once are read for ever.
func TestGolden(t *testing.T) {
	for name, p := range samples() {
		file := filepath.Join("testdata", "meta_v1_"+name+".hex")
		if *rewrite {
			if err := os.WriteFile(file, []byte(hex.Dump(p)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.Dump(p); got != string(want) {
			t.Errorf("%s: encoded\n%swant\n%s", name, got, want)
		}
		if again := reencode(t, name, p); !bytes.Equal(again, p) {
			t.Errorf("%s: encoded again % x, want % x", name, again, p)
		}
	}
}

func reencode(t *testing.T, name string, p []byte) []byte {
	t.Helper()
	var again []byte
	var err error
	switch kind, _, _ := strings.Cut(name, "_"); kind {
	case "object":
		var e *Entry
		if e, err = decodeEntry(p, 1); err == nil {
			again = e.append(nil)
		}
	case "upload":
		var u *uploadRecord
		if u, err = decodeUpload(p); err == nil {
			again = u.append(nil)
		}
	case "part":
		var r partRecord
		if err = r.decode(p); err == nil {
			again = r.append(nil, nil)
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return again
}

func TestEntryRoundTrip(t *testing.T) {
	want := &Entry{
		Size: 1 << 40, ETag: ETag{Sum: [16]byte{1}, Parts: 3}, StorageClass: Snow, LSN: 77, PartsCount: 3,
		Checksum: Checksum{Algorithm: CRC32, Sum: [64]byte{1, 2, 3, 4}},
		Headers:  Headers{ContentType: "x", Expires: "y"},
		UserMeta: []Field{{"z", "1"}, {"a", ""}, {"", "odd"}}, uploadID: uploadID{3}, renamed: renameToken{4},
	}
	got, err := decodeEntry(want.append(nil), 77)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("decoded %+v, want %+v", got, want)
	}
	if got.Modified() != wal.LSN(77).Time() {
		t.Errorf("modified %v", got.Modified())
	}
}

// Whatever is cut off or of another version is refused.
func TestDecodeRefuses(t *testing.T) {
	for name, p := range samples() {
		decode := func(p []byte) error {
			switch kind, _, _ := strings.Cut(name, "_"); kind {
			case "object":
				_, err := decodeEntry(p, 1)
				return err
			case "upload":
				_, err := decodeUpload(p)
				return err
			}
			return new(partRecord).decode(p)
		}
		for i, b := range []byte{2, 0x80, 200, 99} {
			q := bytes.Clone(p)
			q[i] = b
			if err := decode(q); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s with byte %d = %d: %v", name, i, b, err)
			}
		}
		if err := decode(append(bytes.Clone(p), 0)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s with a byte behind it: %v", name, err)
		}
		if err := decode(append(bytes.Clone(p), 0xf0, 1, 1)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s with an unknown field: %v", name, err)
		}
		if err := decode(p[:len(p)-1]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s without its last byte: %v", name, err)
		}
	}
	if _, err := decodeEntry(make([]byte, maxMetaBytes+1), 1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("long meta: %v", err)
	}
}

// The largest description that is let in fits a meta.
func TestMetaBound(t *testing.T) {
	e := &Entry{Size: maxObjectBytes, ETag: ETag{Parts: MaxPartNumber}, parts: partTable{inline: make([]byte, maxInlineParts)}}
	e.Checksum = Checksum{Algorithm: SHA256, Composite: true, Parts: MaxPartNumber}
	e.uploadID[0] = 1
	e.Headers.ContentType = strings.Repeat("x", MaxHeaderBytes)
	for range MaxUserMetaBytes / 2 {
		e.UserMeta = append(e.UserMeta, Field{"k", "v"})
	}
	for i := range MaxObjectTags {
		e.Tags = append(e.Tags, Field{strings.Repeat("界", maxTagKeyChars-1) + string(rune('a'+i)), strings.Repeat("界", maxTagValueChars)})
	}
	if err := checkDescription(&e.Headers, e.UserMeta, e.Tags); err != nil {
		t.Fatal(err)
	}
	e.made = wal.MaxLSN
	e.Owner = strings.Repeat("o", maxGranteeBytes)
	for range MaxGrants {
		e.ACL = append(e.ACL, Grant{Kind: GranteeUser, ID: e.Owner, Permission: PermRead})
	}
	if err := CheckACL(e.ACL); err != nil {
		t.Fatal(err)
	}
	if _, err := decodeEntry(e.append(nil), 1); err != nil {
		t.Errorf("%d bytes: %v", len(e.append(nil)), err)
	}
	for _, f := range [][]Field{append(e.UserMeta, Field{"k", ""}), make([]Field, MaxUserMetaBytes)} {
		if err := checkDescription(&Headers{}, f, nil); !errors.Is(err, ErrMetadataTooLarge) {
			t.Errorf("user metadata of %d pairs: %v", len(f), err)
		}
	}
	if err := checkDescription(&Headers{Expires: strings.Repeat("x", MaxHeaderBytes+1)}, nil, nil); !errors.Is(err, ErrMetadataTooLarge) {
		t.Errorf("headers: %v", err)
	}
}

func TestListingDecodesWithoutAllocation(t *testing.T) {
	p := samples()["object_full"]
	var h metaHead
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := h.decode(p, true); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if h.size != 12345678 || h.etag.Parts != 2 || h.class != GlacierIR || h.algorithm != SHA256 || h.flags&flagComposite == 0 {
		t.Errorf("head %+v", h)
	}
}

func TestPartsTable(t *testing.T) {
	skipLong(t)
	for _, c := range []struct {
		parts int
		gap   int
		alg   Algorithm
		size  func(i int) uint64
		bytes int
	}{
		{10000, 1, NoChecksum, func(int) uint64 { return 8 << 20 }, 1 + 7 + 2 + 160000},
		{10000, 1, SHA256, func(i int) uint64 { return 8 << 20 }, 1 + 7 + 2 + 480000},
		{5000, 2, NoChecksum, func(i int) uint64 { return uint64(i) }, -1},
		{1, 1, CRC32, func(int) uint64 { return 0 }, 1 + 3 + 2 + 4 + 16},
	} {
		var parts []PartInfo
		for i := range c.parts {
			p := PartInfo{Number: (i + 1) * c.gap, Size: c.size(i)}
			p.Checksum.Algorithm, p.MD5[0] = c.alg, byte(i)
			if c.alg != NoChecksum {
				p.Checksum.Sum[0], p.Checksum.Sum[1] = byte(i), byte(i>>8)
			}
			parts = append(parts, p)
		}
		table := appendParts(nil, parts)
		if c.bytes >= 0 && len(table) != c.bytes || len(table) > maxPartTable {
			t.Errorf("%d parts with %v: table of %d bytes, want %d", c.parts, c.alg, len(table), c.bytes)
		}
		got, err := decodeParts(table)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, parts) {
			t.Errorf("%d parts with %v: decoded something else", c.parts, c.alg)
		}
		for cut := range min(len(table), 40) {
			if _, err := decodeParts(table[:cut]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("cut at %d: %v", cut, err)
			}
		}
	}
	mixed := []PartInfo{{Number: 1, Checksum: Checksum{Algorithm: CRC32}}, {Number: 2}}
	if a := partsAlgorithm(mixed); a != NoChecksum {
		t.Errorf("mixed parts have %v", a)
	}
}

func TestUploadKeys(t *testing.T) {
	keys := []string{"a", "a\x00", "a\x00\x00", "a\x00\x01", "a\x00\xff", "a\x01", "a\xff", "a\xff\xff", "aa", "b", "\x00", "\xff"}
	for _, a := range keys {
		id := uploadID{7, 15: 9}
		k, got, err := parseUploadKey(uploadKey(a, id))
		if err != nil || string(k) != a || got != id {
			t.Errorf("key %q came back as %q, %v, %v", a, k, got, err)
		}
		for _, b := range keys {
			// Order of the records is order of the keys, whatever the ids.
			ka, kb := uploadKey(a, uploadID{0xff}), uploadKey(b, uploadID{0, 1})
			if a != b && (bytes.Compare(ka, kb) < 0) != (a < b) {
				t.Errorf("order of %q and %q", a, b)
			}
			if strings.HasPrefix(b, a) != bytes.HasPrefix(kb, appendKeyPrefix(nil, a)) {
				t.Errorf("prefix %q of %q", a, b)
			}
		}
	}
	if n := len(uploadKey(strings.Repeat("\x00", MaxKeyBytes), uploadID{})); n > 4096 {
		t.Errorf("longest upload key has %d bytes", n)
	}
	if !bytes.HasPrefix(partKey(uploadID{1}, 9), partKey(uploadID{1}, 0)[:17]) || bytes.Compare(partKey(uploadID{1}, 255), partKey(uploadID{1}, 256)) >= 0 {
		t.Error("part keys out of order")
	}
	if a, b := newUploadID(1), newUploadID(2); a.String() >= b.String() {
		t.Errorf("ids %v, %v do not sort by age", a, b)
	}
}

func FuzzEntry(f *testing.F) {
	for _, p := range samples() {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if e, err := decodeEntry(p, 1); err == nil {
			if again := e.append(nil); !bytes.Equal(again, p) {
				t.Errorf("entry % x encodes as % x", p, again)
			}
		} else if !errors.Is(err, ErrCorrupt) {
			t.Errorf("error %v", err)
		}
		if u, err := decodeUpload(p); err == nil {
			if again := u.append(nil); !bytes.Equal(again, p) {
				t.Errorf("upload % x encodes as % x", p, again)
			}
		}
		var r partRecord
		if err := r.decode(p); err == nil {
			if again := r.append(nil, nil); !bytes.Equal(again, p) {
				t.Errorf("part % x encodes as % x", p, again)
			}
		}
	})
}

func FuzzParts(f *testing.F) {
	f.Add(appendParts(nil, []PartInfo{{Number: 1, Size: 5}, {Number: 2, Size: 5}, {Number: 9, Size: 1}}))
	f.Add(appendParts(nil, []PartInfo{{Number: 10000, Checksum: Checksum{Algorithm: SHA1}}}))
	f.Fuzz(func(t *testing.T, p []byte) {
		parts, err := decodeParts(p)
		if err != nil {
			return
		}
		if again := appendParts(nil, parts); !bytes.Equal(again, p) {
			t.Errorf("parts table % x encodes as % x", p, again)
		}
	})
}

func FuzzUploadKey(f *testing.F) {
	f.Add(uploadKey("a\x00b", uploadID{1}))
	f.Fuzz(func(t *testing.T, p []byte) {
		key, id, err := parseUploadKey(p)
		if err == nil && !bytes.Equal(uploadKey(string(key), id), p) {
			t.Errorf("upload key % x comes back as %q, %v", p, key, id)
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add(listToken{lsn: 5, after: "a/b"}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := parseToken(s)
		if err != nil {
			if !errors.Is(err, ErrInvalidToken) {
				t.Errorf("error %v", err)
			}
			return
		}
		if tok.String() != s {
			t.Errorf("token %q comes back as %q", s, tok.String())
		}
	})
}

func TestParseText(t *testing.T) {
	for _, s := range []string{"d41d8cd98f00b204e9800998ecf8427e", `"d41d8cd98f00b204e9800998ecf8427e-12"`} {
		tag, ok := ParseETag(s)
		if want := strings.Trim(s, `"`); !ok || tag.String() != want {
			t.Errorf("tag %q came back as %v, %t", s, tag, ok)
		}
	}
	for _, s := range []string{"", `""`, "d41d", "d41d8cd98f00b204e9800998ecf8427e-0", "d41d8cd98f00b204e9800998ecf8427e-",
		"d41d8cd98f00b204e9800998ecf8427e-01", "x41d8cd98f00b204e9800998ecf8427e", `"d41d8cd98f00b204e9800998ecf8427e`} {
		if tag, ok := ParseETag(s); ok {
			t.Errorf("tag %q was taken for %v", s, tag)
		}
	}
	for a := CRC32; a < numAlgorithms; a++ {
		got, err := ParseAlgorithm(strings.ToLower(a.String()))
		if err != nil || got != a {
			t.Errorf("%v: parsed %v, %v", a, got, err)
		}
		want := Checksum{Algorithm: a, Sum: [64]byte{1, 2}}
		if c, err := ParseChecksum(a, want.String()); err != nil || c != want {
			t.Errorf("%v: parsed %v, %v", want, c, err)
		}
		if !a.composite() {
			continue
		}
		want.Composite, want.Parts = true, 3
		if c, err := ParseChecksum(a, want.String()); err != nil || c != want {
			t.Errorf("%v: parsed %v, %v", want, c, err)
		}
	}
	for _, s := range []string{"", "AAAA", "AAAAAA=", "AAAAAA==-0", "AAAAAA==-x", "!!!!!!==", strings.Repeat("A", 100)} {
		if c, err := ParseChecksum(CRC32, s); !errors.Is(err, ErrInvalidChecksum) {
			t.Errorf("checksum %q: %v, %v", s, c, err)
		}
	}
	for c := range numStorageClasses {
		if got, err := ParseStorageClass(c.String()); err != nil || got != c {
			t.Errorf("%v: parsed %v, %v", c, got, err)
		}
	}
	if _, err := ParseStorageClass("TAPE"); !errors.Is(err, ErrInvalidStorageClass) {
		t.Errorf("class TAPE: %v", err)
	}
}
