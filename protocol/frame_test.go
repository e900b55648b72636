package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMessage(t *testing.T) {
	var wire bytes.Buffer
	sent := Request{Signal: &Signal{Target: Target{Container: "c", Process: "exec-1"}, Signal: 15, All: true}}
	if err := WriteMessage(&wire, sent); err != nil {
		t.Fatal(err)
	}
	var got Request
	if err := ReadMessage(&wire, MaxRequest, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Errorf("(-sent +received):\n%s", diff)
	}
	if wire.Len() != 0 {
		t.Errorf("%d bytes are left", wire.Len())
	}
}

func framed(length uint32, body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, length), body...)
}

// What a peer may send wrong is told in words, before anything is allocated.
func TestReadMessageRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		wire []byte
		want string
	}{
		"nothing":   {nil, "read message length: EOF"},
		"truncated": {framed(9, `{"a":`), "read message of 9 bytes: unexpected EOF"},
		"too long":  {framed(MaxResponse+1, ""), "is over the limit"},
		"huge":      {framed(1<<32-1, ""), "message of 4294967295 bytes is over the limit of 262144"},
		"no JSON":   {framed(3, "{{{"), "decode message"},
		"empty":     {framed(0, ""), "decode message"},
		"list":      {framed(2, "[]"), "decode message"},
	} {
		t.Run(name, func(t *testing.T) {
			var r Response
			err := ReadMessage(bytes.NewReader(c.wire), MaxResponse, &r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
		})
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestWriteMessageFails(t *testing.T) {
	if err := WriteMessage(full{}, Response{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("error is %v", err)
	}
}

func TestHelloCheck(t *testing.T) {
	if err := (Hello{Version: Version}).Check("the agent"); err != nil {
		t.Error(err)
	}
	err := (Hello{Version: Version + 1, Build: "x"}).Check("the agent")
	if err == nil || !strings.Contains(err.Error(), "the agent x speaks protocol") {
		t.Errorf("error is %v", err)
	}
}
