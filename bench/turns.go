package main

import (
	"context"
	"fmt"
	"slices"
)

// A contender is one of those that a row compares.
type contender struct {
	name string
	// measure takes one turn and gives a value for each figure of its row.
	measure func(ctx context.Context) ([]float64, error)
}

// turn ends what hangs.
func (c contender) turn(ctx context.Context) ([]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.measure(ctx)
}

// warmUp has each contender measured once, uncounted: whatever comes first would pay
// for the caches of all.
func warmUp(ctx context.Context, contenders []contender) error {
	progress("once each, uncounted")
	for _, c := range contenders {
		if _, err := c.turn(ctx); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// takeTurns has each contender measured once per turn, one after the other and every other
// time in reverse, and fills the figures. What happens to the machine meanwhile happens to all of
// them, and whatever changes steadily does so for none more than for another.
func takeTurns(ctx context.Context, turns int, figures []Figure, contenders []contender) ([]Figure, error) {
	for i := range figures {
		for _, c := range contenders {
			figures[i].Series = append(figures[i].Series, Series{Name: c.name})
		}
	}
	order := make([]int, len(contenders))
	for n := range order {
		order[n] = n
	}
	for turn := range turns {
		for _, n := range order {
			c := contenders[n]
			values, err := c.turn(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			if len(values) != len(figures) {
				return nil, fmt.Errorf("%s: %d values for %d figures", c.name, len(values), len(figures))
			}
			for i, v := range values {
				figures[i].Series[n].Values = append(figures[i].Series[n].Values, v)
			}
			progress("%d/%d %s: %s", turn+1, turns, c.name, listed(figures, values))
		}
		slices.Reverse(order)
	}
	return figures, nil
}

// listed are the values of one turn for a person.
func listed(figures []Figure, values []float64) string {
	text := ""
	for i, v := range values {
		if i > 0 {
			text += ", "
		}
		text += digits(v) + " " + figures[i].Unit
	}
	return text
}
