// Package testutil is what the tests that run programs have in common.
package testutil

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// most is how much of a text Abbreviate keeps, in bytes.
const most = 800

// Abbreviate quotes a text that may be long.
func Abbreviate(s string) string {
	if len(s) > most {
		return fmt.Sprintf("%q... (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// ExitCode is how a shell counts: 128 and the signal for a violent death.
func ExitCode(state *os.ProcessState) int {
	if status := state.Sys().(syscall.WaitStatus); status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

var plain = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// ShellLine quotes a command for a shell.
func ShellLine(line ...string) string {
	words := slices.Clone(line)
	for i, w := range words {
		if !plain.MatchString(w) {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
