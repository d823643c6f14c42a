package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"stemma/benchmarks/report"
)

// svg renders a plot as an SVG element.
func svg(p *plot.Plot, width, height vg.Length) (string, error) {
	p.X.Padding, p.Y.Padding = 0, 0
	c := vgsvg.New(width, height)
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", fmt.Errorf("draw %s: %w", p.Title.Text, err)
	}
	s := b.String()
	if i := strings.Index(s, "<svg"); i > 0 {
		s = s[i:] // without the XML declaration, inside of HTML
	}
	return s, nil
}

// curves draws latency by percentile, one line for each row that has a curve; "" if
// none has.
func curves(rows []report.Row) (string, error) {
	p := plot.New()
	p.Title.Text = "latency"
	p.X.Label.Text, p.Y.Label.Text = "percentile", "µs"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.X.Tick.Marker = plot.ConstantTicks{
		{Value: 0, Label: "0"}, {Value: 1, Label: "90"}, {Value: 2, Label: "99"}, {Value: 3, Label: "99.9"}, {Value: 4, Label: "99.99"}, {Value: 5, Label: "99.999"},
	}
	p.Add(plotter.NewGrid())
	p.Legend.Top = true
	n := 0
	for i := range rows {
		xy := curve(rows[i].Curve)
		if len(xy) < 2 {
			continue
		}
		if err := addLine(p, n, rows[i].Name, xy); err != nil {
			return "", err
		}
		n++
	}
	if n == 0 {
		return "", nil
	}
	p.X.Max++ // room for the legend
	return svg(p, 26*vg.Centimeter, 13*vg.Centimeter)
}

// addLine adds line number n.
func addLine(p *plot.Plot, n int, name string, xy plotter.XYs) error {
	l, err := plotter.NewLine(xy)
	if err != nil {
		return fmt.Errorf("draw %s: %w", name, err)
	}
	l.Color, l.Dashes, l.Width = plotutil.Color(n), plotutil.Dashes(n/len(plotutil.DefaultColors)), vg.Points(1.5)
	p.Add(l)
	p.Legend.Add(name, l)
	return nil
}

// overTime draws the rows that were watched over time, one plot for each unit.
func overTime(rows []report.Row) (all []string, err error) {
	plots, lines := make(map[string]*plot.Plot), make(map[string]int)
	var units []string
	for i := range rows {
		row := &rows[i]
		if len(row.SeriesAt) < 2 || len(row.SeriesAt) != len(row.Series) {
			continue
		}
		p := plots[row.Unit]
		if p == nil {
			p = plot.New()
			p.Title.Text = row.Unit + " over time"
			p.X.Label.Text, p.Y.Label.Text = "seconds", row.Unit
			p.Y.Min = 0
			p.Add(plotter.NewGrid())
			p.Legend.Top = true
			plots[row.Unit], units = p, append(units, row.Unit)
		}
		var xy plotter.XYs
		for j, at := range row.SeriesAt {
			xy = append(xy, plotter.XY{X: at, Y: row.Series[j]})
		}
		if err := addLine(p, lines[row.Unit], row.Name, xy); err != nil {
			return nil, err
		}
		lines[row.Unit]++
	}
	for _, unit := range units {
		s, err := svg(plots[unit], 26*vg.Centimeter, 11*vg.Centimeter)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// curve places a percentile at the number of its nines.
func curve(steps []report.CurveStep) plotter.XYs {
	var xy plotter.XYs
	for _, s := range steps {
		if s.Percentile < 100 && s.Micros > 0 {
			xy = append(xy, plotter.XY{X: -math.Log10(1 - s.Percentile/100), Y: s.Micros})
		}
	}
	return xy
}

// ratios draws how much of its limit each row reached; "" if no row has one.
func ratios(rows []report.Row) (string, error) {
	var names []string
	var values plotter.Values
	for i := range rows {
		if l := rows[i].Limit; l != nil {
			names, values = append(names, rows[i].Name), append(values, l.Ratio)
		}
	}
	if len(values) == 0 {
		return "", nil
	}
	p := plot.New()
	p.Title.Text = "part of the limit"
	p.X.Min = 0
	bars, err := plotter.NewBarChart(values, vg.Points(12))
	if err != nil {
		return "", fmt.Errorf("draw ratios: %w", err)
	}
	bars.Horizontal, bars.Color, bars.LineStyle.Width = true, plotutil.Color(2), 0
	p.Add(bars)
	p.NominalY(names...)
	return svg(p, 24*vg.Centimeter, vg.Length(len(names)+3)*vg.Centimeter)
}

// intervals draws the confidence interval of each comparison around its ratio; "" if
// there is none.
func intervals(all []report.Comparison) (string, error) {
	var names []string
	points := struct {
		plotter.XYs
		plotter.XErrors
	}{}
	for i := range all {
		r := all[i].Ratio
		if r.Median == 0 {
			continue
		}
		points.XYs = append(points.XYs, plotter.XY{X: r.Median, Y: float64(len(names))})
		points.XErrors = append(points.XErrors, struct{ Low, High float64 }{r.Median - r.Low, r.High - r.Median})
		names = append(names, all[i].Name)
	}
	if len(names) == 0 {
		return "", nil
	}
	p := plot.New()
	p.Title.Text = "B / A, 95 % interval"
	dots, err := plotter.NewScatter(points.XYs)
	if err != nil {
		return "", fmt.Errorf("draw intervals: %w", err)
	}
	dots.GlyphStyle.Shape, dots.GlyphStyle.Color = draw.CircleGlyph{}, plotutil.Color(0)
	bars, err := plotter.NewXErrorBars(points)
	if err != nil {
		return "", fmt.Errorf("draw intervals: %w", err)
	}
	one, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(names)) - 0.5}})
	if err != nil {
		return "", fmt.Errorf("draw intervals: %w", err)
	}
	one.Color = color.Gray{160}
	p.Add(one, bars, dots)
	p.NominalY(names...)
	return svg(p, 24*vg.Centimeter, vg.Length(len(names)+3)*vg.Centimeter)
}
