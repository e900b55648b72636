package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// crowds are how many containers run when memory is looked at.
var crowds = []int{1, 10, 50}

const (
	ofQEMU = "QEMU"
	ofShim = "shim"
	ofBoth = "QEMU and shim"
)

// measureDensity measures the proportional set size of what a container needs on the
// host, with ever more idle containers. Pages that several processes map count for
// each by its part, so the sum is what they take together.
func measureDensity(ctx context.Context, l *lab) ([]Figure, error) {
	warmly, err := l.warm(ctx)
	if err != nil {
		return nil, err
	}
	bundle, err := l.bundle([]string{"sleep", "infinity"})
	if err != nil {
		return nil, err
	}
	var figures []Figure
	var running []*container
	for _, crowd := range crowds {
		for len(running) < crowd {
			c, err := l.start(ctx, warmly, bundle)
			if err != nil {
				return nil, err
			}
			running = append(running, c)
		}
		f, err := look(running)
		if err != nil {
			return nil, err
		}
		progress("%d containers: %s MiB each", crowd, digits(mean(f.Series[2].Values)))
		figures = append(figures, f)
	}
	return append(figures, marginal(figures)), nil
}

// look measures every container.
func look(running []*container) (Figure, error) {
	qemu, shim, both := Series{Name: ofQEMU}, Series{Name: ofShim}, Series{Name: ofBoth}
	for _, c := range running {
		pid, err := qemuOf(c.pid)
		if err != nil {
			return Figure{}, err
		}
		q, err := pss(pid)
		if err != nil {
			return Figure{}, err
		}
		s, err := pss(c.pid)
		if err != nil {
			return Figure{}, err
		}
		qemu.Values, shim.Values, both.Values = append(qemu.Values, q), append(shim.Values, s), append(both.Values, q+s)
	}
	return Figure{Name: fmt.Sprintf("each of %d", len(running)), Unit: "MiB", Series: []Series{qemu, shim, both}}, nil
}

// pss is the proportional set size of a process in MiB.
func pss(pid int) (float64, error) {
	path := filepath.Join("/proc", fmt.Sprint(pid), "smaps_rollup")
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return parsePSS(path, string(text))
}

func parsePSS(path, text string) (float64, error) {
	for line := range strings.Lines(text) {
		var kib float64
		if _, err := fmt.Sscanf(line, "Pss: %f kB", &kib); err == nil {
			return kib / 1024, nil
		}
	}
	return 0, fmt.Errorf("%s has no Pss", path)
}

// marginal is what one more container takes: the slope between the figures, from
// each crowd to the next.
func marginal(figures []Figure) Figure {
	m := Figure{Name: "one more", Unit: "MiB", Bounds: []Bound{{ofBoth, Aim{AtMost: 60e6 / (1 << 20)}}}}
	for n, s := range figures[0].Series {
		steps := Series{Name: s.Name}
		for i := 1; i < len(figures); i++ {
			few, many := figures[i-1].Series[n].Values, figures[i].Series[n].Values
			steps.Values = append(steps.Values, (sum(many)-sum(few))/float64(len(many)-len(few)))
		}
		m.Series = append(m.Series, steps)
	}
	return m
}

func sum(values []float64) float64 {
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total
}

func mean(values []float64) float64 { return sum(values) / float64(len(values)) }
