package main

import "testing"

func TestBetween(t *testing.T) {
	const want = "\n{\n \"a\": 1\n}"
	for _, console := range []string{"{\n \"a\": 1\n}\nvmruntime: ended\n", "kernel: {x}\n{\n \"a\": 1\n}\nvmruntime: ended\n"} {
		if got := string(between([]byte(console), '{', '}')); got != want {
			t.Errorf("of %q: %q", console, got)
		}
	}
}
