package shim

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"github.com/vmruntime/vmruntime/protocol"
)

const (
	// resolverTimeout is how long an engine may look for a name.
	resolverTimeout = 15 * time.Second
	// maxQueries is how many queries of the guest are answered at a time. Further
	// ones get no answer, as on a network that is busy.
	maxQueries = 256
)

// engineResolves tells whether an engine answers DNS queries in the container's
// network namespace, which is ours.
func engineResolves() bool {
	conn, err := net.DialTimeout("tcp", protocol.ResolverAddress, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// resolve answers the guest's DNS queries until the stream ends.
func resolve(ctx context.Context, stream net.Conn) {
	defer stream.Close()
	var writing sync.Mutex
	slots := make(chan struct{}, maxQueries)
	for {
		var query protocol.Query
		if err := protocol.ReadMessage(stream, protocol.MaxQuery, &query); err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		go func() {
			defer func() { <-slots }()
			answer, err := ask(ctx, query)
			if err != nil {
				// Who asked asks again, or gives up.
				return
			}
			writing.Lock()
			defer writing.Unlock()
			_ = protocol.WriteMessage(stream, answer)
		}()
	}
}

// ask asks the engine.
func ask(ctx context.Context, q protocol.Query) (protocol.Query, error) {
	network := "udp"
	if q.TCP {
		network = "tcp"
	}
	ctx, cancel := context.WithTimeout(ctx, resolverTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, protocol.ResolverAddress)
	if err != nil {
		return q, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(resolverTimeout)); err != nil {
		return q, err
	}
	if q.TCP {
		q.Message, err = exchange(conn, q.Message)
		return q, err
	}
	if _, err := conn.Write(q.Message); err != nil {
		return q, err
	}
	buffer := make([]byte, 64<<10)
	n, err := conn.Read(buffer)
	q.Message = buffer[:n]
	return q, err
}

// exchange sends a message with its length before it, and reads one (RFC 1035,
// 4.2.2).
func exchange(conn net.Conn, message []byte) ([]byte, error) {
	if len(message) > 0xffff {
		return nil, errHostile
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	answer := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(conn, answer)
	return answer, err
}
