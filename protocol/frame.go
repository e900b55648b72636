package protocol

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// Limits of a message in bytes. What the guest says is small; what the host
// sends may carry a whole configuration.
const (
	MaxResponse = 256 << 10
	MaxRequest  = 8 << 20
)

// WriteMessage writes v as JSON behind its length, 4 bytes big endian.
func WriteMessage(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	if _, err := w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("write message: %w", err)
	}
	return nil
}

// ReadMessage reads one message of at most limit bytes into v. The length is
// the peer's word: nothing is allocated for one that is over the limit.
func ReadMessage(r io.Reader, limit uint32, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read message length: %w", err)
	}
	length := binary.BigEndian.Uint32(head[:])
	if length > limit {
		return fmt.Errorf("message of %d bytes is over the limit of %d", length, limit)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("read message of %d bytes: %w", length, err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("decode message: %w", err)
	}
	return nil
}
