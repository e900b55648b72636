package agent

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/vmruntime/vmruntime/protocol"
)

// A resolver passes DNS queries on to the host, whose engine answers them in the
// network namespace there.
type resolver struct {
	udp *net.UDPConn
	tcp net.Listener

	writing sync.Mutex
	stream  net.Conn

	mu   sync.Mutex
	next uint64
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
	r.takeAnswers()
}

// takeAnswers hands the host's answers to who asked.
func (r *resolver) takeAnswers() {
	for {
		var answer protocol.Query
		if err := protocol.ReadMessage(r.stream, protocol.MaxQuery, &answer); err != nil {
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
	if err := inNetns(inside, r.listen); err != nil {
		r.close()
		return nil, fmt.Errorf("resolver: %w", err)
	}
	return r, nil
}

// listen makes the sockets in the namespace.
func (r *resolver) listen() error {
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

// ask sends a query to the host. reply must not wait for anybody: all others wait
// for it.
func (r *resolver) ask(message []byte, tcp bool, reply func([]byte)) {
	query := protocol.Query{ID: r.await(reply), TCP: tcp, Message: message}
	r.writing.Lock()
	defer r.writing.Unlock()
	_ = protocol.WriteMessage(r.stream, query)
}

func (r *resolver) await(reply func([]byte)) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	delete(r.waiting, r.next-maxWaiting)
	r.waiting[r.next] = reply
	return r.next
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
	slots := make(chan struct{}, maxConns)
	for {
		conn, err := r.tcp.Accept()
		if err != nil {
			return
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			defer conn.Close()
			for r.serveOne(conn) == nil {
			}
		}()
	}
}

const (
	// maxConns is how many connections are served at a time.
	maxConns = 64
	// resolverTimeout is how long the host may take to answer, and a client to
	// ask and to read.
	resolverTimeout = 20 * time.Second
)

// serveOne reads a message with its length before it and writes what it is answered
// (RFC 1035, 4.2.2).
func (r *resolver) serveOne(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(resolverTimeout)); err != nil {
		return err
	}
	message, err := readDNS(conn)
	if err != nil {
		return err
	}
	answers := make(chan []byte, 1)
	r.ask(message, true, func(answer []byte) { answers <- answer })
	select {
	case answer := <-answers:
		if err := conn.SetDeadline(time.Now().Add(resolverTimeout)); err != nil {
			return err
		}
		_, err = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
		return err
	case <-time.After(resolverTimeout):
		return os.ErrDeadlineExceeded
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
