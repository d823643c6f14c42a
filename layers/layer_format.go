package layers

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Header and footer of a layer file; doc.go has their form.
const (
	layerMagic       = "STEMMALY"
	layerFooterMagic = "STEMMALE"
	layerVersion     = 1
	layerHeaderBytes = 32
	layerFooterBytes = 96
)

// appendLayerHeader appends the header of a layer file.
func appendLayerHeader(dst []byte, num FileNum, kind LayerKind) []byte {
	start := len(dst)
	dst = append(dst, layerMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, layerVersion)
	dst = append(dst, byte(kind), 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(num))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// checkLayerHeader verifies the header of the layer file num and returns its kind.
func checkLayerHeader(p []byte, num FileNum) (LayerKind, error) {
	if len(p) != layerHeaderBytes || string(p[:8]) != layerMagic {
		return 0, fmt.Errorf("header: no magic: %w", ErrCorrupt)
	}
	if got, want := crc32.Checksum(p[:28], castagnoli), binary.LittleEndian.Uint32(p[28:]); got != want {
		return 0, fmt.Errorf("header: checksum %08x, want %08x: %w", got, want, ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(p[8:]); v != layerVersion {
		return 0, fmt.Errorf("header: format version %d, want %d: %w", v, layerVersion, ErrCorrupt)
	}
	if n := FileNum(binary.LittleEndian.Uint64(p[16:])); n != num {
		return 0, fmt.Errorf("header: of layer %d, want %d: %w", n, num, ErrCorrupt)
	}
	if p[13]|p[14]|p[15] != 0 || binary.LittleEndian.Uint32(p[24:]) != 0 {
		return 0, fmt.Errorf("header: bytes that should be zero are not: %w", ErrCorrupt)
	}
	return LayerKind(p[12]), nil
}

// appendCRC appends the checksum of p to it.
func appendCRC(p []byte) []byte {
	return binary.LittleEndian.AppendUint32(p, crc32.Checksum(p, castagnoli))
}

// sealFilter puts the checksum of a filter block, which will lie at off, at its end.
func sealFilter(b []byte, num FileNum, off uint64) {
	bits := b[:filterBlockBytes-filterTrailerBytes]
	binary.LittleEndian.PutUint32(b[len(bits):], placedCRC(bits, num, off))
}

// section is a byte range of a file; without bytes it is absent.
type section struct{ off, length uint64 }

func (s section) end() uint64 { return s.off + s.length }

// layerFooter says where the parts of a layer file lie.
type layerFooter struct {
	num          FileNum
	kind         LayerKind
	points       section // top index of the point records
	filter       section // whole blocks
	tombstones   section // top index of the range tombstones
	properties   section
	fileBytes    uint64
	filterBlocks int
}

func (f *layerFooter) append(dst []byte) []byte {
	start := len(dst)
	for _, s := range [...]section{f.points, f.filter, f.tombstones, f.properties} {
		dst = binary.LittleEndian.AppendUint64(dst, s.off)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(s.length))
	}
	dst = binary.LittleEndian.AppendUint64(dst, f.fileBytes)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(f.num))
	dst = append(dst, byte(f.kind), 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, layerVersion)
	dst = append(dst, make([]byte, layerFooterBytes-12-(len(dst)-start))...)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	return append(dst, layerFooterMagic...)
}

// decodeLayerFooter verifies and decodes the footer of a file of size bytes.
func decodeLayerFooter(p []byte, size uint64) (layerFooter, error) {
	var f layerFooter
	n := layerFooterBytes - 12
	if len(p) != layerFooterBytes || string(p[n+4:]) != layerFooterMagic {
		return f, fmt.Errorf("footer: no magic: %w", ErrCorrupt)
	}
	if got, want := crc32.Checksum(p[:n], castagnoli), binary.LittleEndian.Uint32(p[n:]); got != want {
		return f, fmt.Errorf("footer: checksum %08x, want %08x: %w", got, want, ErrCorrupt)
	}
	return parseLayerFooter(p[:n], size)
}

// parseLayerFooter is decodeLayerFooter below the checksum.
func parseLayerFooter(p []byte, size uint64) (layerFooter, error) {
	var f layerFooter
	for i, s := range [...]*section{&f.points, &f.filter, &f.tombstones, &f.properties} {
		s.off, s.length = binary.LittleEndian.Uint64(p[12*i:]), uint64(binary.LittleEndian.Uint32(p[12*i+8:]))
	}
	f.fileBytes = binary.LittleEndian.Uint64(p[48:])
	f.num = FileNum(binary.LittleEndian.Uint64(p[56:]))
	f.kind = LayerKind(p[64])
	if v := binary.LittleEndian.Uint32(p[68:]); v != layerVersion {
		return f, fmt.Errorf("footer: format version %d, want %d: %w", v, layerVersion, ErrCorrupt)
	}
	for i, b := range p[65:] {
		if b != 0 && (i < 3 || i >= 7) {
			return f, fmt.Errorf("footer: byte %d is not zero: %w", 65+i, ErrCorrupt)
		}
	}
	if f.fileBytes != size {
		return f, fmt.Errorf("footer: file of %d bytes, want %d: %w", size, f.fileBytes, ErrCorrupt)
	}
	f.filterBlocks = int(f.filter.length / filterBlockBytes)
	return f, f.check()
}

// check proves that the sections follow each other and leave no byte unclaimed,
// but for the blocks of the two trees, which their indexes account for.
func (f *layerFooter) check() error {
	fail := func(what string) error {
		return fmt.Errorf("footer: %s out of place: %w", what, ErrCorrupt)
	}
	at := uint64(layerHeaderBytes)
	if f.points.length > 0 {
		if f.points.off < at || f.points.off > f.fileBytes || f.points.length > f.fileBytes-f.points.off {
			return fail("index")
		}
		at = f.points.end()
	} else if f.points.off != 0 || f.filter.length != 0 {
		return fail("empty index")
	}
	if f.filter.length > 0 {
		if f.filter.off != at || f.filter.length > f.fileBytes-at || f.filter.length%filterBlockBytes != 0 {
			return fail("filter")
		}
		at = f.filter.end()
	} else if f.filter.off != 0 || f.points.length != 0 {
		return fail("empty filter")
	}
	if f.tombstones.length > 0 {
		if f.tombstones.off < at || f.tombstones.off > f.fileBytes || f.tombstones.length > f.fileBytes-f.tombstones.off {
			return fail("index of range tombstones")
		}
		at = f.tombstones.end()
	} else if f.tombstones.off != 0 {
		return fail("empty index of range tombstones")
	}
	if f.properties.off != at || f.properties.length == 0 || f.properties.length > f.fileBytes-at ||
		f.properties.end()+layerFooterBytes != f.fileBytes {
		return fail("properties")
	}
	return nil
}
