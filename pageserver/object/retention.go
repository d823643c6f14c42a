package object

import (
	"context"
	"errors"
	"fmt"
	"time"

	"stemma/layers"
	"stemma/timeline"
	"stemma/wal"
)

// SetVersioning enables or suspends versioning. Errors: *RuleError of
// InvalidBucketState where object lock wants it enabled, timeline.ErrNoSuchBucket, and
// those of a commit.
func (s *Service) SetVersioning(ctx context.Context, bucket string, v Versioning) (wal.LSN, error) {
	return s.UpdateSettings(ctx, bucket, func(set *Settings) error {
		if set.Lock != nil && v != Enabled {
			return &RuleError{"InvalidBucketState", "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."}
		}
		set.Versioning = v
		return nil
	})
}

// SetLockConfig gives a bucket an object lock, or replaces the default retention of one that
// has it. Errors: *RuleError of MalformedXML, InvalidRetentionPeriod or, without versioning,
// InvalidBucketState; timeline.ErrNoSuchBucket, and those of a commit.
func (s *Service) SetLockConfig(ctx context.Context, bucket string, c LockConfig) (wal.LSN, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	return s.UpdateSettings(ctx, bucket, func(set *Settings) error {
		if set.Versioning != Enabled {
			return &RuleError{"InvalidBucketState", "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"}
		}
		set.Lock = &c
		return nil
	})
}

func (c *LockConfig) check() error {
	period := &RuleError{"InvalidRetentionPeriod", "Default retention period must be a positive integer value."}
	switch {
	case c.Mode == NoRetention && c.Days == 0 && c.Years == 0:
	case c.Mode == NoRetention, c.Mode >= numLockModes, c.Days != 0 && c.Years != 0:
		return &RuleError{Code: "MalformedXML"}
	case c.Days < 0, c.Years < 0, c.Days == 0 && c.Years == 0:
		return period
	case c.Days > MaxLockDays, c.Years > MaxLockYears:
		period.Message = fmt.Sprintf("Default retention period too large: at most %d days or %d years.", MaxLockDays, MaxLockYears)
		return period
	}
	return nil
}

// LockConfigOf returns the object lock of a bucket as of at; zero is the tip. Errors: ErrNoLockConfig,
// and those of Settings.
func (s *Service) LockConfigOf(ctx context.Context, bucket string, at wal.LSN) (LockConfig, error) {
	set, err := s.Settings(ctx, bucket, at)
	if err != nil {
		return LockConfig{}, err
	}
	if set.Lock == nil {
		return LockConfig{}, ErrNoLockConfig
	}
	return *set.Lock, nil
}

// SetRetention retains a version, or without a mode ends that. What is in force can only
// be extended, unless its mode is GOVERNANCE and bypass is set.
//
// Errors: ErrNoObjectLock, ErrRetainUntil, ErrLocked, and those of a read and of a commit.
func (s *Service) SetRetention(ctx context.Context, bucket, key string, id VersionID, to Retention, bypass bool) (*Object, error) {
	return s.changeEntry(ctx, bucket, key, id, func(set *Settings, e *Entry) error {
		now, old := s.now(), &e.Lock.Retention
		switch {
		case set.Lock == nil:
			return ErrNoObjectLock
		case to.Mode != NoRetention && !to.active(now):
			return ErrRetainUntil
		case old.active(now) && (to.Mode != old.Mode || to.Until.Before(old.Until)) && (old.Mode == Compliance || !bypass):
			return fmt.Errorf("retained as %v: %w", old.Mode, ErrLocked)
		}
		e.Lock.Retention = to
		return nil
	})
}

// SetLegalHold puts a version under legal hold, or ends that. Errors: ErrNoObjectLock, and those of
// a read and of a commit.
func (s *Service) SetLegalHold(ctx context.Context, bucket, key string, id VersionID, to LegalHold) (*Object, error) {
	return s.changeEntry(ctx, bucket, key, id, func(set *Settings, e *Entry) error {
		if set.Lock == nil {
			return ErrNoObjectLock
		}
		e.Lock.Hold = to
		return nil
	})
}

// LockOf reads the lock of a version; the bucket must have object lock. Errors: ErrNoObjectLock, and those of a read.
func (s *Service) LockOf(ctx context.Context, bucket, key string, in *GetInput) (*Object, error) {
	v, err := s.store.View(ctx, bucket, in.At)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	set, err := s.settings(v)
	if err != nil {
		return nil, err
	}
	if set.Lock == nil {
		return nil, ErrNoObjectLock
	}
	e, _, err := s.find(v, key, in.Version)
	if err != nil {
		return nil, err
	}
	return &Object{Entry: *e, ID: e.ID(), At: v.LSN()}, nil
}

// CheckUnlocked refuses to do away with the versions of a bucket that were made above an LSN,
// where one of them is locked: ErrLocked. It looks only at buckets with object lock. Whoever ends
// history otherwise than through Delete asks it under the gate of the timeline.
func (s *Service) CheckUnlocked(v *timeline.View, since wal.LSN) error {
	set, err := s.settings(v)
	if err != nil || set.Lock == nil {
		return err
	}
	return checkAllUnlocked(v, since, s.now())
}

// RefuseExpiry is timeline.Options.RefuseExpiry: a bucket stays as long as it has locked versions
// that it did not inherit. Errors: ErrLocked, ErrCorrupt, those of a read.
func RefuseExpiry(v *timeline.View, now wal.LSN) error {
	rec, err := v.Get(layers.NamespaceConfig, settingsKey)
	if errors.Is(err, timeline.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	set, err := decodeSettings(rec.Meta, rec.LSN)
	if err != nil || set.Lock == nil {
		return err
	}
	return checkAllUnlocked(v, v.Info().BranchLSN, now.Time())
}

func checkAllUnlocked(v *timeline.View, since wal.LSN, now time.Time) error {
	for _, ns := range []layers.Namespace{layers.NamespaceObjects, layers.NamespaceVersions} {
		if err := checkUnlocked(v.Scan(ns, nil, nil), since, now); err != nil {
			return err
		}
	}
	return nil
}

// checkUnlocked closes the scan.
func checkUnlocked(scan *layers.Scan, since wal.LSN, now time.Time) error {
	defer scan.Close()
	for ok := scan.First(); ok; ok = scan.Next() {
		rec := scan.Record()
		if rec.LSN <= since || len(rec.Meta) < 2 || rec.Key.Namespace() == layers.NamespaceVersions && isNullRecord(rec.Key.User()) {
			continue
		}
		if rec.Meta[1]&flagMarker != 0 {
			continue
		}
		e, err := decodeEntry(rec.Meta, rec.LSN)
		if err != nil {
			return err
		}
		if err := e.Lock.refuses(now, false); err != nil && e.LSN > since {
			return fmt.Errorf("version %v of %q: %w", e.ID(), rec.Key.User(), err)
		}
	}
	return scan.Err()
}
