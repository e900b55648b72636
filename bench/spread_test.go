package main

import "testing"

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3, 3, 3}},
		{[]float64{2, 1}, spread{median: 1.5, low: 1.25, high: 1.75, least: 1, most: 2}},
		{[]float64{9, 1, 5, 3, 7}, spread{median: 5, low: 3, high: 7, least: 1, most: 9}},
		{[]float64{4, 1, 2, 3}, spread{median: 2.5, low: 1.75, high: 3.25, least: 1, most: 4}},
	} {
		if got := spreadOf(test.values); got != test.want {
			t.Errorf("%v: %+v, want %+v", test.values, got, test.want)
		}
	}
}
