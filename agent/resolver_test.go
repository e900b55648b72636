package agent

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/vmruntime/vmruntime/protocol"
)

// newTestResolver listens at ports of its own, with a host that sends back what it is
// asked.
func newTestResolver(t *testing.T) *resolver {
	t.Helper()
	ours, theirs := net.Pipe()
	r := &resolver{stream: ours, waiting: map[uint64]func([]byte){}}
	var err error
	if r.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	if r.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.close()
		ours.Close()
	})
	go echoQueries(theirs)
	go r.serveUDP()
	go r.serveTCP()
	go r.takeAnswers()
	return r
}

func echoQueries(stream net.Conn) {
	for {
		var q protocol.Query
		if protocol.ReadMessage(stream, protocol.MaxQuery, &q) != nil || protocol.WriteMessage(stream, q) != nil {
			return
		}
	}
}

// Clients that ask without end and never read keep nobody else waiting.
func TestResolverDeafClients(t *testing.T) {
	r := newTestResolver(t)
	large := make([]byte, 2+32<<10)
	binary.BigEndian.PutUint16(large, uint16(len(large)-2))
	for range 4 {
		conn := dialResolver(t, "tcp", r.tcp.Addr())
		if err := conn.(*net.TCPConn).SetReadBuffer(1); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				if _, err := conn.Write(large); err != nil {
					return
				}
			}
		}()
	}
	for range 5 {
		got := make([]byte, 4)
		tcp := dialResolver(t, "tcp", r.tcp.Addr())
		if _, err := tcp.Write([]byte{0, 2, 'h', 'i'}); err != nil {
			t.Fatal(err)
		}
		if _, err := tcp.Read(got); err != nil || !bytes.Equal(got, []byte{0, 2, 'h', 'i'}) {
			t.Fatalf("over TCP: %q, %v", got, err)
		}
		udp := dialResolver(t, "udp", r.udp.LocalAddr())
		if _, err := udp.Write([]byte("hi")); err != nil {
			t.Fatal(err)
		}
		if n, err := udp.Read(got); err != nil || string(got[:n]) != "hi" {
			t.Fatalf("over UDP: %q, %v", got, err)
		}
	}
}

func dialResolver(t *testing.T, network string, address net.Addr) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}
