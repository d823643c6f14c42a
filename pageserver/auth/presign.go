package auth

import (
	"encoding/hex"
	"strconv"
	"time"
)

// MaxPresigned is the longest that a presigned request is good for.
const MaxPresigned = maxExpires * time.Second

// Presigned is a request that a key signs for whoever gets it.
type Presigned struct {
	Method, Host string
	Path         string        // decoded
	Params       []Param       // of the request itself
	Token        string        // of a session; empty: the key is not a temporary one
	Region       string        // any
	Expires      time.Duration // whole seconds, from one to MaxPresigned
}

// Presign returns the target of a request, path and query, that Verify takes for one of the key from at on.
// Host is the only header that is signed, and the body may be any.
func (k *Key) Presign(p *Presigned, at time.Time) string {
	date := at.UTC().Format("20060102T150405Z")
	s := scope{date: date[:len("20060102")], region: p.Region, service: service}
	params := append([]Param{
		{"X-Amz-Algorithm", algorithm}, {"X-Amz-Credential", k.ID + "/" + string(s.append(nil))}, {"X-Amz-Date", date},
		{"X-Amz-Expires", strconv.FormatInt(int64(p.Expires/time.Second), 10)}, {"X-Amz-SignedHeaders", "host"},
	}, p.Params...)
	if p.Token != "" {
		params = append(params, Param{"X-Amz-Security-Token", p.Token})
	}
	path := string(AppendEscaped(nil, p.Path, true))
	query := string(appendCanonicalQuery(nil, params, true))
	canonical := p.Method + "\n" + path + "\n" + query + "\nhost:" + p.Host + "\n\nhost\n" + unsignedPayload
	key := new(signingKeys).get(k, s)
	sum := mac(key[:], appendStringToSign(nil, date, s, []byte(canonical)))
	return path + "?" + query + "&X-Amz-Signature=" + hex.EncodeToString(sum[:])
}
