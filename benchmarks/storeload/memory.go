package storeload

import (
	"context"
	"fmt"
	"os"
	"time"

	"stemma/benchmarks/internal/server"
	"stemma/benchmarks/report"
)

// settledMemory reads a server's memory after it had time to come to rest.
func (c *Config) settledMemory(ctx context.Context, s *server.Server) (server.Memory, error) {
	settle := 15 * time.Second
	if c.Small {
		settle = time.Second
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
		return server.Memory{}, ctx.Err()
	}
	return s.Memory()
}

// ownMemory forgets the peak of this process's memory, and returns what reads it.
func ownMemory() func() (server.Memory, error) {
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // if that fails the peak is an upper bound
	return func() (server.Memory, error) { return server.MemoryOf(os.Getpid()) }
}

// memoryRow makes a row of resident memory, beside a limit.
func memoryRow(suite, name string, m server.Memory, limit int64) report.Row {
	row := inMiB(suite, name, float64(m.Now))
	row.SetLimit(fmt.Sprintf("%d MiB", limit/mib), float64(limit)/mib)
	row.Note = fmt.Sprintf("resident; %d MiB at the peak", m.Peak/mib)
	return row
}
