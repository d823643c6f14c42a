package object

import (
	"context"
	"fmt"

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
