package cpulist

import (
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]List{
		"0":              {{0, 0}},
		"0-2,7":          {{0, 2}, {7, 7}},
		"7,0-2":          {{0, 2}, {7, 7}},
		"0-0,0":          {{0, 0}},
		"0,1,2-3":        {{0, 3}},
		"0-9,2-3,10":     {{0, 10}},
		"0,4294967296":   {{0, 0}, {4294967296, 4294967296}},
		"0-9,9-20,22-23": {{0, 20}, {22, 23}},
	} {
		got, err := Parse(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", ",", "x", "1-", "-1", "3-1", "0,", "0 ", "0-3:2", "0-1-2", "+1", "18446744073709551615"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestCount(t *testing.T) {
	for text, want := range map[string]uint64{"0": 1, "0-3": 4, "0,2": 2, "0-1,4-5": 4, "0-3,2": 4, "0-9223372036854775807": 1 << 63} {
		if got := parse(t, text).Count(); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestWithin(t *testing.T) {
	all := parse(t, "0-3,8")
	for text, want := range map[string]bool{"0": true, "1-3,8,0": true, "0-3": true, "3-4": false, "0-8": false, "5": false} {
		if got := parse(t, text).Within(all); got != want {
			t.Errorf("%s within %v: %v", text, all, got)
		}
	}
}

func parse(t *testing.T, text string) List {
	t.Helper()
	l, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
