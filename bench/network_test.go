package main

import (
	"bufio"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseIperf(t *testing.T) {
	got, err := parseIperf([]byte(`{"end": {"sum_sent": {"bits_per_second": 5e6}, "sum_received": {"bits_per_second": 2.5e6}}}`))
	if err != nil || got != 2.5 {
		t.Errorf("%v, %v", got, err)
	}
	for text, want := range map[string]string{
		`{"end": {}, "error": "unable to connect"}`: "unable to connect",
		`{"end": {}}`: "nothing arrived",
		"":            `""`,
	} {
		if _, err := parseIperf([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestListening(t *testing.T) {
	serves := func(text string) error { return listening(bufio.NewReader(strings.NewReader(text))) }
	if err := serves("-----\nServer listening on 5201 (test #1)\n-----\n"); err != nil {
		t.Error(err)
	}
	if err := serves("iperf3: error - unable to start listener\n"); err == nil {
		t.Error("one that has ended serves")
	}
}

// Each cable has a network of its own.
func TestEnds(t *testing.T) {
	for n, want := range map[int][2]string{0: {"198.18.0.1/30", "198.18.0.2/30"}, 1: {"198.18.0.5/30", "198.18.0.6/30"}, 64: {"198.18.1.1/30", "198.18.1.2/30"}} {
		host, guest := ends(n)
		if host.String() != want[0] || guest.String() != want[1] || host.Masked() != guest.Masked() {
			t.Errorf("%d: %v and %v, want %v", n, host, guest, want)
		}
	}
}

func TestJoined(t *testing.T) {
	spec := &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.NetworkNamespace}}}}
	(&cable{path: "/run/netns/x"}).joined(spec)
	if n := spec.Linux.Namespaces; n[0].Path != "" || n[1].Path != "/run/netns/x" {
		t.Errorf("%+v", n)
	}
}
