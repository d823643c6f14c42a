package object

import (
	"context"
	"sync"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// configReader is a View or a Tx.
type configReader interface {
	reader
	LSN() wal.LSN
	Configured() (layers.TimelineID, wal.LSN)
	Attributes() []byte
}

// knownSettings are what a timeline's settings, and the quota of its bucket, are as of an
// LSN, at which they were read.
type knownSettings struct {
	set   *Settings
	quota *Quota // nil: none
	asOf  wal.LSN
}

// at reports whether the settings are those as of lsn too, of a timeline whose
// settings the last commit can have changed at changed.
func (t *knownSettings) at(lsn, changed wal.LSN) bool {
	if lsn >= t.asOf {
		return changed <= t.asOf
	}
	return t.set.LSN <= lsn
}

// settingsTips remembers the settings of timelines, so that who writes or reads a
// bucket need not read them. The zero value is ready. Safe for concurrent use.
type settingsTips struct {
	mu   sync.RWMutex
	tips map[layers.TimelineID]knownSettings
}

// maxSettingsTips bounds the memory, at about 100 bytes each.
const maxSettingsTips = 1 << 15

func (c *settingsTips) get(id layers.TimelineID) (knownSettings, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	t, ok := c.tips[id]
	return t, ok
}

func (c *settingsTips) put(id layers.TimelineID, t knownSettings) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tips == nil {
		c.tips = make(map[layers.TimelineID]knownSettings)
	}
	old, ok := c.tips[id]
	if ok && old.asOf >= t.asOf {
		return
	}
	for other := range c.tips { // any will do: those in use come back at once
		if ok || len(c.tips) < maxSettingsTips {
			break
		}
		delete(c.tips, other)
	}
	c.tips[id] = t
}

// guardedSettings returns the settings of a bucket and its quota, and what makes a commit by
// them fail once they have changed. Errors: those of Settings.
func (s *Service) guardedSettings(ctx context.Context, bucket string) (knownSettings, timeline.ConfigGuard, error) {
	id, changed, err := s.store.Configured(bucket)
	if err != nil {
		return knownSettings{}, timeline.ConfigGuard{}, err
	}
	if t, ok := s.settingsTips.get(id); ok && changed <= t.asOf {
		return t, timeline.ConfigGuard{Timeline: id, AsOf: t.asOf}, nil
	}
	v, err := s.store.View(ctx, bucket, 0)
	if err != nil {
		return knownSettings{}, timeline.ConfigGuard{}, err
	}
	defer v.Close()
	t, err := s.known(v)
	if err != nil {
		return t, timeline.ConfigGuard{}, err
	}
	id, _ = v.Configured()
	return t, timeline.ConfigGuard{Timeline: id, AsOf: v.LSN()}, nil
}
