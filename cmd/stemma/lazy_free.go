package main

import (
	"os"
	"strings"
	"syscall"
)

// freeLazily has the process give freed heap back with MADV_FREE, which takes
// effect only at its start: so it starts itself anew, once, as the same process.
//
// The heap swings by a memlayer with every flush. What was given back with
// MADV_DONTNEED, Go's default, costs a page fault when it is used again, half of
// one for every 4 KiB put; with MADV_FREE the kernel takes a page only when
// somebody else needs it. Who sets madvdontneed in GODEBUG decides otherwise.
// Where it cannot be done the default stays.
func freeLazily() {
	const setting = "madvdontneed="
	old := os.Getenv("GODEBUG")
	if strings.Contains(old, setting) {
		return
	}
	exe, err := os.Executable()
	if err != nil || os.Setenv("GODEBUG", strings.TrimPrefix(old+","+setting+"0", ",")) != nil {
		return
	}
	_ = syscall.Exec(exe, os.Args, os.Environ()) // returns only when it failed
}
