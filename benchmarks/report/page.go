package report

import (
	_ "embed"
	"html/template"
	"io"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"number": number, "unlessZero": unlessZero}).Parse(pageText))

// suite is the rows of one suite with their plots.
type suite struct {
	Name           string
	Rows           []Row
	Curves, Ratios template.HTML
}

// WriteHTML writes r as one page that needs nothing else.
func (r *Report) WriteHTML(w io.Writer) error {
	page := struct {
		*Report
		Suites    []suite
		Intervals template.HTML
	}{Report: r}
	at := make(map[string]int)
	for _, row := range r.Rows {
		i, ok := at[row.Suite]
		if !ok {
			i = len(page.Suites)
			at[row.Suite] = i
			page.Suites = append(page.Suites, suite{Name: row.Suite})
		}
		page.Suites[i].Rows = append(page.Suites[i].Rows, row)
	}
	for i := range page.Suites {
		s := &page.Suites[i]
		c, err := curves(s.Rows)
		if err != nil {
			return err
		}
		b, err := ratios(s.Rows)
		if err != nil {
			return err
		}
		// The plots are SVG of our own making, in which gonum/plot has escaped the names.
		s.Curves, s.Ratios = template.HTML(c), template.HTML(b)
	}
	c, err := intervals(r.Comparisons)
	if err != nil {
		return err
	}
	page.Intervals = template.HTML(c)
	return pageTemplate.Execute(w, page)
}
