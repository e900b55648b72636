package shim

import (
	"errors"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/vm"
)

// Only of a cgroup that somebody has named an error is one.
func TestInsist(t *testing.T) {
	refused := errors.New("refused")
	for chosen, want := range map[bool]error{true: refused, false: nil} {
		p := Plan{Cgroup: cgroup.Place{Chosen: chosen}}
		if err := p.insist(refused); !errors.Is(err, want) {
			t.Errorf("chosen %v: %v", chosen, err)
		}
		if err := p.insist(nil); err != nil {
			t.Error(err)
		}
	}
}

// A whole system beside the container takes memory of its own, which no limit inside
// counts.
func TestLimitsOfBaseImage(t *testing.T) {
	limit, unlimited := int64(64<<20), int64(-1)
	r := &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &unlimited}}
	p := Plan{}
	if p.onHost(r) != r {
		t.Error("our own guest has other limits")
	}
	p.Machine.Boot = &vm.BootDisk{}
	host := p.onHost(r).Memory
	if *host.Limit != limit+vm.BaseImageMemory || *host.Swap != unlimited || host.Reservation != nil {
		t.Errorf("limit %d, swap %d, reservation %v", *host.Limit, *host.Swap, host.Reservation)
	}
	if limit != 64<<20 {
		t.Error("the container's limit has changed")
	}
	if p.onHost(nil) != nil {
		t.Error("no limits have become some")
	}
}
