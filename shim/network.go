package shim

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/vmruntime/vmruntime/network"
	"github.com/vmruntime/vmruntime/protocol"
)

// A mirror keeps the container's network in the guest as an engine makes it in
// the network namespace, which is the shim's own.
type mirror struct {
	guest     *guest
	container string
	namespace *network.Namespace

	mu   sync.Mutex
	last protocol.Network
	// resolves is set once the guest's DNS queries are answered.
	resolves bool

	// follows is set once changes are watched: a start that fails may be repeated.
	follows bool
}

func newMirror(g *guest, container string, taps []string) *mirror {
	return &mirror{
		guest: g, container: container, namespace: network.NewNamespace(taps),
		last: protocol.Network{Container: container},
	}
}

// follow brings the network into the guest, now and whenever it changes until ctx
// ends. Engines fill the namespace before create, in a hook of it, or between
// create and start; and they connect running containers to further networks.
func (m *mirror) follow(ctx context.Context) error {
	if !m.follows {
		changes, err := network.Watch(ctx.Done())
		if err != nil {
			return fmt.Errorf("network: %w", err)
		}
		m.follows = true
		go m.keep(ctx, changes)
	}
	if err := m.sync(ctx); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	return nil
}

// syncRetry is when what failed is tried again without a further change.
const syncRetry = 5 * time.Second

func (m *mirror) keep(ctx context.Context, changes <-chan struct{}) {
	var retry <-chan time.Time
	told := ""
	for {
		select {
		case _, open := <-changes:
			if !open {
				return
			}
		case <-retry:
		}
		retry = nil
		err := m.sync(ctx)
		if err == nil || ctx.Err() != nil {
			told = ""
			continue
		}
		retry = time.After(syncRetry)
		if text := err.Error(); text != told {
			told = text
			fmt.Fprintln(os.Stderr, "vmruntime shim: network:", text)
		}
	}
}

func (m *mirror) sync(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, err := m.namespace.Read(m.container)
	if err != nil {
		return err
	}
	if err := m.namespace.Connect(); err != nil {
		return err
	}
	if !reflect.DeepEqual(now, m.last) {
		if _, err := m.guest.ask(ctx, protocol.Request{Network: &now}); err != nil {
			return err
		}
		m.last = now
	}
	return m.relay(ctx)
}

// relay has the guest ask the engine for names, where there is one that answers.
func (m *mirror) relay(ctx context.Context) error {
	if m.resolves || !engineResolves() {
		return nil
	}
	asked, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	stream, _, err := m.guest.stream(asked, protocol.Request{Resolver: &protocol.Target{Container: m.container}})
	if err != nil {
		return err
	}
	if err := m.namespace.KeepAnswers(); err != nil {
		stream.Close()
		return err
	}
	m.resolves = true
	go resolve(ctx, stream)
	return nil
}
