package shim

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/protocol"
)

// controlVersion is raised with every change of call or reply that an older
// peer would misread.
const controlVersion = 1

// A call is what a client asks of a shim. One connection carries one call; an
// exec's connection stays open until the process has ended, takes further
// signal and resize calls, and closing it kills the process.
type call struct {
	Version   int         `json:"version"`
	Build     string      `json:"build"`
	Status    bool        `json:"status,omitempty"`
	Start     bool        `json:"start,omitempty"`
	Pause     bool        `json:"pause,omitempty"`
	Resume    bool        `json:"resume,omitempty"`
	Processes bool        `json:"processes,omitempty"`
	Signal    *signalCall `json:"signal,omitempty"`
	Resize    *resizeCall `json:"resize,omitempty"`
	Stats     bool        `json:"stats,omitempty"`
	OOM       *oomCall    `json:"oom,omitempty"`
	// Update has the limits that change.
	Update *specs.LinuxResources `json:"update,omitempty"`
	Exec   *specs.Process        `json:"exec,omitempty"`
}

type signalCall struct {
	Signal int  `json:"signal"`
	All    bool `json:"all,omitempty"`
}

// oomCall asks for the count of OOM kills: at once, or as soon as there are more
// than Seen.
type oomCall struct {
	Seen *uint64 `json:"seen,omitempty"`
}

type resizeCall struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// A reply answers a call: Error is set, or the field of the call's name, if there
// is one. Exit follows the reply to Exec when the process has ended.
type reply struct {
	Error     string               `json:"error,omitempty"`
	Build     string               `json:"build,omitempty"`
	Status    specs.ContainerState `json:"status,omitempty"`
	Processes []int                `json:"processes,omitempty"`
	Exit      *protocol.Exit       `json:"exit,omitempty"`
	Stats     *cgroup.Stats        `json:"stats,omitempty"`
	OOMKills  uint64               `json:"oomKills,omitempty"`
}

// writeCall sends a call, and with it descriptors that the peer receives as
// its own.
func writeCall(conn *net.UnixConn, c call, files []*os.File) error {
	if len(files) == 0 {
		return protocol.WriteMessage(conn, c)
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	return protocol.WriteMessage(rightsWriter{conn, unix.UnixRights(fds...)}, c)
}

// rightsWriter sends its descriptors along with the first bytes written.
type rightsWriter struct {
	conn   *net.UnixConn
	rights []byte
}

func (w rightsWriter) Write(p []byte) (int, error) {
	n, _, err := w.conn.WriteMsgUnix(p, w.rights, nil)
	if err == nil && n < len(p) {
		var m int
		m, err = w.conn.Write(p[n:])
		n += m
	}
	return n, err
}

// rightsReader collects the descriptors that come with the bytes read; package net
// has them closed on exec.
type rightsReader struct {
	conn  *net.UnixConn
	files []*os.File
}

// maxFiles is how many descriptors one call may carry: stdin, stdout, stderr.
const maxFiles = 3

func (r *rightsReader) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, oobn, _, _, err := r.conn.ReadMsgUnix(p, oob)
	if oobn > 0 {
		if ferr := r.receive(oob[:oobn]); ferr != nil {
			return n, ferr
		}
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (r *rightsReader) receive(oob []byte) error {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("control message: %w", err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			r.files = append(r.files, os.NewFile(uintptr(fd), "donated"))
		}
	}
	return nil
}

func (r *rightsReader) close() {
	for _, f := range r.files {
		f.Close()
	}
}

// readCall receives a call and the descriptors that came with it.
func readCall(conn *net.UnixConn) (call, []*os.File, error) {
	var c call
	r := &rightsReader{conn: conn}
	if err := protocol.ReadMessage(r, protocol.MaxRequest, &c); err != nil {
		r.close()
		return call{}, nil, err
	}
	return c, r.files, nil
}

func (r reply) err() error {
	if r.Error == "" {
		return nil
	}
	return errors.New(r.Error)
}
