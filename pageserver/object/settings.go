package object

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// Settings is how a bucket is configured. It is one record of the bucket's
// timeline, so it has a history, and a fork begins with what its source had at the
// branch point. What belongs to the bucket's id and not to its content (owner,
// labels, quota, expiry) is in the bucket's attributes instead.
//
// Whoever gets one from Service.Settings shares it and must not change it.
type Settings struct {
	// LSN is the commit that wrote the settings; zero when nobody did.
	LSN wal.LSN `json:"-"`
	// Location is where the bucket was said to be when it was made; empty: nowhere else.
	Location string `json:"location,omitempty"`
	// Versioning is whether puts keep what was there.
	Versioning Versioning `json:"versioning,omitempty"`
	// Snapshots says that the bucket keeps versions for the sake of snapshots, as clients
	// of Tigris ask for. Every bucket can have snapshots without.
	Snapshots bool `json:"snapshots,omitempty"`
	// Lock is the object lock; nil: the bucket has none. With it versioning is Enabled.
	Lock *LockConfig `json:"lock,omitempty"`
	// Pages says that there may be objects that are written in place: who replaces or
	// removes one removes its pages. Once set, it stays.
	Pages bool `json:"pages,omitempty"`
	// PageBytes is the page size of objects that are written in place for the first time; zero:
	// DefaultPageBytes.
	PageBytes int `json:"page_bytes,omitempty"`
	// Tags are those of the bucket itself, in the order given.
	Tags []Field `json:"tags,omitempty"`
	// Configurations that were set; nil ones were not.
	CORS       *CORS       `json:"cors,omitempty"`
	Encryption *Encryption `json:"encryption,omitempty"`
	// Who may do what; see also Attributes, which have the owner.
	Policy       *BucketPolicy      `json:"policy,omitempty"`
	ACL          ACL                `json:"acl,omitzero"`
	PublicAccess *PublicAccessBlock `json:"public_access,omitempty"`
	Ownership    ObjectOwnership    `json:"ownership,omitempty"`
	Lifecycle    *Lifecycle         `json:"lifecycle,omitempty"`

	Website      *Website        `json:"website,omitempty"`
	Logging      *Logging        `json:"logging,omitempty"`
	Notification *Notification   `json:"notification,omitempty"`
	Payment      *RequestPayment `json:"payment,omitempty"`
	Acceleration *Acceleration   `json:"acceleration,omitempty"`
	Tigris       *TigrisSettings `json:"tigris,omitempty"`
}

// MaxSettingsBytes bounds the encoded settings of a bucket.
const MaxSettingsBytes = 1 << 20

// noSettings are those of a bucket whose settings nobody wrote.
var noSettings = &Settings{}

// settingsKey is where the settings lie in NamespaceConfig.
var settingsKey = []byte("settings")

// Settings returns how a bucket is configured as of at; zero is the tip. The
// answer may be shared and must not be changed. Errors: timeline.ErrNoSuchBucket,
// ErrFuture, *BelowHorizonError, ErrCorrupt.
func (s *Service) Settings(ctx context.Context, bucket string, at wal.LSN) (*Settings, error) {
	if at == 0 {
		t, _, err := s.guardedSettings(ctx, bucket)
		return t.set, err
	}
	v, err := s.store.View(ctx, bucket, at)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return s.settings(v)
}

// settings is Settings by whoever reads the bucket already. A Tx that has read them
// commits only while they hold.
func (s *Service) settings(r configReader) (*Settings, error) {
	t, err := s.known(r)
	return t.set, err
}

// known is settings with the quota of the bucket that the timeline belongs to, which is the present one.
func (s *Service) known(r configReader) (knownSettings, error) {
	if tx, ok := r.(*timeline.Tx); ok {
		tx.GuardConfig()
	}
	id, changed := r.Configured()
	if t, ok := s.settingsTips.get(id); ok && t.at(r.LSN(), changed) {
		return t, nil
	}
	t := knownSettings{asOf: r.LSN()}
	var err error
	if t.set, err = s.readSettings(r); err != nil {
		return knownSettings{}, err
	}
	if t.quota, err = s.quotaOf(r.Attributes()); err != nil {
		return knownSettings{}, err
	}
	s.settingsTips.put(id, t)
	return t, nil
}

func (s *Service) readSettings(r reader) (*Settings, error) {
	rec, err := r.Get(layers.NamespaceConfig, settingsKey)
	if errors.Is(err, timeline.ErrNotFound) {
		return noSettings, nil
	} else if err != nil {
		return nil, err
	}
	id := settingsID{rec.Key.Timeline(), rec.LSN}
	if have := s.settingsCache.get(id); have != nil {
		return have, nil
	}
	set, err := decodeSettings(rec.Meta, rec.LSN)
	if err != nil {
		return nil, err
	}
	s.settingsCache.put(id, set)
	return set, nil
}

// UpdateSettings changes the settings of a bucket: change gets a copy of its own to
// work on. Nothing is written when it fails, or changes nothing. Errors:
// ErrSettingsTooLarge, timeline.ErrNoSuchBucket, those of change and of a commit.
func (s *Service) UpdateSettings(ctx context.Context, bucket string, change func(*Settings) error) (wal.LSN, error) {
	locks := []timeline.Lock{{NS: layers.NamespaceConfig, Key: settingsKey, Exclusive: true}}
	return s.store.Update(ctx, bucket, locks, func(tx *timeline.Tx) error {
		old, err := s.settings(tx)
		if err != nil {
			return err
		}
		before, err := encodeSettings(old)
		if err != nil {
			return err
		}
		mine, err := decodeSettings(before, old.LSN)
		if err != nil {
			return err
		}
		if err := change(mine); err != nil {
			return err
		}
		if mine.Lifecycle != nil && mine.Lifecycle.Bucket == 0 {
			mine.Lifecycle.Bucket = tx.Info().Bucket
		}
		after, err := encodeSettings(mine)
		if err != nil || bytes.Equal(before, after) {
			return err
		}
		tx.Put(layers.NamespaceConfig, settingsKey, after, nil)
		return nil
	})
}

// settingsVersion is the first byte of the record's Meta; the rest is JSON.
const settingsVersion = 1

func encodeSettings(set *Settings) ([]byte, error) {
	p, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode settings: %w", err)
	}
	if len(p) >= MaxSettingsBytes {
		return nil, fmt.Errorf("settings of %d bytes, at most %d: %w", len(p), MaxSettingsBytes, ErrSettingsTooLarge)
	}
	return append([]byte{settingsVersion}, p...), nil
}

func decodeSettings(p []byte, lsn wal.LSN) (*Settings, error) {
	if len(p) == 0 || len(p) > MaxSettingsBytes || p[0] != settingsVersion {
		return nil, fmt.Errorf("settings of %d bytes at %d: %w", len(p), lsn, ErrCorrupt)
	}
	d := json.NewDecoder(bytes.NewReader(p[1:]))
	d.DisallowUnknownFields()
	set := &Settings{}
	if err := d.Decode(set); err != nil {
		return nil, fmt.Errorf("settings at %d: %w: %w", lsn, err, ErrCorrupt)
	}
	if set.Policy != nil {
		if err := set.Policy.compile(); err != nil {
			return nil, fmt.Errorf("settings at %d: %w: %w", lsn, err, ErrCorrupt)
		}
	}
	set.LSN = lsn
	return set, nil
}

// settingsID names one record: a commit writes the key once in a timeline.
type settingsID struct {
	timeline layers.TimelineID
	lsn      wal.LSN
}

// settingsCache keeps decoded settings, for every request asks for those of its
// bucket. The zero value is ready. Safe for concurrent use.
type settingsCache struct {
	mu   sync.RWMutex
	sets map[settingsID]*Settings
}

// maxCachedSettings bounds the cache; buckets that share settings by inheritance
// share the entry.
const maxCachedSettings = 1024

func (c *settingsCache) get(id settingsID) *Settings {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.sets[id]
}

func (c *settingsCache) put(id settingsID, set *Settings) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sets == nil {
		c.sets = make(map[settingsID]*Settings)
	}
	for old := range c.sets { // any will do: those in use come back at once
		if len(c.sets) < maxCachedSettings {
			break
		}
		delete(c.sets, old)
	}
	c.sets[id] = set
}
