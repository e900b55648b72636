package shim

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/protocol"
)

func TestAddGuest(t *testing.T) {
	s := cgroup.Stats{Memory: cgroup.Memory{Usage: cgroup.MemoryEntry{Usage: 1}}, Pids: cgroup.Pids{Current: 70, Limit: 1124}}
	addGuest(&s, protocol.Stats{
		Memory: protocol.Memory{Usage: 10, Peak: 20, Limit: 100, Swap: 1, SwapLimit: math.MaxUint64, Stat: map[string]uint64{"file": 4, "a\x1bb": 5}},
		Pids:   protocol.Pids{Current: 3, Limit: math.MaxUint64},
	})
	want := cgroup.Stats{
		Memory: cgroup.Memory{
			Cache: 4,
			Usage: cgroup.MemoryEntry{Usage: 10, Max: 20, Limit: 100},
			Swap:  cgroup.MemoryEntry{Usage: 11, Limit: math.MaxUint64},
			Raw:   map[string]uint64{"file": 4, "a?b": 5},
		},
		Pids: cgroup.Pids{Current: 3},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A guest may say as much as it likes.
func TestAddGuestBounds(t *testing.T) {
	stat := map[string]uint64{}
	for i := range 2 * maxStat {
		stat[fmt.Sprint(i)] = 1
	}
	var s cgroup.Stats
	addGuest(&s, protocol.Stats{Memory: protocol.Memory{Stat: stat}})
	if n := len(s.Memory.Raw); n != maxStat {
		t.Errorf("%d lines", n)
	}
}

// Once the container's exit is known, nothing that the machine does changes it.
func TestExitOutlastsMachine(t *testing.T) {
	c := newContainer(Plan{}, "", silentGuest(t), &machine{console: &tail{}, gone: make(chan struct{})}, nil)
	close(c.machine.gone)
	c.end(protocol.Exit{Code: 3})
	c.fail(errSilent)
	c.finish(3)
	if code := <-c.exit; code != 3 {
		t.Errorf("exit status %d, not 3", code)
	}
	other := newContainer(Plan{}, "", silentGuest(t), c.machine, nil)
	other.fail(errSilent)
	if code := <-other.exit; code != failureCode {
		t.Errorf("exit status %d, not %d", code, failureCode)
	}
}

// Who waits for OOM kills learns of the end by that of the shim, not by an error.
func TestOOMKillsUntilTheEnd(t *testing.T) {
	c := newContainer(Plan{}, "", silentGuest(t), nil, nil)
	c.guest.close()
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := c.oomKills(ctx, new(uint64))
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("it was told: %v", err)
	case <-time.After(2 * oomPause):
	}
	cancel()
	if err := <-answered; err == nil {
		t.Error("a machine that is gone has counted")
	}
	c.end(protocol.Exit{Code: 137, OOM: true})
	if n, err := c.oomKills(t.Context(), new(uint64(3))); n != 4 || err != nil {
		t.Errorf("after an OOM kill: %d, %v", n, err)
	}
}

func TestLostToOOM(t *testing.T) {
	c := &container{}
	if c.lostToOOM() {
		t.Error("lost before its end")
	}
	c.end(protocol.Exit{Code: 137, OOM: true})
	if !c.lostToOOM() {
		t.Error("not lost")
	}
	c.killed = true
	if c.lostToOOM() {
		t.Error("lost although it was killed")
	}
}
