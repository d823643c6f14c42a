package object

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSnapshotRules(t *testing.T) {
	hourly := SnapshotRule{Name: "hourly", Every: time.Hour, KeepLast: 3}
	now := time.Date(2026, 11, 29, 18, 47, 12, 5, time.FixedZone("", 3600))
	if due := hourly.Due(now); !due.Equal(time.Date(2026, 11, 29, 17, 0, 0, 0, time.UTC)) || hourly.SnapshotName(due) != "hourly-20261129T170000Z" {
		t.Errorf("due %v, %s", due, hourly.SnapshotName(due))
	}
	if due := hourly.Due(now); !hourly.Due(due).Equal(due) {
		t.Error("a moment that is due is not due at itself")
	}
	if !hourly.Took("hourly-20261129T170000Z") || hourly.Took("hourly-x-20261129T170000Z") || hourly.Took("hourly-eval") || hourly.Took("hourly") {
		t.Error("snapshots of the rule are taken for others, or others for them")
	}
	with := func(change func(r *SnapshotRule)) SnapshotRule { r := hourly; change(&r); return r }
	for name, rules := range map[string][]SnapshotRule{
		"no name":           {with(func(r *SnapshotRule) { r.Name = "" })},
		"name with a space": {with(func(r *SnapshotRule) { r.Name = "a b" })},
		"name of a digit":   {with(func(r *SnapshotRule) { r.Name = "1" })},
		"long name":         {with(func(r *SnapshotRule) { r.Name = strings.Repeat("a", MaxRuleNameBytes+1) })},
		"twice":             {hourly, hourly},
		"too often":         {with(func(r *SnapshotRule) { r.Every = time.Second })},
		"odd seconds":       {with(func(r *SnapshotRule) { r.Every = 90 * time.Second })},
		"too seldom":        {with(func(r *SnapshotRule) { r.Every = MaxRuleEvery + time.Minute })},
		"kept for ever":     {with(func(r *SnapshotRule) { r.KeepLast = 0 })},
		"negative":          {with(func(r *SnapshotRule) { r.KeepFor = -time.Hour })},
		"too many":          slices.Repeat([]SnapshotRule{hourly}, MaxSnapshotRules+1),
	} {
		a := Attributes{Snapshots: rules}
		if err := a.check(); !errors.Is(err, ErrBadAttributes) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := Attributes{Snapshots: []SnapshotRule{hourly, {Name: "daily", Every: 24 * time.Hour, KeepFor: 30 * 24 * time.Hour}}}
	if err := a.check(); err != nil {
		t.Error(err)
	}
	if again, err := decodeAttributes(a.encode()); err != nil || !slices.Equal(again.Snapshots, a.Snapshots) {
		t.Errorf("%+v, %v", again, err)
	}
}
