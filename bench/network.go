package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/network"
)

const bareTap = "QEMU, same tap"

// measureNetwork measures one TCP connection between this network namespace and an
// iperf3 in a container's, in a bare machine whose tap is connected with its namespace in
// the same way, and in runc's.
func measureNetwork(ctx context.Context, l *lab) ([]Figure, error) {
	ratios := []Ratio{{"vmruntime", bareTap, Aim{AtLeast: 0.95}}, {"vmruntime", "runc", Aim{}}}
	figures := []Figure{
		{Name: "host to guest", Unit: "Mbit/s", Ratios: ratios},
		{Name: "guest to host", Unit: "Mbit/s", Ratios: ratios},
	}
	warmly, err := l.warm(ctx)
	if err != nil {
		return nil, err
	}
	bare, err := l.bareServer(ctx, warmly)
	if err != nil {
		return nil, err
	}
	contenders := []contender{bare}
	for _, p := range []program{warmly, l.reference("runc")} {
		c, err := l.server(ctx, p)
		if err != nil {
			return nil, err
		}
		contenders = append(contenders, c)
	}
	if err := warmUp(ctx, contenders); err != nil {
		return nil, err
	}
	return takeTurns(ctx, l.rounds, figures, contenders)
}

// server is a container that stays for all turns.
func (l *lab) server(ctx context.Context, p program) (contender, error) {
	c, err := l.newCable()
	if err != nil {
		return contender{}, err
	}
	// bench/init does the same.
	bundle, err := l.bundle([]string{"/usr/bin/iperf3", "--server", "--forceflush"}, c.joined, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Type: "tmpfs", Source: "tmpfs", Destination: "/tmp"})
	})
	if err != nil {
		return contender{}, err
	}
	server, err := l.start(ctx, p, bundle)
	if err != nil {
		return contender{}, err
	}
	return contender{p.name, bothWays(c, server.stdout)}, nil
}

// bareServer is a bare machine that stays for all turns.
func (l *lab) bareServer(ctx context.Context, p program) (contender, error) {
	example, m, err := l.example(ctx, p)
	if err != nil {
		return contender{}, err
	}
	if err := example.discard(); err != nil {
		return contender{}, err
	}
	c, err := l.newCable()
	if err != nil {
		return contender{}, err
	}
	const tap = "bench"
	devices, err := m.share(l)
	if err != nil {
		return contender{}, err
	}
	nic, err := m.nic(tap, c.mac)
	if err != nil {
		return contender{}, err
	}
	var port net.Conn
	err = c.visit(func() error {
		if err := connect(tap); err != nil {
			return err
		}
		port, err = l.bareJob(ctx, m, "network", c.guest.String(), append(devices, nic...))
		return err
	})
	if err != nil {
		return contender{}, err
	}
	return contender{bareTap, bothWays(c, bufio.NewReader(port))}, nil
}

// connect makes a tap in this network namespace and connects it as a shim does.
func connect(tap string) error {
	names := []string{tap}
	if err := network.MakeTaps(names); err != nil {
		return err
	}
	n := network.NewNamespace(names)
	if _, err := n.Read("bench"); err != nil {
		return err
	}
	return n.Connect()
}

// listening waits until the iperf3 whose output it is serves: it says so before each
// connection that it takes.
func listening(output *bufio.Reader) error {
	for {
		line, err := output.ReadString('\n')
		if err != nil {
			return fmt.Errorf("iperf3 does not serve: %w: %q", err, line)
		}
		if strings.HasPrefix(line, "Server listening") {
			return nil
		}
	}
}

// bothWays gives the values of measureNetwork for the server whose output it reads.
func bothWays(c *cable, output *bufio.Reader) func(ctx context.Context) ([]float64, error) {
	return func(ctx context.Context) ([]float64, error) {
		var values []float64
		for _, options := range [][]string{nil, {"--reverse"}} {
			if err := listening(output); err != nil {
				return nil, err
			}
			rate, err := c.throughput(ctx, options...)
			if err != nil {
				return nil, err
			}
			values = append(values, rate)
		}
		return values, nil
	}
}

// throughput is that of three seconds, after one for the congestion window.
func (c *cable) throughput(ctx context.Context, options ...string) (float64, error) {
	line := append([]string{"--client", c.guest.Addr().String(), "--json", "--omit", "1", "--time", "3"}, options...)
	text, err := exec.CommandContext(ctx, "iperf3", line...).Output()
	rate, failed := parseIperf(text)
	return rate, errors.Join(err, failed)
}

// parseIperf gives what arrived in Mbit/s.
func parseIperf(text []byte) (float64, error) {
	var result struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(text, &result); err != nil {
		return 0, fmt.Errorf("iperf3: %w: %q", err, text[:min(len(text), 200)])
	}
	if result.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", result.Error)
	}
	if result.End.Received.Rate == 0 {
		return 0, errors.New("iperf3: nothing arrived")
	}
	return result.End.Received.Rate / 1e6, nil
}
