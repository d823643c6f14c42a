package report

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine says where and when figures were measured.
type Machine struct {
	Date       time.Time `json:"date"`
	Commit     string    `json:"commit"` // with "+changes" when the tree was not clean; "" when unknown
	Go         string    `json:"go"`
	Kernel     string    `json:"kernel"`
	CPU        string    `json:"cpu"`
	Cores      int       `json:"cores"`
	Memory     int64     `json:"memory_bytes"`
	FileSystem string    `json:"file_system"` // of the data, and its device
	// Load is the load average over a minute before the measurement: above a few
	// tenths of Cores, somebody else was working too.
	Load float64 `json:"load_average"`
}

// MachineOf describes this machine and the file system of dir. What cannot be
// found out is left empty.
func MachineOf(dir string) Machine {
	m := Machine{Date: time.Now().UTC().Truncate(time.Second), Commit: commit(), Go: runtime.Version(), Cores: runtime.NumCPU()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	m.CPU = procField("/proc/cpuinfo", "model name")
	if kib, err := strconv.ParseInt(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.Memory = kib << 10
	}
	m.FileSystem = fileSystem(dir)
	if p, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(p), " ")
		m.Load, _ = strconv.ParseFloat(first, 64)
	}
	return m
}

// procField returns the value of the first line "name : value" of a file.
func procField(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// fileSystem returns type and device of the mount that dir is on: of those whose
// mount point is a prefix, the longest.
func fileSystem(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return ""
	}
	defer f.Close()
	var best, found string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			continue
		}
		at := fields[1]
		if within := at == "/" || dir == at || strings.HasPrefix(dir, at+"/"); within && len(at) >= len(best) {
			best, found = at, fmt.Sprintf("%s on %s", fields[2], fields[0])
		}
	}
	return found
}

// commit returns the revision that this binary was built from, or else that of the
// working directory.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		var rev, dirty string
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				rev = s.Value[:min(len(s.Value), 12)]
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "+changes"
			}
		}
		if rev != "" {
			return rev + dirty
		}
	}
	out, err := exec.Command("git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+changes").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
