package shim

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/protocol"
)

func sockets(t *testing.T) (client, server *net.UnixConn) {
	t.Helper()
	l, err := listen(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); server.Close() })
	return conn.(*net.UnixConn), server
}

// A call arrives with its descriptors, however long it is.
func TestCallCarriesDescriptors(t *testing.T) {
	client, server := sockets(t)
	_, w := pipe(t)
	sent := call{Exec: &specs.Process{Args: []string{strings.Repeat("x", 1<<20)}}}
	go func() { _ = writeCall(client, sent, []*os.File{w, w, w}) }()
	got, files, err := readCall(server)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(files)
	if len(files) != 3 || len(got.Exec.Args[0]) != 1<<20 {
		t.Fatalf("%d descriptors, %d bytes", len(files), len(got.Exec.Args[0]))
	}
	if _, err := files[2].WriteString("x"); err != nil {
		t.Errorf("the descriptor does not work: %v", err)
	}
}

// A client of another control version is told so, in words.
func TestOtherVersionIsRefused(t *testing.T) {
	client, server := sockets(t)
	c := &container{build: "1.0"}
	go c.answer(t.Context(), server)
	if err := writeCall(client, call{Version: controlVersion + 1, Build: "2.0", Start: true}, nil); err != nil {
		t.Fatal(err)
	}
	var r reply
	if err := protocol.ReadMessage(client, protocol.MaxRequest, &r); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"1.0", "2.0", "delete --force"} {
		if !strings.Contains(r.Error, part) {
			t.Errorf("%q does not say %q", r.Error, part)
		}
	}
}

// A shim that is gone is a container that does not run.
func TestNoShim(t *testing.T) {
	if err := (Client{Dir: t.TempDir()}).Start(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("start: %v", err)
	}
}
