package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
)

// A monitor is QEMU's (https://qemu.org/docs/master/interop/qmp-spec.html).
type monitor struct {
	conn net.Conn
	said *json.Decoder
}

// A message is what QEMU says: an answer or an event.
type message struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Text string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Status string `json:"status"`
	} `json:"data"`
}

// A request is one command.
type request struct {
	Execute   string         `json:"execute"`
	Arguments map[string]any `json:"arguments,omitempty"`
}

// openMonitor begins the conversation.
func openMonitor(conn net.Conn) (monitor, error) {
	m := monitor{conn, json.NewDecoder(conn)}
	return m, m.do("qmp_capabilities", nil)
}

// do has QEMU carry a command out.
func (m monitor) do(command string, arguments map[string]any) error {
	err := json.NewEncoder(m.conn).Encode(request{command, arguments})
	if err == nil {
		_, err = m.until(func(said message) bool { return said.Return != nil })
	}
	if err != nil {
		return fmt.Errorf("QEMU's %s: %w", command, err)
	}
	return nil
}

// migrated waits for the end of a migration that was asked to tell its events.
func (m monitor) migrated() error {
	said, err := m.until(func(said message) bool {
		return said.Event == "MIGRATION" && (said.Data.Status == "completed" || said.Data.Status == "failed")
	})
	if err == nil && said.Data.Status == "failed" {
		err = errors.New("failed")
	}
	if err != nil {
		return fmt.Errorf("QEMU's migration: %w", err)
	}
	return nil
}

// until passes by what is not wanted, such as the greeting.
func (m monitor) until(wanted func(message) bool) (message, error) {
	for {
		var said message
		if err := m.said.Decode(&said); err != nil {
			return said, err
		}
		if said.Error != nil {
			return said, errors.New(said.Error.Text)
		}
		if wanted(said) {
			return said, nil
		}
	}
}
