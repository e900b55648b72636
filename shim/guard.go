package shim

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// A guard reads yamux frames of a guest that may be hostile and lets only those
// pass that a guest has a reason to send: data and window updates of streams
// that the host opened. yamux answers every ping with a goroutine and keeps
// what arrives for new streams, so these never reach it.
//
// Frames are those of https://github.com/hashicorp/yamux/blob/master/spec.md.
type guard struct {
	io.WriteCloser
	from *bufio.Reader
	// opened counts the streams that the host has opened so far.
	opened atomic.Uint32
	header [frameHeader]byte
	// pending is what of the header is still to be handed on, body the bytes of
	// the frame's body.
	pending []byte
	body    uint32
	err     atomic.Pointer[error]
}

const (
	frameHeader = 12
	frameData   = 0
	frameWindow = 1
	frameGoAway = 3
	flagSYN     = 1
	// maxFrame is twice what a stream's window allows at once.
	maxFrame = 2 << 20
)

var errHostile = errors.New("the guest broke the protocol")

func newGuard(conn net.Conn) *guard {
	return &guard{WriteCloser: conn, from: bufio.NewReaderSize(conn, 128<<10)}
}

// violation is what the guest did wrong, nil if nothing.
func (g *guard) violation() error {
	if err := g.err.Load(); err != nil {
		return *err
	}
	return nil
}

func (g *guard) Read(p []byte) (int, error) {
	if len(g.pending) == 0 && g.body == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	if len(g.pending) > 0 {
		n := copy(p, g.pending)
		g.pending = g.pending[n:]
		return n, nil
	}
	if uint32(len(p)) > g.body {
		p = p[:g.body]
	}
	n, err := g.from.Read(p)
	g.body -= uint32(n)
	return n, err
}

// next reads the header of a frame and checks it.
func (g *guard) next() error {
	if _, err := io.ReadFull(g.from, g.header[:]); err != nil {
		return err
	}
	if err := g.check(); err != nil {
		err = fmt.Errorf("%w: %w", errHostile, err)
		g.err.Store(&err)
		return err
	}
	g.pending = g.header[:]
	return nil
}

func (g *guard) check() error {
	version, kind := g.header[0], g.header[1]
	flags := binary.BigEndian.Uint16(g.header[2:])
	stream := binary.BigEndian.Uint32(g.header[4:])
	length := binary.BigEndian.Uint32(g.header[8:])
	switch {
	case version != 0:
		return fmt.Errorf("frame of version %d", version)
	case kind == frameGoAway:
		return nil
	case kind != frameData && kind != frameWindow:
		return fmt.Errorf("frame of type %d", kind)
	case flags&flagSYN != 0:
		return fmt.Errorf("it opened stream %d", stream)
	case stream%2 == 0 || stream > 2*g.opened.Load():
		return fmt.Errorf("stream %d was never opened", stream)
	case length > maxFrame:
		return fmt.Errorf("frame of %d bytes", length)
	}
	if kind == frameData {
		g.body = length
	}
	return nil
}
