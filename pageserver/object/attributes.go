package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"

	"stemma/timeline"
)

// Attributes are what belongs to a bucket itself and not to its content: forks do
// not inherit them, and a rename, a restore or a swap leaves them.
type Attributes struct {
	// Owner is the canonical id of the account that owns the bucket; empty: the root.
	Owner string `json:"owner,omitempty"`
	// Labels are for whoever manages buckets; a nil map is none.
	Labels map[string]string `json:"labels,omitempty"`
	// Description is free text.
	Description string `json:"description,omitempty"`
	// Quota bounds what the bucket may hold.
	Quota
	// Snapshots are the rules by which snapshots are taken.
	Snapshots []SnapshotRule `json:"snapshots,omitempty"`
	// Tigris is what only clients of Tigris configure; nil: nothing.
	Tigris *TigrisAttributes `json:"tigris,omitempty"`
}

// Limits of attributes; lengths are in bytes.
const (
	MaxLabels           = 64
	MaxLabelKeyBytes    = 128
	MaxLabelValueBytes  = 256
	MaxDescriptionBytes = 4096
)

// ErrBadAttributes: InvalidArgument; labels or a description that are too long, or no text, or
// a quota or rules for snapshots that are out of range.
var ErrBadAttributes = errors.New("object: bad labels, description, quota or rules")

// check refuses what is out of range. Errors: ErrBadAttributes.
func (a *Attributes) check() error {
	if len(a.Labels) > MaxLabels {
		return fmt.Errorf("%d labels, at most %d: %w", len(a.Labels), MaxLabels, ErrBadAttributes)
	}
	for k, v := range a.Labels {
		if k == "" || len(k) > MaxLabelKeyBytes || len(v) > MaxLabelValueBytes || !utf8.ValidString(k+v) {
			return fmt.Errorf("label %.40q: want a key of 1 to %d bytes and a value of at most %d: %w", k, MaxLabelKeyBytes, MaxLabelValueBytes, ErrBadAttributes)
		}
	}
	if len(a.Description) > MaxDescriptionBytes || !utf8.ValidString(a.Description) {
		return fmt.Errorf("description of %d bytes, at most %d: %w", len(a.Description), MaxDescriptionBytes, ErrBadAttributes)
	}
	if err := checkRules(a.Snapshots); err != nil {
		return err
	}
	return a.Quota.check()
}

// attributesVersion is the first byte of encoded attributes; the rest is JSON.
const attributesVersion = 1

// encode returns the bytes that the store keeps; none when there is nothing to keep.
func (a *Attributes) encode() []byte {
	if a.Owner == "" && len(a.Labels) == 0 && a.Description == "" && a.Quota == (Quota{}) && len(a.Snapshots) == 0 && a.Tigris == nil {
		return nil
	}
	p, err := json.Marshal(a)
	if err != nil {
		panic("BUG: " + err.Error()) // a plain struct
	}
	return append([]byte{attributesVersion}, p...)
}

// decodeAttributes is the reverse of encode. Errors: ErrCorrupt.
func decodeAttributes(p []byte) (Attributes, error) {
	var a Attributes
	if len(p) == 0 {
		return a, nil
	}
	if p[0] != attributesVersion {
		return a, fmt.Errorf("attributes of version %d: %w", p[0], ErrCorrupt)
	}
	d := json.NewDecoder(bytes.NewReader(p[1:]))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil {
		return a, fmt.Errorf("attributes: %w: %w", err, ErrCorrupt)
	}
	if len(a.Labels) == 0 {
		a.Labels = nil
	}
	if len(a.Snapshots) == 0 {
		a.Snapshots = nil
	}
	return a, nil
}

// attributesCache keeps decoded attributes: most buckets have those of some other.
// The zero value is ready. Safe for concurrent use.
type attributesCache struct {
	mu sync.RWMutex
	m  map[string]Attributes
}

const maxCachedAttributes = 4096

// Attributes returns those of a bucket. They may be shared and must not be changed.
// Errors: ErrCorrupt.
func (s *Service) Attributes(info *timeline.Info) (Attributes, error) {
	a, err := s.decodedAttributes(info.Attrs)
	if err != nil {
		return a, fmt.Errorf("bucket %q: %w", info.Name, err)
	}
	return a, nil
}

// decodedAttributes is decodeAttributes with a cache.
func (s *Service) decodedAttributes(p []byte) (Attributes, error) {
	if len(p) == 0 {
		return Attributes{}, nil
	}
	c := &s.attributes
	c.mu.RLock()
	a, ok := c.m[string(p)]
	c.mu.RUnlock()
	if ok {
		return a, nil
	}
	a, err := decodeAttributes(p)
	if err != nil {
		return a, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxCachedAttributes {
		c.m = make(map[string]Attributes) // cheap to fill again
	}
	c.m[string(p)] = a
	return a, nil
}
