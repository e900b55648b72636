package main

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	vgdraw "gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A picture is how a row is drawn.
type picture int

const (
	// ofValues draws every series, ofRatios every ratio.
	ofValues picture = iota
	ofRatios
	// ofStacks draws, for each figure, the medians of its series as one bar.
	ofStacks
	// ofPanels draws a chart for each figure, with a bar for each series.
	ofPanels
)

// Sizes of pictures.
const (
	width = 24 * vg.Centimeter
	// lane is what one box takes, margin the rest.
	lane   = 0.9 * vg.Centimeter
	margin = 2.4 * vg.Centimeter
)

// draw writes the row's picture as SVG.
func draw(r Row, kind picture, path string) error {
	if kind == ofPanels {
		return drawPanels(r, path)
	}
	p := plot.New()
	var height vg.Length
	var err error
	if kind == ofStacks {
		height, err = 10*vg.Centimeter, stacks(p, r)
	} else {
		var boxes []box
		if boxes, err = boxesOf(r, kind); err == nil {
			height, err = margin+lane*vg.Length(len(boxes)), drawBoxes(p, boxes)
		}
	}
	if err != nil {
		return fmt.Errorf("picture of %s: %w", r.Name, err)
	}
	if kind == ofRatios {
		p.X.Label.Text = "ratio"
	}
	return save(p, height, path)
}

// save keeps long names off the edge.
func save(p *plot.Plot, height vg.Length, path string) error {
	canvas := vgsvg.New(width, height)
	p.Draw(inset(canvas))
	return keep(canvas, path)
}

// inset is the canvas without its edge.
func inset(canvas *vgsvg.Canvas) vgdraw.Canvas {
	const edge = 0.3 * vg.Centimeter
	return vgdraw.Crop(vgdraw.New(canvas), edge, -edge, edge, -edge)
}

func keep(canvas *vgsvg.Canvas, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(file)
	return errors.Join(err, file.Close())
}

// A box is one line of a box plot.
type box struct {
	label  string
	values []float64
	aim    Aim
}

func boxesOf(r Row, kind picture) ([]box, error) {
	var boxes []box
	for _, f := range r.Figures {
		if kind == ofValues {
			for _, s := range f.Series {
				boxes = append(boxes, box{label(f, s.Name+", "+f.Unit), s.Values, f.bound(s.Name)})
			}
			continue
		}
		for _, ratio := range f.Ratios {
			values, err := ratio.values(f)
			if err != nil {
				return nil, err
			}
			boxes = append(boxes, box{label(f, ratio.Of+" / "+ratio.To), values, ratio.Aim})
		}
	}
	return boxes, nil
}

func label(f Figure, name string) string {
	if f.Name == "" {
		return name
	}
	return f.Name + ": " + name
}

// bound is what the series of that name aims at.
func (f Figure) bound(name string) Aim {
	for _, b := range f.Bounds {
		if b.Of == name {
			return b.Aim
		}
	}
	return Aim{}
}

// drawBoxes draws the first box on top, on a logarithmic axis: what is compared
// differs by factors. A red line is an aim.
func drawBoxes(p *plot.Plot, boxes []box) error {
	slices.Reverse(boxes)
	labels := make([]string, len(boxes))
	for i, b := range boxes {
		labels[i] = b.label
		drawn, err := plotter.NewBoxPlot(lane/2, float64(i), plotter.Values(b.values))
		if err != nil {
			return fmt.Errorf("%s: %w", b.label, err)
		}
		drawn.Horizontal = true
		drawn.FillColor = color.RGBA{R: 0xbf, G: 0xd7, B: 0xf0, A: 0xff}
		p.Add(drawn)
		if limit := max(b.aim.AtMost, b.aim.AtLeast); limit != 0 {
			if err := drawAim(p, limit, float64(i)); err != nil {
				return err
			}
		}
	}
	p.NominalY(labels...)
	p.Y.Min, p.Y.Max = -0.5, float64(len(boxes))-0.5
	p.X.Scale = plot.LogScale{}
	p.X.Tick.Marker = plot.TickerFunc(ticks)
	p.X.Min, p.X.Max = wholeSteps(p.X.Min, p.X.Max)
	p.Add(plotter.NewGrid())
	return nil
}

func drawAim(p *plot.Plot, limit, at float64) error {
	const half = 0.4
	line, err := plotter.NewLine(plotter.XYs{{X: limit, Y: at - half}, {X: limit, Y: at + half}})
	if err != nil {
		return err
	}
	line.Color = color.RGBA{R: 0xc0, A: 0xff}
	line.Width = vg.Points(2)
	p.Add(line)
	return nil
}

// ticks are at 1, 2 and 5 of every power of ten.
func ticks(low, high float64) []plot.Tick {
	var marks []plot.Tick
	for power := math.Pow(10, math.Floor(math.Log10(low))); power <= high; power *= 10 {
		for _, step := range []float64{1, 2, 5} {
			if v := power * step; v >= low*0.999 && v <= high*1.001 {
				marks = append(marks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'g', 3, 64)})
			}
		}
	}
	return marks
}

// wholeSteps widens a range to the ticks around it.
func wholeSteps(low, high float64) (float64, float64) {
	around := ticks(low/10, high*10)
	for _, t := range slices.Backward(around) {
		if t.Value <= low {
			low = t.Value
			break
		}
	}
	for _, t := range around {
		if t.Value >= high {
			high = t.Value
			break
		}
	}
	return low, high
}

// stacks draws one bar per figure, of the medians of its series.
func stacks(p *plot.Plot, r Row) error {
	colors := []color.Color{color.RGBA{R: 0x3b, G: 0x7d, B: 0xc4, A: 0xff}, color.RGBA{R: 0xe3, G: 0x9b, B: 0x3f, A: 0xff}}
	var below *plotter.BarChart
	names := make([]string, len(r.Figures))
	for i, f := range r.Figures {
		names[i] = f.Name
	}
	for n, s := range r.Figures[0].Series {
		if n >= len(colors) {
			break
		}
		medians := make(plotter.Values, len(r.Figures))
		for i, f := range r.Figures {
			same, err := f.series(s.Name)
			if err != nil {
				return err
			}
			medians[i] = spreadOf(same.Values).median
		}
		bars, err := plotter.NewBarChart(medians, 2*vg.Centimeter)
		if err != nil {
			return err
		}
		bars.Color = colors[n]
		if below != nil {
			bars.StackOn(below)
		}
		below = bars
		p.Add(bars)
		p.Legend.Add(s.Name, bars)
	}
	p.Legend.Top = true
	// The legend has its place above the bars.
	p.Y.Min, p.Y.Max = 0, p.Y.Max*1.2
	p.Y.Label.Text = r.Figures[0].Unit
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	return nil
}
