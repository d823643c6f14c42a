package object

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// LockMode is how strictly a version is retained.
type LockMode byte

// The modes of retention. The zero value is none.
const (
	NoRetention LockMode = iota
	Governance           // who may bypass it deletes and shortens
	Compliance           // nobody does
	numLockModes
)

var lockModeNames = [numLockModes]string{"", "GOVERNANCE", "COMPLIANCE"}

// String returns the name that S3 uses; empty for none.
func (m LockMode) String() string { return lockModeNames[min(m, numLockModes-1)] }

// ParseLockMode returns the mode of a name.
func ParseLockMode(name string) (LockMode, bool) {
	for m := Governance; m < numLockModes; m++ {
		if lockModeNames[m] == name {
			return m, true
		}
	}
	return 0, false
}

// LegalHold is what PutObjectLegalHold set. The zero value is that nobody ever did.
type LegalHold byte

// The states of a legal hold.
const (
	NoHold LegalHold = iota
	HoldOff
	HoldOn
	numHolds
)

// String returns the name that S3 uses; empty when nobody set it.
func (h LegalHold) String() string {
	return [...]string{"", "OFF", "ON"}[min(h, numHolds-1)]
}

// Retention keeps a version from deletion until a time by the store clock.
type Retention struct {
	Mode  LockMode
	Until time.Time // whole milliseconds; zero without a mode
}

// NewRetention returns a retention that lasts until the millisecond that is not before until.
func NewRetention(m LockMode, until time.Time) Retention {
	t := until.UTC().Truncate(time.Millisecond)
	if t.Before(until) {
		t = t.Add(time.Millisecond)
	}
	return Retention{Mode: m, Until: t}
}

// active reports whether it holds at a time.
func (r *Retention) active(now time.Time) bool { return r.Mode != NoRetention && now.Before(r.Until) }

// Lock is what keeps a version from deletion. The zero value is nothing.
type Lock struct {
	Retention Retention
	Hold      LegalHold
}

// refuses returns ErrLocked when a version with the lock must not be deleted at now.
// bypass disregards GOVERNANCE.
func (l *Lock) refuses(now time.Time, bypass bool) error {
	switch {
	case l.Hold == HoldOn:
		return fmt.Errorf("under legal hold: %w", ErrLocked)
	case l.Retention.active(now) && (l.Retention.Mode != Governance || !bypass):
		return fmt.Errorf("%v until %v: %w", l.Retention.Mode, l.Retention.Until.Format(time.RFC3339), ErrLocked)
	}
	return nil
}

// Locked reports whether somebody without the right to bypass could not delete a
// version with the lock at now, a time of the store clock.
func (l *Lock) Locked(now time.Time) bool { return l.refuses(now, false) != nil }

// LockConfig is the object lock of a bucket, which has it as long as it lives.
type LockConfig struct {
	// Mode of the retention that a new version gets by default, for Days or Years, one
	// of which is positive; NoRetention: none.
	Mode  LockMode `json:"mode,omitempty"`
	Days  int      `json:"days,omitempty"`
	Years int      `json:"years,omitempty"`
}

// Limits of a default retention, as S3 has them.
const (
	MaxLockDays  = 36500
	MaxLockYears = 100
)

// retention is that of a version that is put at now.
func (c *LockConfig) retention(now time.Time) Retention {
	if c.Mode == NoRetention {
		return Retention{}
	}
	return NewRetention(c.Mode, now.AddDate(c.Years, 0, c.Days))
}

// Tags of fields of what is locked, of objects and uploads.
const (
	tagRetention = 0x20
	tagHold      = 0x21
)

func (l *Lock) append(dst []byte) []byte {
	if r := &l.Retention; r.Mode != NoRetention {
		var few [1 + binary.MaxVarintLen64]byte
		few[0] = byte(r.Mode)
		dst = appendField(dst, tagRetention, binary.AppendUvarint(few[:1], uint64(r.Until.UnixMilli())))
	}
	if l.Hold != NoHold {
		dst = appendField(dst, tagHold, []byte{byte(l.Hold)})
	}
	return dst
}

// decode decodes a field of a lock; it is not known if the tag is another's.
func (l *Lock) decode(tag byte, v []byte) (known bool, err error) {
	switch tag {
	case tagRetention:
		if len(v) < 2 || v[0] == 0 || v[0] >= byte(numLockModes) {
			return true, corrupt("bad retention % x", v)
		}
		ms, rest, ok := takeUvarint(v[1:])
		if !ok || len(rest) > 0 || ms > maxRetainMillis {
			return true, corrupt("bad retention % x", v)
		}
		l.Retention = Retention{Mode: LockMode(v[0]), Until: time.UnixMilli(int64(ms)).UTC()}
	case tagHold:
		if len(v) != 1 || v[0] == 0 || v[0] >= byte(numHolds) {
			return true, corrupt("bad legal hold % x", v)
		}
		l.Hold = LegalHold(v[0])
	default:
		return false, nil
	}
	return true, nil
}

// maxRetainMillis is the end of the year 9999.
const maxRetainMillis = 253402300799999

// MaxRetainUntil is the latest time that a version can be retained until.
func MaxRetainUntil() time.Time { return time.UnixMilli(maxRetainMillis).UTC() }

// check refuses a lock that nobody can ask for of a version in a bucket. Errors:
// ErrNoObjectLock, ErrRetainUntil.
func (l *Lock) check(set *Settings, now time.Time) error {
	switch {
	case *l == Lock{}:
		return nil
	case set.Lock == nil:
		return ErrNoObjectLock
	case l.Retention.Mode != NoRetention && !l.Retention.active(now):
		return ErrRetainUntil
	}
	return nil
}

// checkLock is Lock.check at the tip.
func (s *Service) checkLock(ctx context.Context, bucket string, l *Lock) error {
	known, _, err := s.guardedSettings(ctx, bucket)
	if err != nil {
		return err
	}
	return l.check(known.set, s.now())
}

// orDefault returns the lock of a version that is put at now, of which l was asked for.
func (l Lock) orDefault(set *Settings, now time.Time) Lock {
	if set.Lock != nil && l.Retention.Mode == NoRetention {
		l.Retention = set.Lock.retention(now)
	}
	return l
}
