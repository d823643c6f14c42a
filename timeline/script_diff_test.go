package timeline_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/cockroachdb/datadriven"

	"stemma/layers"
)

// diff A B [from=LSN of A] [at=LSN of B] [prefix=] [after=key] [limit=]: a line
// per key that differs.
func (s *script) diff(d *datadriven.TestData) string {
	text := func(name string) (v string) {
		if d.HasArg(name) {
			d.ScanArgs(s.t, name, &v)
		}
		return v
	}
	from, prefix, after := s.lsns[text("from")], text("prefix"), text("after")
	a, err := s.store.View(context.Background(), d.CmdArgs[0].Key, from)
	if err != nil {
		return errorName(err)
	}
	defer a.Close()
	b, err := s.store.View(context.Background(), d.CmdArgs[1].Key, s.lsn(d))
	if err != nil {
		return errorName(err)
	}
	defer b.Close()
	var lower, upper []byte
	if prefix != "" {
		lower, upper = []byte(prefix), []byte(prefix+"\xff")
	}
	if after != "" {
		lower = []byte(after + "\x00")
	}
	limit := -1
	if d.HasArg("limit") {
		d.ScanArgs(s.t, "limit", &limit)
	}
	diff := s.store.Diff(context.Background(), a, b, layers.NamespaceObjects, lower, upper)
	var out []string
	value := func(r *layers.Record) string {
		if r == nil {
			return "none"
		}
		return string(r.Meta)
	}
	for len(out) != limit && diff.Next() {
		x := diff.Difference()
		out = append(out, fmt.Sprintf("%s: %s -> %s", x.Key, value(x.A), value(x.B)))
	}
	s.check(diff.Err())
	s.check(diff.Close())
	return strings.Join(out, "\n")
}
