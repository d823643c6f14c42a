package report

import (
	"encoding/json"
	"fmt"
	"io"
)

// The schema that WriteJSON writes.
const (
	Schema  = "stemma-bench"
	Version = 1
)

// Report is what a run measured.
type Report struct {
	Schema      string       `json:"schema"`
	Version     int          `json:"version"`
	Machine     Machine      `json:"machine"`
	Command     string       `json:"command"` // that measured
	Rows        []Row        `json:"rows"`
	Comparisons []Comparison `json:"comparisons,omitempty"`
}

// New returns a report without rows.
func New(m Machine, command string) *Report {
	return &Report{Schema: Schema, Version: Version, Machine: m, Command: command, Rows: []Row{}}
}

// Add adds rows.
func (r *Report) Add(rows ...Row) { r.Rows = append(r.Rows, rows...) }

// WriteJSON writes r as indented JSON.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// ReadJSON reads what WriteJSON wrote.
func ReadJSON(in io.Reader) (*Report, error) {
	var r Report
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return nil, fmt.Errorf("read report: %w", err)
	}
	if r.Schema != Schema || r.Version != Version {
		return nil, fmt.Errorf("read report: schema %q version %d, want %q version %d", r.Schema, r.Version, Schema, Version)
	}
	return &r, nil
}
