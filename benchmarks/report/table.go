package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"
	"time"
)

// WriteTable writes r for a terminal.
func (r *Report) WriteTable(w io.Writer) error {
	m := &r.Machine
	fmt.Fprintf(w, "%s, %d cores, %s, %s, %s, commit %s, %s, load average %.2f\n", m.CPU, m.Cores, m.Kernel, m.FileSystem, m.Go,
		m.Commit, m.Date.Format(time.RFC3339), m.Load)
	if len(r.Rows) > 0 {
		fmt.Fprintln(w)
		if err := writeRows(w, r.Rows); err != nil {
			return err
		}
	}
	if len(r.Comparisons) > 0 {
		fmt.Fprintln(w)
		return writeComparisons(w, r.Comparisons)
	}
	return nil
}

func writeRows(w io.Writer, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "WORK\tMEDIAN\tUNIT\tMIN\tMAX\tP50 us\tP90 us\tP99 us\tP99.9 us\tMAX us\tCPU us/op\tERRORS\tOF LIMIT\t")
	for i := range rows {
		row := &rows[i]
		fmt.Fprintf(t, "%s: %s\t%s\t%s\t%s\t%s\t", row.Suite, row.Name, Format(row.Value.Median), row.Unit, Format(row.Value.Min), Format(row.Value.Max))
		if l := row.Latency; l != nil {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t", Format(l.P50), Format(l.P90), Format(l.P99), Format(l.P999), Format(l.Max))
		} else {
			fmt.Fprint(t, "\t\t\t\t\t")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t\n", unlessZero(row.CPU), errorCount(row.Errors), limit(row.Limit))
		for _, c := range row.Classes {
			l := c.Latency
			fmt.Fprintf(t, "- %s\t%d\tops\t\t\t%s\t%s\t%s\t%s\t%s\t\t\t\t\n", c.Name, l.Count, Format(l.P50), Format(l.P90), Format(l.P99), Format(l.P999), Format(l.Max))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range rows {
		if row := &rows[i]; row.FirstError != "" {
			fmt.Fprintf(w, "%s: %s: first error: %s\n", row.Suite, row.Name, row.FirstError)
		}
		if row := &rows[i]; row.Note != "" {
			fmt.Fprintf(w, "%s: %s: %s\n", row.Suite, row.Name, row.Note)
		}
	}
	return nil
}

func writeComparisons(w io.Writer, all []Comparison) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "WORK\tA\tB\tUNIT\tB / A\t95 % FROM\tTO\tDIFFERS\tCPU A us/op\tCPU B us/op\t")
	for i := range all {
		c := &all[i]
		differs := "no"
		if c.Ratio.Differs() {
			differs = "better"
			if (c.Ratio.Median < 1) != c.Lower {
				differs = "worse"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.3f\t%.3f\t%.3f\t%s\t%s\t%s\t\n", c.Name, Format(c.A.Median), Format(c.B.Median), c.Unit,
			c.Ratio.Median, c.Ratio.Low, c.Ratio.High, differs, unlessZero(c.CPUA), unlessZero(c.CPUB))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range all {
		if c := &all[i]; c.ErrorsA+c.ErrorsB > 0 {
			fmt.Fprintf(w, "%s: %d operations of A and %d of B failed\n", c.Name, c.ErrorsA, c.ErrorsB)
		}
	}
	return nil
}

func limit(l *Limit) string {
	if l == nil {
		return ""
	}
	return fmt.Sprintf("%.2f of %s", l.Ratio, l.Name)
}

func errorCount(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func unlessZero(v float64) string {
	if v == 0 {
		return ""
	}
	return Format(v)
}

// Format writes v with three digits or, from 1,000 on, all of its whole part.
func Format(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || a == 0:
		return thousands(strconv.FormatFloat(v, 'f', 0, 64))
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

// thousands puts a comma between groups of three digits.
func thousands(s string) string {
	first := 0
	if s[0] == '-' {
		first = 1
	}
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
