package server

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory is what the kernel says of the resident memory of a process, in bytes.
type Memory struct {
	// Now leaves out what the process has given back and the kernel has not taken yet,
	// since nobody else wanted it (MADV_FREE).
	Now int64
	// Peak does not.
	Peak int64
}

// Memory reads the server's resident memory now and at its peak.
func (s *Server) Memory() (Memory, error) { return MemoryOf(s.cmd.Process.Pid) }

// MemoryOf reads the resident memory of a process.
func MemoryOf(pid int) (Memory, error) {
	var m Memory
	for file, fields := range map[string]map[string]func(n int64){
		"status":       {"VmRSS": func(n int64) { m.Now += n }, "VmHWM": func(n int64) { m.Peak = n }},
		"smaps_rollup": {"LazyFree": func(n int64) { m.Now -= n }},
	} {
		if err := eachField(fmt.Sprintf("/proc/%d/%s", pid, file), fields); err != nil {
			return Memory{}, err
		}
	}
	return m, nil
}

// eachField hands the values, in bytes, of lines "name: n kB" to those who want them.
func eachField(file string, fields map[string]func(n int64)) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if want := fields[name]; want != nil && err == nil {
			want(kib << 10)
		}
	}
	return lines.Err()
}
