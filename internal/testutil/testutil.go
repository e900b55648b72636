// Package testutil is what the tests that run programs have in common.
package testutil

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
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

// WriteFile makes a file, mode 0644.
func WriteFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// ReadFile is the text of a file.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
