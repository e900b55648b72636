package shim

import (
	"errors"
	"testing"

	"github.com/vmruntime/vmruntime/cgroup"
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
