package object

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"stemma/wal"
)

// listToken says where a listing goes on. It is no secret and no promise:
// whoever makes one up gets a listing from another place.
type listToken struct {
	lsn   wal.LSN
	after string
}

const (
	tokenVersion  = 1
	maxTokenBytes = 1 + 8 + maxAfterBytes
	// maxAfterBytes is the longest key or common prefix.
	maxAfterBytes = MaxKeyBytes
)

// String returns the version (1 byte), the LSN (8 bytes, big-endian) and the
// last key or prefix of the page before, in URL-safe base64.
func (t listToken) String() string {
	p := append(make([]byte, 0, 1+8+len(t.after)), tokenVersion)
	p = binary.BigEndian.AppendUint64(p, uint64(t.lsn))
	return base64.RawURLEncoding.EncodeToString(append(p, t.after...))
}

// parseToken parses what String gives. Errors: ErrInvalidToken.
func parseToken(s string) (listToken, error) {
	if len(s) <= base64.RawURLEncoding.EncodedLen(maxTokenBytes) {
		p, err := base64.RawURLEncoding.Strict().DecodeString(s)
		if err == nil && len(p) > 1+8 && p[0] == tokenVersion {
			t := listToken{lsn: wal.LSN(binary.BigEndian.Uint64(p[1:])), after: string(p[1+8:])}
			if t.lsn > 0 && t.lsn <= wal.MaxLSN {
				return t, nil
			}
		}
	}
	return listToken{}, fmt.Errorf("continuation token of %d bytes: %w", len(s), ErrInvalidToken)
}
