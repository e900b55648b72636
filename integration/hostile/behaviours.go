package main

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"github.com/hashicorp/yamux"

	"github.com/vmruntime/vmruntime/protocol"
)

// behaviours are what a guest can do to the host. Those named start- obey until
// the container is started.
var behaviours = map[string]func(port *os.File) error{
	// Without the protocol.
	"garbage":   raw(func(w io.Writer) error { _, err := io.CopyN(w, rand.Reader, 64<<10); return err }),
	"noise":     flood(bytes.Repeat([]byte{0xff}, 4096)),
	"silent":    func(*os.File) error { sleep(); return nil },
	"power-off": func(*os.File) error { powerOff(); return nil },
	"panic":     func(*os.File) error { panicKernel(); return nil },

	// With frames that no guest has a reason to send.
	"other-version":   raw(frames(frame{version: 9})),
	"unknown-type":    raw(frames(frame{kind: 200})),
	"unknown-stream":  raw(frames(frame{kind: data, stream: 99, length: 4})),
	"even-stream":     raw(frames(frame{kind: data, stream: 2, length: 4})),
	"opened-stream":   raw(frames(frame{kind: window, flags: syn, stream: 2})),
	"long-frame":      raw(frames(frame{kind: data, stream: 1, length: 1<<32 - 1})),
	"cut-off-frame":   cutOff(frame{kind: data, stream: 1, length: 1000}),
	"pings":           flood(frame{kind: ping, flags: syn}.bytes()),
	"opened-streams":  flood(frame{kind: window, flags: syn, stream: 2}.bytes()),
	"window-updates":  flood(frame{kind: window, stream: 1, length: 1 << 31}.bytes()),
	"data-flood":      flood(frame{kind: data, stream: 1, length: 4096}.bytes(), make([]byte, 4096)),
	"reset-streams":   flood(frame{kind: window, flags: reset, stream: 1}.bytes()),
	"go-away":         raw(frames(frame{kind: goAway, length: 2})),
	"go-away-flood":   flood(frame{kind: goAway}.bytes()),
	"empty-data":      flood(frame{kind: data, stream: 1}.bytes()),
	"finished-stream": raw(frames(frame{kind: data, flags: fin, stream: 1})),

	// With answers that are none.
	"long-answer":    answer(func(w io.Writer) { _ = binary.Write(w, binary.BigEndian, uint32(1<<32-1)) }),
	"big-answer":     answer(func(w io.Writer) { message(w, `{"error":"`+strings.Repeat("x", 200<<20)+`"}`) }),
	"deep-answer":    answer(func(w io.Writer) { message(w, strings.Repeat("[", protocol.MaxResponse-1)) }),
	"cut-off-answer": answer(func(w io.Writer) { _, _ = w.Write([]byte{0, 0, 0, 100, '{'}) }),
	"no-json":        answer(func(w io.Writer) { message(w, "hello") }),
	"empty-answer":   answer(func(w io.Writer) { message(w, "{}") }),
	"long-error":     answer(func(w io.Writer) { message(w, `{"error":"`+strings.Repeat("long ", 50000)+`"}`) }),
	"control-error":  answer(func(w io.Writer) { message(w, `{"error":"\u001b[2J\n\r\u0000"}`) }),
	"other-protocol": answer(func(w io.Writer) { _ = protocol.WriteMessage(w, hello(99)) }),
	"endless-answer": answer(func(w io.Writer) { _, _ = io.Copy(w, zeros{}) }),

	// When the container is to run.
	"start-power-off": obey(onStart(func(*os.File) { powerOff() })),
	"start-panic":     obey(onStart(func(*os.File) { panicKernel() })),
	"start-garbage":   obey(onStart(func(port *os.File) { _, _ = io.CopyN(port, rand.Reader, 64<<10); sleep() })),
	"start-pings":     obey(onStart(func(port *os.File) { _ = flood(frame{kind: ping, flags: syn}.bytes())(port) })),
	"start-closed":    obey(onStart(func(port *os.File) { port.Close(); sleep() })),
	// It reads nothing any more, so it does not notice the host's end either.
	"start-deaf":    deaf,
	"start-output":  obey(hooks{stdout: func(w io.Writer) { _, _ = io.Copy(w, zeros{}) }}),
	"start-exit":    obey(hooks{wait: `{"exit":{"code":100000}}`}),
	"start-no-exit": obey(hooks{wait: `{}`}),
	"start-error":   obey(hooks{wait: `{"error":"the end"}`}),
	"start-stays":   obey(hooks{}),
}

// raw writes once and then waits for the end.
func raw(write func(io.Writer) error) func(*os.File) error {
	return func(port *os.File) error {
		if err := write(port); err != nil {
			return err
		}
		sleep()
		return nil
	}
}

// cutOff sends a header without its body.
func cutOff(f frame) func(*os.File) error {
	return func(port *os.File) error {
		if _, err := port.Write(f.bytes()); err != nil {
			return err
		}
		powerOff()
		return nil
	}
}

// flood writes the same for ever.
func flood(parts ...[]byte) func(*os.File) error {
	chunk := bytes.Repeat(bytes.Join(parts, nil), 64)
	return func(port *os.File) error {
		for {
			if _, err := port.Write(chunk); err != nil {
				return err
			}
		}
	}
}

// A frame is the header of one of yamux's frames:
// https://github.com/hashicorp/yamux/blob/master/spec.md.
type frame struct {
	version, kind  byte
	flags          uint16
	stream, length uint32
}

const (
	data   = 0
	window = 1
	ping   = 2
	goAway = 3

	syn   = 1
	fin   = 4
	reset = 8
)

func (f frame) bytes() []byte {
	b := []byte{f.version, f.kind}
	b = binary.BigEndian.AppendUint16(b, f.flags)
	b = binary.BigEndian.AppendUint32(b, f.stream)
	return binary.BigEndian.AppendUint32(b, f.length)
}

func frames(list ...frame) func(io.Writer) error {
	return func(w io.Writer) error {
		for _, f := range list {
			if _, err := w.Write(f.bytes()); err != nil {
				return err
			}
		}
		return nil
	}
}

// message frames a text as an answer.
func message(w io.Writer, text string) {
	_ = binary.Write(w, binary.BigEndian, uint32(len(text)))
	_, _ = io.WriteString(w, text)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// answer gives the first request an answer of its own and closes the stream.
func answer(write func(io.Writer)) func(*os.File) error {
	return func(port *os.File) error {
		session, err := serve(port)
		if err != nil {
			return err
		}
		stream, err := session.Accept()
		if err != nil {
			return err
		}
		var r protocol.Request
		if err := protocol.ReadMessage(stream, protocol.MaxRequest, &r); err != nil {
			return err
		}
		write(stream)
		stream.Close()
		sleep()
		return nil
	}
}

func serve(port *os.File) (*yamux.Session, error) {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.LogOutput = io.Discard
	return yamux.Server(port, config)
}

func hello(version int) protocol.Response {
	return protocol.Response{Hello: &protocol.Hello{Version: version, Build: "hostile", Kernel: "hostile"}}
}

// hooks are what an agent that obeys does otherwise.
type hooks struct {
	// start is called once the container is told to start and has answered.
	start func(port *os.File)
	// stdout is given the container's.
	stdout func(io.Writer)
	// wait is the answer to Wait once started; without it the process stays.
	wait string
}

func onStart(do func(*os.File)) hooks { return hooks{start: do} }

// obey answers like an agent whose container does whatever hooks say.
func obey(h hooks) func(*os.File) error {
	return func(port *os.File) error {
		session, err := serve(port)
		if err != nil {
			return err
		}
		a := agent{port: port, hooks: h, started: make(chan struct{})}
		for {
			stream, err := session.Accept()
			if errors.Is(err, io.EOF) {
				sleep()
			}
			if err != nil {
				return err
			}
			go a.answer(stream)
		}
	}
}

type agent struct {
	hooks
	port    *os.File
	started chan struct{}
}

func (a *agent) answer(stream net.Conn) {
	defer stream.Close()
	var r protocol.Request
	if err := protocol.ReadMessage(stream, protocol.MaxRequest, &r); err != nil {
		return
	}
	switch {
	case r.Hello != nil:
		_ = protocol.WriteMessage(stream, hello(protocol.Version))
	case r.Wait != nil:
		<-a.started
		if a.wait == "" {
			sleep()
		}
		message(stream, a.wait)
	case r.Stdio != nil:
		message(stream, "{}")
		<-a.started
		if r.Stdio.FD == 1 && a.stdout != nil {
			a.stdout(stream)
		}
		sleep()
	case r.Start != nil:
		message(stream, "{}")
		stream.Close()
		close(a.started)
		if a.start != nil {
			a.start(a.port)
		}
	default:
		message(stream, "{}")
	}
}

// deaf obeys until the start and then only spins.
func deaf(port *os.File) error {
	half := &stoppable{File: port, stopped: make(chan struct{})}
	session, err := yamux.Server(half, nil)
	if err != nil {
		return err
	}
	a := agent{port: port, started: make(chan struct{}), hooks: hooks{start: func(*os.File) { close(half.stopped) }}}
	for {
		stream, err := session.Accept()
		if err != nil {
			sleep()
		}
		go a.answer(stream)
	}
}

// stoppable is a port from which nobody reads once it is stopped.
type stoppable struct {
	*os.File
	stopped chan struct{}
}

func (s *stoppable) Read(p []byte) (int, error) {
	select {
	case <-s.stopped:
		sleep()
	default:
	}
	n, err := s.File.Read(p)
	select {
	case <-s.stopped:
		sleep()
	default:
	}
	return n, err
}
