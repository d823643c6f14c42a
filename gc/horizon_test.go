package gc

import (
	"testing"
	"time"

	"stemma/wal"
)

const hour = wal.LSN(time.Hour)

func TestHoldAfterStart(t *testing.T) {
	for _, c := range []struct {
		name               string
		now, last, horizon wal.LSN
		at                 wal.LSN // zero: no hold
	}{
		{"a new store", 1000 * hour, 0, 0, 0},
		{"a short pause", 1000*hour + hour, 1000 * hour, 1000 * hour, 0},
		{"a week off", 1168 * hour, 1000 * hour, 999 * hour, 999 * hour},
		{"a week off, no horizon yet", 1168 * hour, 1000 * hour, 0, 1000 * hour},
		{"a week off, one commit, and a restart", 1168*hour + 5, 1168 * hour, 1000 * hour, 1000 * hour},
		{"the clock behind the log", 900 * hour, 1000 * hour, 1000 * hour, 0},
	} {
		h := HoldAfterStart(c.now, c.last, c.horizon, 7*time.Second)
		want := Hold{}
		if c.at != 0 {
			want = Hold{At: c.at, Until: 7*time.Second + GapLimit}
		}
		if h != want {
			t.Errorf("%s: %+v, want %+v", c.name, h, want)
		}
	}
}

func TestNextHorizon(t *testing.T) {
	hold := Hold{At: 50, Until: 100}
	for _, c := range []struct {
		name                  string
		present, visible, now wal.LSN
		hold                  Hold
		uptime                time.Duration
		next                  wal.LSN
		ok                    bool
	}{
		{"follows commits", 10, 20, 1000, Hold{}, 0, 20, true},
		{"nothing new", 20, 20, 1000, Hold{}, 0, 20, false},
		{"never ahead of the clock", 10, 500, 30, Hold{}, 0, 30, true},
		{"never back", 40, 500, 30, Hold{}, 0, 30, false},
		{"held", 10, 80, 1000, hold, 99, 50, true},
		{"held, and there", 50, 80, 1000, hold, 99, 50, false},
		{"below the hold", 10, 30, 1000, hold, 99, 30, true},
		{"hold over", 50, 80, 1000, hold, 100, 80, true},
	} {
		next, ok := NextHorizon(c.present, c.visible, c.now, c.hold, c.uptime)
		if next != c.next || ok != c.ok {
			t.Errorf("%s: %d, %v, want %d, %v", c.name, next, ok, c.next, c.ok)
		}
	}
}
