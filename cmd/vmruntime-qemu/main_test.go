package main

import (
	"strings"
	"testing"
)

func TestEmulatesClone(t *testing.T) {
	for line, want := range map[string]bool{
		"-accel tcg,tb-size=40 -incoming defer": true,
		"-accel tcg -incoming defer":            true,
		"-accel kvm -incoming defer":            false,
		"-accel tcg,tb-size=72":                 false,
		"-machine none,accel=kvm:tcg":           false,
	} {
		if got := emulatesClone(strings.Fields(line)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}
