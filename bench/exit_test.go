package main

import (
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	k, zero := newClock(), time.Unix(1_700_000_000, 0)
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	// A clock that is 100 ms ahead, asked slowly and then fast.
	k.learn(at(0), at(105), at(50))
	k.learn(at(60), at(161), at(62))
	earliest, latest, err := k.ours(at(200))
	if err != nil || !earliest.Equal(at(99)) || !latest.Equal(at(101)) {
		t.Errorf("200 was between %v and %v (%v), want 99 and 101", earliest.Sub(zero), latest.Sub(zero), err)
	}
	k.learn(at(300), at(500), at(301))
	if _, _, err := k.ours(at(500)); err == nil {
		t.Error("a clock that was set is believed")
	}
}

func TestParseStamp(t *testing.T) {
	got, err := parseStamp("1700000000.000250")
	if err != nil || !got.Equal(time.Unix(1_700_000_000, 250_000)) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "12", "12.5", "a.000000", "1.00000x"} {
		if _, err := parseStamp(bad); err == nil {
			t.Errorf("%q is taken for a time", bad)
		}
	}
}
