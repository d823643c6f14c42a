package main

import (
	_ "embed"
	"html/template"
	"io"

	"stemma/benchmarks/report"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"number": report.Format, "unlessZero": unlessZero}).Parse(pageText))

// suite is the rows of one suite with their plots.
type suite struct {
	Name           string
	Rows           []report.Row
	Times          []template.HTML // one for each unit
	Curves, Ratios template.HTML
}

// writePage writes reports as one page that needs nothing else.
func writePage(w io.Writer, reports []*report.Report) error {
	var page struct {
		Reports     []*report.Report
		Suites      []suite
		Comparisons []report.Comparison
		Intervals   template.HTML
	}
	page.Reports = reports
	at := make(map[string]int)
	for _, r := range reports {
		for _, row := range r.Rows {
			i, ok := at[row.Suite]
			if !ok {
				i = len(page.Suites)
				at[row.Suite] = i
				page.Suites = append(page.Suites, suite{Name: row.Suite})
			}
			page.Suites[i].Rows = append(page.Suites[i].Rows, row)
		}
		page.Comparisons = append(page.Comparisons, r.Comparisons...)
	}
	// The plots are SVG of our own making, in which gonum/plot has escaped the names.
	for i := range page.Suites {
		s := &page.Suites[i]
		t, err := overTime(s.Rows)
		if err != nil {
			return err
		}
		for _, svg := range t {
			s.Times = append(s.Times, template.HTML(svg))
		}
		c, err := curves(s.Rows)
		if err != nil {
			return err
		}
		b, err := ratios(s.Rows)
		if err != nil {
			return err
		}
		s.Curves, s.Ratios = template.HTML(c), template.HTML(b)
	}
	c, err := intervals(page.Comparisons)
	if err != nil {
		return err
	}
	page.Intervals = template.HTML(c)
	return pageTemplate.Execute(w, page)
}

// unlessZero leaves out what is not known.
func unlessZero(v float64) string {
	if v == 0 {
		return ""
	}
	return report.Format(v)
}
