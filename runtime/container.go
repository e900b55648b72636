package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/shim"
)

// stateUnknown is that of a shim that runs and does not answer.
const stateUnknown specs.ContainerState = "unknown"

// State is what state and list print, with runc's names in runc's order.
type State struct {
	Version     string               `json:"ociVersion"`
	ID          string               `json:"id"`
	PID         int                  `json:"pid"`
	Status      specs.ContainerState `json:"status"`
	Bundle      string               `json:"bundle"`
	Rootfs      string               `json:"rootfs"`
	Created     time.Time            `json:"created"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	Owner       string               `json:"owner"`
}

// State returns what a container is and does now.
func (r Runtime) State(ctx context.Context, id string) (State, error) {
	rec, err := r.find(id)
	if err != nil {
		return State{}, err
	}
	status, err := r.status(ctx, rec)
	if err != nil {
		return State{}, err
	}
	return rec.state(status), nil
}

// List returns every container under the root. One that is damaged is reported
// and left out: it must not hide the others.
func (r Runtime) List(ctx context.Context) ([]State, error) {
	entries, err := os.ReadDir(r.Root)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--root: %w", err)
	}
	var list []State
	for _, e := range entries {
		if !e.IsDir() || checkID(e.Name()) != nil {
			continue
		}
		rec, err := readRecord(r.Root, e.Name())
		if errors.Is(err, errNotExist) {
			// It has just been deleted.
			continue
		}
		if err != nil {
			slog.Warn(err.Error())
			continue
		}
		status, err := r.status(ctx, rec)
		if err != nil {
			status = stateUnknown
		}
		list = append(list, rec.state(status))
	}
	return list, nil
}

func (rec record) state(status specs.ContainerState) State {
	s := State{
		Version: rec.Version, ID: rec.ID, PID: rec.PID, Status: status, Bundle: rec.Bundle, Rootfs: rec.Rootfs,
		Created: rec.Created, Annotations: rec.Annotations, Owner: rec.Owner,
	}
	if status == specs.StateStopped {
		s.PID = 0
	}
	return s
}

// hookState is what hooks read on stdin.
func (rec record) hookState(status specs.ContainerState) specs.State {
	return specs.State{
		Version: specs.Version, ID: rec.ID, Status: status, Pid: rec.PID, Bundle: rec.Bundle, Annotations: rec.Annotations,
	}
}

func (r Runtime) find(id string) (record, error) {
	if err := checkID(id); err != nil {
		return record{}, err
	}
	return readRecord(r.Root, id)
}

// status asks the shim, as far as there is one.
func (r Runtime) status(ctx context.Context, rec record) (specs.ContainerState, error) {
	if rec.PID == 0 {
		if locked(r.Root, rec.ID) {
			return specs.StateCreating, nil
		}
		// Whoever created it has died.
		return specs.StateStopped, nil
	}
	if !rec.alive() {
		return specs.StateStopped, nil
	}
	status, err := r.client(rec.ID).Status(ctx)
	if errors.Is(err, shim.ErrNotRunning) {
		return specs.StateStopped, nil
	}
	return status, err
}

func (r Runtime) client(id string) shim.Client {
	return shim.Client{Dir: shim.Dir(r.Root, id), Build: r.Build}
}

// owner is the name of the user who runs the container.
func owner() string {
	uid := strconv.Itoa(os.Geteuid())
	u, err := user.LookupId(uid)
	if err != nil {
		return "#" + uid
	}
	return u.Username
}
