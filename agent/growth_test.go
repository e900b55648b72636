package agent

import (
	"bytes"
	"io"
	"testing"
)

// A largestRead gives as much as it is asked for, and keeps how much that was.
type largestRead struct {
	io.Reader
	asked []int
}

func (r *largestRead) Read(p []byte) (int, error) {
	r.asked = append(r.asked, len(p))
	return r.Reader.Read(p)
}

func TestInputBufferGrows(t *testing.T) {
	input := bytes.Repeat([]byte("input "), copyBuffer/2)
	r := &largestRead{Reader: bytes.NewReader(input)}
	var got bytes.Buffer
	copyInput(&got, r)
	if !bytes.Equal(got.Bytes(), input) {
		t.Errorf("%d bytes of %d arrived, or others", got.Len(), len(input))
	}
	if r.asked[0] != firstBuffer || r.asked[1] != copyBuffer {
		t.Errorf("reads of %v bytes, want %d and then %d", r.asked, firstBuffer, copyBuffer)
	}
}

func TestLittleInputTakesLittle(t *testing.T) {
	r := &largestRead{Reader: bytes.NewReader([]byte("yes\n"))}
	copyInput(io.Discard, r)
	for _, n := range r.asked {
		if n != firstBuffer {
			t.Errorf("a read of %d bytes for one of four", n)
		}
	}
}
