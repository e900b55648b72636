package agent

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// A resolver passes DNS queries on to the host, whose engine answers them in the
// network namespace there.
type resolver struct {
	udp *net.UDPConn
	tcp net.Listener

	mu     sync.Mutex
	stream net.Conn
	next   uint64
	// waiting are those who asked, by the query's ID.
	waiting map[uint64]func(message []byte)
}

// maxWaiting is how many queries may be on their way; older ones are forgotten, as
// resolvers ask again.
const maxWaiting = 1024

// serveResolver answers at protocol.ResolverAddress in the container's network
// namespace until the stream ends.
func (a *agent) serveResolver(stream net.Conn, t protocol.Target) {
	c, err := a.find(t.Container)
	var r *resolver
	if err == nil {
		r, err = c.newResolver(stream)
	}
	if err != nil {
		_ = protocol.WriteMessage(stream, protocol.Response{Error: err.Error()})
		return
	}
	defer r.close()
	if err := protocol.WriteMessage(stream, protocol.Response{}); err != nil {
		return
	}
	go r.serveUDP()
	go r.serveTCP()
	for {
		var answer protocol.Query
		if err := protocol.ReadMessage(stream, protocol.MaxQuery, &answer); err != nil {
			return
		}
		if reply := r.take(answer.ID); reply != nil {
			reply(answer.Message)
		}
	}
}

func (c *container) newResolver(stream net.Conn) (*resolver, error) {
	inside, err := c.openNetns()
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	r := &resolver{stream: stream, waiting: map[uint64]func([]byte){}}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		done <- r.listen(inside)
	}()
	if err := <-done; err != nil {
		r.close()
		return nil, fmt.Errorf("resolver: %w", err)
	}
	return r, nil
}

// listen makes the sockets in the namespace.
func (r *resolver) listen(ns *os.File) error {
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("setns", err)
	}
	address, err := net.ResolveUDPAddr("udp", protocol.ResolverAddress)
	if err != nil {
		return err
	}
	if r.udp, err = net.ListenUDP("udp", address); err != nil {
		return err
	}
	r.tcp, err = net.Listen("tcp", protocol.ResolverAddress)
	return err
}

func (r *resolver) close() {
	if r.udp != nil {
		r.udp.Close()
	}
	if r.tcp != nil {
		r.tcp.Close()
	}
}

// ask sends a query to the host.
func (r *resolver) ask(message []byte, tcp bool, reply func([]byte)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	delete(r.waiting, r.next-maxWaiting)
	r.waiting[r.next] = reply
	_ = protocol.WriteMessage(r.stream, protocol.Query{ID: r.next, TCP: tcp, Message: message})
}

func (r *resolver) take(id uint64) func([]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	reply := r.waiting[id]
	delete(r.waiting, id)
	return reply
}

func (r *resolver) serveUDP() {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := r.udp.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		message := append([]byte(nil), buffer[:n]...)
		r.ask(message, false, func(answer []byte) { _, _ = r.udp.WriteToUDPAddrPort(answer, from) })
	}
}

func (r *resolver) serveTCP() {
	for {
		conn, err := r.tcp.Accept()
		if err != nil {
			return
		}
		go r.serveConn(conn)
	}
}

// resolverTimeout is how long the host may take to answer.
const resolverTimeout = 20 * time.Second

// serveConn reads messages with their length before them (RFC 1035, 4.2.2). Who
// has said all may still wait for answers.
func (r *resolver) serveConn(conn net.Conn) {
	defer conn.Close()
	answers := make(chan []byte, maxWaiting)
	asked := 0
	ended := make(chan int, 1)
	go func() {
		for ; ; asked++ {
			message, err := readDNS(conn)
			if err != nil {
				ended <- asked
				return
			}
			r.ask(message, true, func(answer []byte) { answers <- answer })
		}
	}()
	for answered, all := 0, -1; answered != all; {
		select {
		case all = <-ended:
		case answer := <-answers:
			answered++
			if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
				return
			}
		case <-time.After(resolverTimeout):
			return
		}
	}
}

func readDNS(from io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(from, message)
	return message, err
}
