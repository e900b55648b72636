package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"libvirt.org/go/libvirt"
)

// Version is that of the libvirt library.
func Version() (uint32, error) { return libvirt.GetVersion() }

// stateFD is the name under which QEMU knows the state's descriptor.
const stateFD = "vmruntime-state"

// Save boots the machine until its agent has opened the channel, stops it there
// and writes its state, without the RAM that is in the MemoryFile. The machine can
// only be destroyed afterwards.
// (https://qemu.org/docs/master/devel/migration/main.html)
func (m *Machine) Save(ctx context.Context, state *os.File) error {
	if err := m.saveable(ctx); err != nil {
		return fmt.Errorf("boot of the template: %w", err)
	}
	if err := m.migrate(ctx, "migrate", state); err != nil {
		return fmt.Errorf("save of the template's state: %w", err)
	}
	return nil
}

// saveable lets the machine run until its agent listens.
func (m *Machine) saveable(ctx context.Context) error {
	opened, err := m.listen("VSERPORT_CHANGE")
	if err != nil {
		return err
	}
	defer opened.close()
	if err := m.domain.Resume(); err != nil {
		return err
	}
	if err := opened.until(ctx, func(e event) (bool, error) { return e.Open, nil }); err != nil {
		return err
	}
	return m.domain.Suspend()
}

// Load gives a clone the state that was saved with its MemoryFile, and lets it
// run.
func (m *Machine) Load(ctx context.Context, state *os.File) error {
	// The NICs would announce themselves, several times and each with an interrupt: nobody
	// knows them yet.
	if err := m.execute("migrate-set-parameters", map[string]any{"announce-rounds": 0}); err != nil {
		return fmt.Errorf("load of the template's state: %w", err)
	}
	if err := m.migrate(ctx, "migrate-incoming", state); err != nil {
		return fmt.Errorf("load of the template's state: %w", err)
	}
	return m.domain.Resume()
}

// migrate moves the machine's state through a descriptor of QEMU's. libvirt's own
// save would move the RAM with it.
func (m *Machine) migrate(ctx context.Context, command string, state *os.File) error {
	done, err := m.listen("MIGRATION")
	if err != nil {
		return err
	}
	defer done.close()
	capabilities := []map[string]any{
		{"capability": "x-ignore-shared", "state": true},
		{"capability": "events", "state": true},
	}
	if err := m.execute("migrate-set-capabilities", map[string]any{"capabilities": capabilities}); err != nil {
		return err
	}
	if err := m.execute("getfd", map[string]any{"fdname": stateFD}, *state); err != nil {
		return err
	}
	if err := m.execute(command, map[string]any{"uri": "fd:" + stateFD}); err != nil {
		return err
	}
	return done.until(ctx, func(e event) (bool, error) {
		if e.Status == "failed" {
			return false, errors.New("QEMU's migration failed")
		}
		return e.Status == "completed", nil
	})
}

// execute runs a command of QEMU's monitor (https://qemu.org/docs/master/interop/qemu-qmp-ref.html).
func (m *Machine) execute(command string, arguments map[string]any, files ...os.File) error {
	text, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	if err != nil {
		return err
	}
	var answer string
	if len(files) == 0 {
		answer, err = m.domain.QemuMonitorCommand(string(text), libvirt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
	} else {
		answer, _, err = m.domain.QemuMonitorCommandWithFiles(string(text), files, libvirt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	var result struct {
		Error *struct {
			Description string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(answer), &result); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	if result.Error != nil {
		return fmt.Errorf("%s: %s", command, result.Error.Description)
	}
	return nil
}

// An event is what QEMU tells of itself, as far as it concerns templates.
type event struct {
	// Open is in VSERPORT_CHANGE: whether the guest has opened its end.
	Open bool `json:"open"`
	// Status is in MIGRATION.
	Status string `json:"status"`
}

// events are those of one kind, from the moment of listen on.
type events struct {
	conn   *libvirt.Connect
	id     int
	arrive chan event
}

// maxEvents is how many may wait to be looked at; a guest can cause any number,
// and further ones are dropped.
const maxEvents = 64

func (m *Machine) listen(name string) (*events, error) {
	e := &events{conn: m.conn, arrive: make(chan event, maxEvents)}
	var err error
	e.id, err = m.conn.DomainQemuMonitorEventRegister(m.domain, name, e.take, 0)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", name, err)
	}
	return e, nil
}

func (e *events) take(_ *libvirt.Connect, _ *libvirt.Domain, raw *libvirt.DomainQemuMonitorEvent) {
	var got event
	if json.Unmarshal([]byte(raw.Details), &got) != nil {
		return
	}
	select {
	case e.arrive <- got:
	default:
	}
}

func (e *events) close() { _ = e.conn.DomainQemuEventDeregister(e.id) }

// until waits for the event that good accepts.
func (e *events) until(ctx context.Context, good func(event) (bool, error)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case got := <-e.arrive:
			if done, err := good(got); done || err != nil {
				return err
			}
		}
	}
}
