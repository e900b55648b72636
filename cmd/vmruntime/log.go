package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"
)

// Where an error goes: to the log, to people on stderr, or both. With no --log
// both are stderr, and one of the two is enough.
var errorsTo struct{ log, stderr bool }

// setDefaultLog is for what happens before the flags are known.
func setDefaultLog() { _ = setLog("", "text", false) }

// setLog makes errors appear in the form that runc's callers read: one object
// or line each, with the level in lower case.
func setLog(path, format string, debug bool) error {
	var w io.Writer = os.Stderr
	if path != "" {
		// Engines name a file in a directory of theirs; it may be a FIFO.
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return fmt.Errorf("--log: %w", err)
		}
		w = file
	}
	options := &slog.HandlerOptions{ReplaceAttr: lowerLevel, Level: slog.LevelInfo}
	if debug {
		options.Level = slog.LevelDebug
	}
	var handler slog.Handler
	switch format {
	case "", "text":
		handler = slog.NewTextHandler(w, options)
	case "json":
		handler = slog.NewJSONHandler(w, options)
	default:
		return fmt.Errorf("invalid log-format: %s", format)
	}
	slog.SetDefault(slog.New(handler))
	errorsTo.log = path != "" || format == "json"
	errorsTo.stderr = path != "" || format != "json"
	return nil
}

func lowerLevel(_ []string, a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.LevelKey:
		return slog.String(a.Key, strings.ToLower(a.Value.String()))
	case slog.TimeKey:
		return slog.String(a.Key, a.Value.Time().Format(time.RFC3339))
	}
	return a
}

// fail reports the one error of a command. Engines read the log or stderr, so
// the text is the same.
func fail(err error) {
	text := shorten(err.Error())
	if errorsTo.log {
		slog.Error(text)
	}
	if errorsTo.stderr {
		fmt.Fprintln(os.Stderr, text)
	}
}

// shorten cuts the values that a message quotes where nobody would read them. Most paths are shorter.
func shorten(message string) string {
	const most, kept = 256, 100
	// Not a variable of the package's: each command would compile it.
	values := regexp.MustCompile(`"(?:[^"\\]|\\.)*"|[^\s"]+`)
	return values.ReplaceAllStringFunc(message, func(v string) string {
		if len(v) <= most {
			return v
		}
		end := "..."
		if v[0] == '"' {
			end += `"`
		}
		return strings.TrimRight(strings.ToValidUTF8(v[:kept], ""), `\`) + end
	})
}
