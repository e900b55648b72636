package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/cgroup"
	"github.com/vmruntime/vmruntime/shim"
)

// An Event is one line of `events`, as runc has it: "oom" without data, or "stats".
type Event struct {
	Type string        `json:"type"`
	ID   string        `json:"id"`
	Data *cgroup.Stats `json:"data,omitempty"`
}

// Stats is one event with the container's figures.
func (r Runtime) Stats(ctx context.Context, id string) (Event, error) {
	if err := r.checkEvents(ctx, id); err != nil {
		return Event{}, err
	}
	s, err := r.client(id).Stats(ctx)
	return Event{"stats", id, &s}, err
}

// Events calls emit with the figures of a container at every interval, and with an
// OOM kill inside as it happens, until the container has ended. It is called by one
// goroutine at a time.
func (r Runtime) Events(ctx context.Context, id string, interval time.Duration, emit func(Event) error) error {
	if err := r.checkEvents(ctx, id); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	kills, ended := make(chan struct{}), make(chan error, 1)
	done := make(chan struct{})
	defer func() { <-done }()
	defer cancel()
	go func() {
		defer close(done)
		ended <- r.followOOM(ctx, id, kills)
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		var event Event
		var err error
		select {
		case err := <-ended:
			return over(err)
		case <-kills:
			event = Event{Type: "oom", ID: id}
		case <-tick.C:
			event, err = r.Stats(ctx, id)
		}
		if err == nil {
			err = emit(event)
		}
		if err != nil {
			return over(err)
		}
	}
}

// over leaves out that the container has ended.
func over(err error) error {
	if errors.Is(err, shim.ErrNotRunning) || errors.Is(err, errGone) {
		return nil
	}
	return err
}

// errGone is for events of a container that has none.
var errGone = errors.New("is not running")

func (r Runtime) checkEvents(ctx context.Context, id string) error {
	_, status, err := r.current(ctx, id)
	if err == nil && (status == specs.StateStopped || status == specs.StateCreating) {
		err = fmt.Errorf("container with id %s %w", id, errGone)
	}
	return err
}

// followOOM tells kills of every OOM kill from now on, until the container has ended.
func (r Runtime) followOOM(ctx context.Context, id string, kills chan<- struct{}) error {
	seen, err := r.client(id).OOMKills(ctx, nil)
	for err == nil {
		var now uint64
		if now, err = r.client(id).OOMKills(ctx, &seen); err != nil || now <= seen {
			continue
		}
		seen = now
		select {
		case kills <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}
