package runtime

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What an exec is refused with where there is no shim to refuse it.
func TestExecStates(t *testing.T) {
	process := &specs.Process{Args: []string{"true"}, Cwd: "/"}
	for name, tt := range map[string]struct {
		record record
		locked bool
		want   string
	}{
		"being created":    {record{ID: "c"}, true, "cannot exec in a container that is being created"},
		"creator has died": {record{ID: "c"}, false, "cannot exec in a stopped container"},
		"shim has ended":   {record{ID: "c", PID: 1 << 30, PIDStart: 1}, false, "cannot exec in a stopped container"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Runtime{Root: t.TempDir()}
			d, err := makeStateDir(r.Root, tt.record)
			if err != nil {
				t.Fatal(err)
			}
			if !tt.locked {
				d.unlock()
			}
			for _, e := range []Exec{{ID: "c", Process: process}, {ID: "c", Process: process, Detach: true}} {
				if _, err := r.Exec(t.Context(), e, CatchSignals()); err == nil || err.Error() != tt.want {
					t.Errorf("detached %v: error is %v", e.Detach, err)
				}
			}
		})
	}
}
