package object

import (
	"strconv"
	"strings"
)

// parseRange returns the bytes that a Range header asks of size bytes. It is
// not ok when the header is to be ignored: another unit, several ranges, bad
// syntax. Errors: *RangeError when no byte of the range is there.
func parseRange(header string, size uint64) (off, n uint64, ok bool, err error) {
	spec, found := strings.CutPrefix(strings.TrimSpace(header), "bytes=")
	if !found {
		return 0, 0, false, nil
	}
	first, last, found := strings.Cut(strings.TrimSpace(spec), "-")
	if !found {
		return 0, 0, false, nil
	}
	if first == "" {
		n, ok := parseOffset(last)
		if !ok {
			return 0, 0, false, nil
		}
		if n == 0 || size == 0 {
			return 0, 0, false, &RangeError{Range: header, Size: size}
		}
		n = min(n, size)
		return size - n, n, true, nil
	}
	off, ok = parseOffset(first)
	if !ok {
		return 0, 0, false, nil
	}
	end := size
	if last != "" {
		l, ok := parseOffset(last)
		if !ok || l < off {
			return 0, 0, false, nil
		}
		if l < size {
			end = l + 1
		}
	}
	if off >= size {
		return 0, 0, false, &RangeError{Range: header, Size: size}
	}
	return off, end - off, true, nil
}

// parseOffset parses digits. Numbers beyond every size are as good as the
// largest.
func parseOffset(s string) (uint64, bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	if s == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 1<<63 - 1, true
	}
	return n, true
}
