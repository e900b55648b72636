package main

import (
	"math"
	"slices"
)

// A spread sums values up: the median, the quartiles and the extremes.
type spread struct {
	median, low, high, least, most float64
}

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	return spread{
		median: quantile(sorted, 0.5),
		low:    quantile(sorted, 0.25),
		high:   quantile(sorted, 0.75),
		least:  quantile(sorted, 0),
		most:   quantile(sorted, 1),
	}
}

// quantile of sorted values, linear between two of them.
func quantile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := p * float64(len(sorted)-1)
	below, part := math.Modf(at)
	i := int(below)
	if part == 0 {
		return sorted[i]
	}
	return sorted[i] + part*(sorted[i+1]-sorted[i])
}
