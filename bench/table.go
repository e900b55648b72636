package main

import (
	"fmt"
	"math"
	"strings"
)

// writeTable writes what a figure measured, and how it compares, as Markdown.
func writeTable(out *strings.Builder, f Figure) error {
	title := f.Unit
	if f.Name != "" {
		title = f.Name + ", " + f.Unit
	}
	fmt.Fprintf(out, "| %s | median | quartiles | least to most | aim |\n|---|---|---|---|---|\n", title)
	for _, s := range f.Series {
		aim := Aim{}
		for _, b := range f.Bounds {
			if b.Of == s.Name {
				aim = b.Aim
			}
		}
		writeLine(out, s.Name, s.Values, aim)
	}
	for _, r := range f.Ratios {
		values, err := r.values(f)
		if err != nil {
			return err
		}
		writeLine(out, "**"+r.Of+" / "+r.To+"**", values, r.Aim)
	}
	return nil
}

func writeLine(out *strings.Builder, name string, values []float64, aim Aim) {
	s := spreadOf(values)
	fmt.Fprintf(out, "| %s | %s | %s – %s | %s – %s | %s |\n", name,
		digits(s.median), digits(s.low), digits(s.high), digits(s.least), digits(s.most), verdict(aim, s.median))
}

// writeSummary writes figures of the same contenders and ratios, a line each:
// medians, and with ratios their quartiles.
func writeSummary(out *strings.Builder, figures []Figure) error {
	head, rule := "| median (quartiles) |", "|---|"
	for _, s := range figures[0].Series {
		head, rule = head+" "+s.Name+" |", rule+"---|"
	}
	for _, r := range figures[0].Ratios {
		head, rule = head+" "+r.Of+" / "+r.To+" |", rule+"---|"
	}
	fmt.Fprintf(out, "%s\n%s\n", head, rule)
	for _, f := range figures {
		fmt.Fprintf(out, "| %s, %s |", f.Name, f.Unit)
		for _, s := range f.Series {
			fmt.Fprintf(out, " %s |", digits(spreadOf(s.Values).median))
		}
		for _, r := range f.Ratios {
			values, err := r.values(f)
			if err != nil {
				return err
			}
			s := spreadOf(values)
			fmt.Fprintf(out, " **%s** (%s – %s)", digits(s.median), digits(s.low), digits(s.high))
			if aim := verdict(r.Aim, s.median); aim != "" {
				out.WriteString(" " + aim)
			}
			out.WriteString(" |")
		}
		out.WriteString("\n")
	}
	return nil
}

// verdict says whether the median is what it should be.
func verdict(a Aim, median float64) string {
	var words []string
	if a.AtMost != 0 {
		words = append(words, "at most "+short(a.AtMost))
	}
	if a.AtLeast != 0 {
		words = append(words, "at least "+short(a.AtLeast))
	}
	if words == nil {
		return ""
	}
	if !a.met(median) {
		words = append(words, "**missed**")
	} else {
		words = append(words, "met")
	}
	return strings.Join(words, ", ")
}

// digits writes a number with three significant digits, and never with an
// exponent.
func digits(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Sprint(v)
	}
	const significant = 3
	places := significant - 1 - int(math.Floor(math.Log10(math.Abs(v))))
	return fmt.Sprintf("%.*f", max(places, 0), v)
}

// short is a number that somebody chose.
func short(v float64) string {
	text := digits(v)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}
