package mount

import (
	"strconv"
	"strings"
	"syscall"
	"time"

	"stemma/client"
)

// Names of user metadata, as s3fs has them. Modes and owners are decimal, the mode with the type of the file; times are seconds
// since 1970 with a fraction.
const (
	metaMode  = "mode"
	metaUID   = "uid"
	metaGID   = "gid"
	metaMtime = "mtime"
)

// ownMeta reports whether metadata is of this file, and no extended attribute.
func ownMeta(name string) bool {
	switch name {
	case metaMode, metaUID, metaGID, metaMtime, "atime", "ctime":
		return true
	}
	return false
}

// attributes are what is known of an object that a node stands for.
type attributes struct {
	lsn         client.LSN // of the version; zero: there is no object, as of a directory that has none
	size        uint64
	etag        string
	contentType string
	meta        map[string]string // never changed, only replaced
	inPlace     bool
	file        string // of what is in place
}

func attributesOf(o *client.ObjectInfo) attributes {
	if o == nil {
		return attributes{}
	}
	return attributes{lsn: o.LSN, size: o.Size, etag: o.ETag, contentType: o.ContentType, meta: o.Metadata, inPlace: o.File != "", file: o.File}
}

// sameFile reports whether two versions are of one file: what is written in place stays one, what is put is another.
func (a *attributes) sameFile(b *attributes) bool {
	return a.lsn == b.lsn || a.inPlace && b.inPlace && a.file == b.file
}

// with returns metadata with changes, of which those that are empty remove.
func with(meta, changes map[string]string) map[string]string {
	all := make(map[string]string, len(meta)+len(changes))
	for k, v := range meta {
		all[k] = v
	}
	for k, v := range changes {
		if v == "" {
			delete(all, k)
		} else {
			all[k] = v
		}
	}
	return all
}

// modeOf returns the mode with its type; dir says what the key is.
func modeOf(meta map[string]string, dir bool) uint32 {
	kind := uint32(syscall.S_IFREG)
	perm, known := uint32(0o644), false
	if dir {
		kind, perm = syscall.S_IFDIR, 0o755
	}
	for _, base := range []int{10, 8} { // rclone writes it octal
		if m, err := strconv.ParseUint(meta[metaMode], base, 32); err == nil && m < 1<<16 && !known {
			if known = true; !dir {
				switch k := uint32(m) & syscall.S_IFMT; k {
				case syscall.S_IFLNK, syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFREG:
					kind = k
				case 0:
				default:
					known = false
					continue
				}
			}
			perm = uint32(m) & 0o7777
		}
	}
	return kind | perm
}

func modeText(mode uint32) string { return strconv.FormatUint(uint64(mode), 10) }

// idOf returns the owner that metadata names.
func idOf(meta map[string]string, name string, otherwise uint32) uint32 {
	if n, err := strconv.ParseUint(meta[name], 10, 32); err == nil {
		return uint32(n)
	}
	return otherwise
}

// mtimeOf returns the time of the last change: that of the version, unless metadata says otherwise.
func mtimeOf(meta map[string]string, lsn client.LSN) time.Time {
	whole, fraction, _ := strings.Cut(meta[metaMtime], ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Unix(0, int64(lsn))
	}
	nanos, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
	if err != nil {
		nanos = 0
	}
	return time.Unix(sec, int64(nanos))
}

func mtimeText(t time.Time) string {
	s := strconv.FormatInt(t.Unix(), 10)
	if n := t.Nanosecond(); n != 0 {
		digits := strconv.Itoa(1_000_000_000 + n)[1:]
		s += "." + strings.TrimRight(digits, "0")
	}
	return s
}
