package main

import (
	"fmt"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// panelColumns is how many charts stand beside each other, panelHeight what one takes.
const (
	panelColumns = 3
	panelHeight  = 6 * vg.Centimeter
)

// drawPanels writes a chart for each figure as one SVG: bars of medians, the first
// series on top. Units differ, so each chart has its own axis.
func drawPanels(r Row, path string) error {
	rows := (len(r.Figures) + panelColumns - 1) / panelColumns
	canvas := vgsvg.New(width, panelHeight*vg.Length(rows))
	tiles := vgdraw.Tiles{Rows: rows, Cols: panelColumns, PadX: vg.Centimeter / 2, PadY: vg.Centimeter / 2}
	within := inset(canvas)
	for i, f := range r.Figures {
		p, err := panel(f)
		if err != nil {
			return fmt.Errorf("picture of %s: %s: %w", r.Name, f.Name, err)
		}
		p.Draw(tiles.At(within, i%panelColumns, i/panelColumns))
	}
	return keep(canvas, path)
}

func panel(f Figure) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = f.Name + ", " + f.Unit
	n := len(f.Series)
	names, medians := make([]string, n), make(plotter.Values, n)
	for i, s := range f.Series {
		names[n-1-i], medians[n-1-i] = s.Name, spreadOf(s.Values).median
	}
	bars, err := plotter.NewBarChart(medians, vg.Centimeter/3)
	if err != nil {
		return nil, err
	}
	bars.Horizontal = true
	bars.Color = color.RGBA{R: 0x3b, G: 0x7d, B: 0xc4, A: 0xff}
	labels, err := valuesOf(medians)
	if err != nil {
		return nil, err
	}
	p.Add(bars, labels)
	p.NominalY(names...)
	p.Y.Min, p.Y.Max = -0.5, float64(n)-0.5
	// The longest bar's value has its place behind it.
	p.X.Min, p.X.Max = 0, p.X.Max*1.3
	return p, nil
}

// valuesOf writes each bar's value at its end.
func valuesOf(values plotter.Values) (*plotter.Labels, error) {
	at := plotter.XYLabels{}
	for i, v := range values {
		at.XYs = append(at.XYs, plotter.XY{X: v, Y: float64(i)})
		at.Labels = append(at.Labels, " "+digits(v))
	}
	labels, err := plotter.NewLabels(at)
	if err != nil {
		return nil, err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i].YAlign = vgdraw.YCenter
	}
	return labels, nil
}
