package shim

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// parent is what a shim or proxy sees of who spawned it.
type parent struct {
	conn *os.File
	told *atomic.Bool
}

// parentFD is where ExtraFiles puts the socket.
const parentFD = 3

func openParent() (parent, error) {
	unix.CloseOnExec(parentFD)
	// Non-blocking, so that closing it ends a waiting read.
	if err := unix.SetNonblock(parentFD, true); err != nil {
		return parent{}, fmt.Errorf("not started by vmruntime: descriptor %d: %w", parentFD, err)
	}
	return parent{os.NewFile(parentFD, "parent"), new(atomic.Bool)}, nil
}

func (p parent) plan(v any) error { return protocol.ReadMessage(p.conn, protocol.MaxRequest, v) }

// tell reports the outcome, once.
func (p parent) tell(err error) {
	o := outcome{}
	if err != nil {
		o.Error = err.Error()
	}
	p.report(o)
}

func (p parent) report(o outcome) {
	p.told.Store(true)
	_ = protocol.WriteMessage(p.conn, o)
	p.conn.Close()
}

// follow ends the process when its parent goes away before the outcome is
// told: a killed create leaves nothing that runs.
func (p parent) follow() {
	go func() {
		_, _ = p.conn.Read(make([]byte, 1))
		if !p.told.Load() {
			os.Exit(failureCode)
		}
	}()
}
