package runtime

import (
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// capabilityWarnings names, in runc's words, the capabilities that no kernel knows:
// they cannot be given.
func capabilityWarnings(c *specs.LinuxCapabilities) []string {
	if c == nil {
		return nil
	}
	var unknown []string
	for _, set := range [][]string{c.Bounding, c.Effective, c.Inheritable, c.Permitted, c.Ambient} {
		for _, name := range set {
			if !slices.Contains(capabilities, name) {
				unknown = append(unknown, name)
			}
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return []string{fmt.Sprint("ignoring unknown or unavailable capabilities: ", slices.Compact(unknown))}
}

// ambientWarnings are about what the kernel refuses to raise (capabilities(7)), in
// runc's words.
func ambientWarnings(c *specs.LinuxCapabilities) []string {
	if c == nil {
		return nil
	}
	var warnings []string
	for _, name := range c.Ambient {
		if !slices.Contains(c.Inheritable, name) || !slices.Contains(c.Permitted, name) {
			warnings = append(warnings, "can't raise ambient capability "+name+": it must be permitted and inheritable as well")
		}
	}
	return warnings
}
