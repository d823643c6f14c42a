package timelinetest

import (
	"syscall"
)

// stepCrash loses what is not synced, right now.
func (m *Model) stepCrash() error {
	percent := m.percent()
	m.note("crash, %d %% of unsynced blocks survive", percent)
	m.count.Add("crash between operations")
	return m.recover(m.disk.Crash(percent), nil)
}

func (m *Model) percent() int {
	switch m.rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return 100
	default:
		return m.rng.IntN(101)
	}
}

// stepArmCrash makes one of the next file system calls the last.
func (m *Model) stepArmCrash() error {
	areas := []Area{AreaWAL, AreaLayers, AreaValues, AreaCatalog, ""}
	area, k, percent := areas[m.rng.IntN(len(areas))], m.rng.IntN(30), m.percent()
	m.note("crash at call %d to %q, %d %% of unsynced blocks survive", k, area, percent)
	m.disk.CrashAt(area, k, percent)
	return nil
}

// stepArmFault makes some of the next file system calls fail.
func (m *Model) stepArmFault() error {
	if m.faults {
		return nil
	}
	areas := []Area{AreaWAL, AreaWAL, AreaLayers, AreaLayers, AreaValues, AreaValues}
	f := Fault{
		Area: areas[m.rng.IntN(len(areas))], Reads: m.rng.IntN(3) == 0,
		After: m.rng.IntN(12), Times: 1 + m.rng.IntN(2), Err: syscall.EIO,
	}
	if m.rng.IntN(3) == 0 && !f.Reads {
		f.Err = syscall.ENOSPC
	}
	m.note("fail %d calls to %s after %d (reads: %v): %v", f.Times, f.Area, f.After, f.Reads, f.Err)
	m.startFaults(f)
	m.healAt = m.step + 1 + m.rng.IntN(12)
	return nil
}
