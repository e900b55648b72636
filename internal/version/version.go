// Package version tells which build the programs of vmruntime are of.
package version

import (
	"runtime/debug"
	"strings"
)

// version and commit are set by -ldflags -X.
var version, commit string

// Text is the version, as 1.2.3.
func Text() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// Commit is the revision that was built, empty if nobody knows.
func Commit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

// Build is how programs recognize that they are not of one build.
func Build() string { return strings.TrimSpace(Text() + " " + Commit()) }
