package main

import (
	"strings"
	"testing"
)

func TestShorten(t *testing.T) {
	long, path := strings.Repeat("x y", 1000), "/"+strings.Repeat("p", 1000)
	for message, want := range map[string]string{
		`args[0]: "a" is long, "b" is not`:           `args[0]: "a" is long, "b" is not`,
		`"a": ` + long[:200] + `: "b"`:               `"a": ` + long[:200] + `: "b"`,
		`cwd: "` + long + `" must be "absolute"`:     `cwd: "` + long[:99] + `..." must be "absolute"`,
		`"` + strings.Repeat(`\"`, 200) + `" no "b"`: `"` + strings.Repeat(`\"`, 49) + `...` + `" no "b"`,
		"stat " + path + ": file name too long":      "stat " + path[:100] + "... file name too long",
		"x" + strings.Repeat("ü", 200):               "x" + strings.Repeat("ü", 49) + "...",
		"two\nlines":                                 "two\nlines",
	} {
		if got := shorten(message); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
