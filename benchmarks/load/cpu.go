package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// ticksPerSecond is USER_HZ, which is 100 on every Linux.
const ticksPerSecond = 100

// CPUOf returns a function that reads how much processor time, user and system, a
// process has used, in steps of 10 ms: what Options.CPU wants.
func CPUOf(pid int) func() (time.Duration, error) {
	name := fmt.Sprintf("/proc/%d/stat", pid)
	return func() (time.Duration, error) {
		p, err := os.ReadFile(name)
		if err != nil {
			return 0, fmt.Errorf("processor time of the server: %w", err)
		}
		return parseStat(p)
	}
}

// parseStat returns utime + stime: fields 14 and 15, counted after the name of the
// program, which may hold anything.
func parseStat(p []byte) (time.Duration, error) {
	_, rest, ok := cutLast(p, ") ")
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("processor time of the server: %q", p)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor time of the server: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / ticksPerSecond), nil
}

func cutLast(p []byte, sep string) (before, after []byte, ok bool) {
	i := bytes.LastIndex(p, []byte(sep))
	if i < 0 {
		return p, nil, false
	}
	return p[:i], p[i+len(sep):], true
}

// meterCPU reads cpu at start and at stop, or when ended is closed if that is
// earlier or stop is zero. The returned function waits for the second reading and
// returns the difference.
func meterCPU(cpu func() (time.Duration, error), start, stop time.Time, ended <-chan struct{}) func() (time.Duration, error) {
	if cpu == nil {
		return func() (time.Duration, error) { return 0, nil }
	}
	type reading struct {
		used time.Duration
		err  error
	}
	out := make(chan reading, 1)
	go func() {
		wait(start, ended)
		before, err := cpu()
		if err != nil {
			out <- reading{0, err}
			return
		}
		wait(stop, ended)
		after, err := cpu()
		out <- reading{after - before, err}
	}()
	return func() (time.Duration, error) {
		r := <-out
		return r.used, r.err
	}
}

// wait returns at t or when ended is closed; a zero t never comes.
func wait(t time.Time, ended <-chan struct{}) {
	if t.IsZero() {
		<-ended
		return
	}
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ended:
	}
}
