package object

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// SnapshotRule has snapshots taken of a bucket at regular times, and deletes them again.
type SnapshotRule struct {
	// Name tells the snapshots of a rule apart: they are named by SnapshotName. 1 to
	// MaxRuleNameBytes of a-z, 0-9 and -, the first a letter. Unique among the rules of a bucket.
	Name string `json:"name"`
	// Every is how often: at each multiple of it since 1970, UTC. Whole minutes, up to
	// MaxRuleEvery.
	Every time.Duration `json:"every"`
	// KeepFor is when a snapshot expires, from the moment that it keeps; zero: never.
	KeepFor time.Duration `json:"keep_for,omitempty"`
	// KeepLast is how many snapshots of the rule there are at most, besides held ones; zero: no
	// bound. One of the two must be set.
	KeepLast int `json:"keep_last,omitempty"`
}

// Limits of the rules of a bucket.
const (
	MaxSnapshotRules = 16
	MaxRuleNameBytes = 32
	MaxRuleEvery     = 366 * 24 * time.Hour
	MaxRuleKeepFor   = 100 * 366 * 24 * time.Hour
	MaxRuleKeepLast  = 10_000
)

// slotFormat is how the name of a snapshot of a rule ends.
const slotFormat = "20060102T150405Z"

// Due returns the newest moment that the rule is for, at or before now.
func (r *SnapshotRule) Due(now time.Time) time.Time {
	every := int64(r.Every / time.Second)
	sec := now.Unix()
	return time.Unix(sec-sec%every, 0).UTC()
}

// SnapshotName returns the name of the rule's snapshot of a moment.
func (r *SnapshotRule) SnapshotName(at time.Time) string {
	return r.Name + "-" + at.UTC().Format(slotFormat)
}

// Took reports whether a snapshot has the name of one that the rule took.
func (r *SnapshotRule) Took(snapshot string) bool {
	end, ok := strings.CutPrefix(snapshot, r.Name+"-")
	if !ok {
		return false
	}
	_, err := time.Parse(slotFormat, end)
	return err == nil
}

// rulesField is how rules stand in encoded attributes, and nothing else does: strings have no bare quotes.
var rulesField = []byte(`"snapshots":[`)

// HasSnapshotRules reports whether encoded attributes have rules, without decoding them. It is made for
// timeline.Options.MarkAttributes.
func HasSnapshotRules(attrs []byte) bool { return bytes.Contains(attrs, rulesField) }

// checkRules refuses what is out of range. Errors: ErrBadAttributes.
func checkRules(rules []SnapshotRule) error {
	if len(rules) > MaxSnapshotRules {
		return fmt.Errorf("%d rules for snapshots, at most %d: %w", len(rules), MaxSnapshotRules, ErrBadAttributes)
	}
	seen := make(map[string]bool, len(rules))
	for i := range rules {
		r := &rules[i]
		bad := ""
		switch {
		case !r.nameIsGood():
			bad = fmt.Sprintf("want a name of 1 to %d letters a-z, digits and -, that begins with a letter", MaxRuleNameBytes)
		case seen[r.Name]:
			bad = "another rule has its name"
		case r.Every < time.Minute || r.Every > MaxRuleEvery || r.Every%time.Minute != 0:
			bad = fmt.Sprintf("every must be whole minutes, up to %v", MaxRuleEvery)
		case r.KeepFor < 0 || r.KeepFor > MaxRuleKeepFor || r.KeepLast < 0 || r.KeepLast > MaxRuleKeepLast:
			bad = fmt.Sprintf("keep_for is at most %v, keep_last at most %d", MaxRuleKeepFor, MaxRuleKeepLast)
		case r.KeepFor == 0 && r.KeepLast == 0:
			bad = "it needs keep_for or keep_last"
		}
		if bad != "" {
			return fmt.Errorf("rule %.40q for snapshots: %s: %w", r.Name, bad, ErrBadAttributes)
		}
		seen[r.Name] = true
	}
	return nil
}

func (r *SnapshotRule) nameIsGood() bool {
	if r.Name == "" || len(r.Name) > MaxRuleNameBytes || r.Name[0] < 'a' || r.Name[0] > 'z' {
		return false
	}
	return strings.Trim(r.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
