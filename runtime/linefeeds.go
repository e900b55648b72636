package runtime

import (
	"bytes"
	"io"
)

// lineFeeds undo what a terminal does to the end of a line (ONLCR), where its output
// goes to a file or a pipe: whoever reads there gets what the process wrote, as
// runc's callers do. What a process writes in raw mode loses a carriage return
// before a line feed.
type lineFeeds struct {
	w io.Writer
	// held is a carriage return that may have its line feed in the next write.
	held bool
}

func (l *lineFeeds) Write(p []byte) (int, error) {
	text := p
	if l.held {
		text = append([]byte{'\r'}, p...)
	}
	l.held = bytes.HasSuffix(text, []byte{'\r'})
	if l.held {
		text = text[:len(text)-1]
	}
	if _, err := l.w.Write(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes what has been held back.
func (l *lineFeeds) Flush() error {
	if !l.held {
		return nil
	}
	l.held = false
	_, err := l.w.Write([]byte{'\r'})
	return err
}
