package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/vmruntime/vmruntime/protocol"
)

// converse does over the agent's channel what a shim does from its hello to the
// exit of the container's process. The process has no output.
func converse(ctx context.Context, conn net.Conn, container string) error {
	config := yamux.DefaultConfig()
	config.EnableKeepAlive = false
	config.ConnectionWriteTimeout = math.MaxInt64
	config.LogOutput = io.Discard
	session, err := yamux.Client(conn, config)
	if err != nil {
		return err
	}
	defer session.Close()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	entropy := make([]byte, protocol.EntropySize)
	// It never fails.
	_, _ = rand.Read(entropy)
	target := &protocol.Target{Container: container}
	var last protocol.Response
	for _, r := range []protocol.Request{
		{Hello: &protocol.Hello{Version: protocol.Version, Build: "bench", Time: time.Now().UnixNano(), Entropy: entropy}},
		{Created: target}, {Start: target}, {Wait: target},
	} {
		if last, err = ask(session, r); err != nil {
			return fmt.Errorf("agent: %w", err)
		}
	}
	if last.Exit == nil || last.Exit.Code != 0 {
		return fmt.Errorf("the process ended with %+v", last.Exit)
	}
	return nil
}

func ask(session *yamux.Session, r protocol.Request) (protocol.Response, error) {
	var response protocol.Response
	stream, err := session.OpenStream()
	if err != nil {
		return response, err
	}
	defer stream.Close()
	if err := protocol.WriteMessage(stream, r); err != nil {
		return response, err
	}
	if err := protocol.ReadMessage(stream, protocol.MaxResponse, &response); err != nil {
		return response, err
	}
	if response.Error != "" {
		return response, errors.New(response.Error)
	}
	return response, nil
}
