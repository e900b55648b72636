package runtime

import (
	"bytes"
	"testing"
)

func TestLineFeeds(t *testing.T) {
	for _, writes := range [][]string{
		{"a\r\nb\r\r\nc\rd\n\r"},
		{"a\r", "\nb", "\r", "\r", "\n", "c\rd\n", "\r"},
		{"", "a\r\nb\r\r\nc\r", "d\n\r", ""},
	} {
		var got bytes.Buffer
		l := &lineFeeds{w: &got}
		for _, w := range writes {
			if n, err := l.Write([]byte(w)); n != len(w) || err != nil {
				t.Errorf("%q: %d, %v", w, n, err)
			}
		}
		if err := l.Flush(); err != nil {
			t.Error(err)
		}
		if want := "a\nb\r\nc\rd\n\r"; got.String() != want {
			t.Errorf("%q became %q, not %q", writes, got.String(), want)
		}
	}
}
