package main

import "testing"

func TestRuleFlags(t *testing.T) {
	var f ruleFlags
	for _, text := range []string{"hourly:every=1h,keep-for=48h", "daily:every=24h,keep-for=720h,keep-last=7"} {
		if err := f.Set(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if want := "hourly:every=1h,keep-for=48h daily:every=24h,keep-for=720h,keep-last=7"; f.String() != want {
		t.Errorf("%q, want %q", f.String(), want)
	}
	for _, text := range []string{"hourly", "hourly:often", "hourly:every=1h,keep-last=few"} {
		if err := f.Set(text); err == nil {
			t.Errorf("%s passes", text)
		}
	}
	if err := f.Set("none"); err != nil || f == nil || len(f) != 0 {
		t.Errorf("none: %v, %v", f, err)
	}
}
