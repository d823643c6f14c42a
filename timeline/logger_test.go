package timeline_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// strictLogger fails the test at a Warn or Error line that contains none of
// the strings allowed.
func strictLogger(t testing.TB, allowed ...string) *slog.Logger {
	return slog.New(&strictHandler{t: t, allowed: allowed})
}

type strictHandler struct {
	t       testing.TB
	allowed []string
}

func (h *strictHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (h *strictHandler) WithAttrs([]slog.Attr) slog.Handler           { return h }
func (h *strictHandler) WithGroup(string) slog.Handler                { return h }

func (h *strictHandler) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	for _, a := range h.allowed {
		if strings.Contains(line, a) {
			return nil
		}
	}
	h.t.Errorf("unexpected log line: %s", line)
	return nil
}
