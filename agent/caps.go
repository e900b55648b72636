package agent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capabilities are the five sets of the calling thread to be. None are changed
// when the spec has none (config.md, "capabilities").
type capabilities struct {
	thread  capability.Capabilities
	sets    map[capability.CapType][]capability.Cap
	ambient []capability.Cap
}

func newCapabilities(c *specs.LinuxCapabilities) (*capabilities, error) {
	if c == nil {
		return &capabilities{}, nil
	}
	known, err := knownCapabilities()
	if err != nil {
		return nil, err
	}
	thread, err := capability.NewPid2(0)
	if err != nil {
		return nil, fmt.Errorf("process.capabilities: %w", err)
	}
	return &capabilities{
		thread: thread,
		sets: map[capability.CapType][]capability.Cap{
			capability.BOUNDING:    known.pick(c.Bounding),
			capability.EFFECTIVE:   known.pick(c.Effective),
			capability.INHERITABLE: known.pick(c.Inheritable),
			capability.PERMITTED:   known.pick(c.Permitted),
		},
		ambient: known.pick(c.Ambient),
	}, nil
}

// capNames are the capabilities of this kernel by name.
type capNames map[string]capability.Cap

func knownCapabilities() (capNames, error) {
	list, err := capability.ListSupported()
	if err != nil {
		return nil, fmt.Errorf("process.capabilities: %w", err)
	}
	names := capNames{}
	for _, c := range list {
		names["CAP_"+strings.ToUpper(c.String())] = c
	}
	return names, nil
}

// pick gives the named capabilities. What this kernel does not know cannot be
// granted and is left out, as runc does.
func (n capNames) pick(list []string) []capability.Cap {
	var caps []capability.Cap
	for _, name := range list {
		if c, ok := n[name]; ok {
			caps = append(caps, c)
		}
	}
	return caps
}

// capSets are the sets as the kernel's calls take them.
type capSets struct {
	// dropped are those outside of the bounding set.
	dropped []capability.Cap
	// data is what capset(2) sets, 32 capabilities each.
	data    [2]unix.CapUserData
	ambient []capability.Cap
}

// newCapSets is nil when the spec has none.
func newCapSets(c *specs.LinuxCapabilities) (*capSets, error) {
	if c == nil {
		return nil, nil
	}
	known, err := knownCapabilities()
	if err != nil {
		return nil, err
	}
	s := &capSets{ambient: known.pick(c.Ambient)}
	bounding := known.pick(c.Bounding)
	for _, one := range known {
		if !slices.Contains(bounding, one) {
			s.dropped = append(s.dropped, one)
		}
	}
	slices.Sort(s.dropped)
	for _, one := range known.pick(c.Effective) {
		s.data[one/32].Effective |= 1 << (one % 32)
	}
	for _, one := range known.pick(c.Permitted) {
		s.data[one/32].Permitted |= 1 << (one % 32)
	}
	for _, one := range known.pick(c.Inheritable) {
		s.data[one/32].Inheritable |= 1 << (one % 32)
	}
	return s, nil
}

// bound sets the bounding set, which must come before the user changes.
func (c *capabilities) bound() error {
	if c.thread == nil {
		return nil
	}
	c.thread.Clear(capability.BOUNDING)
	c.thread.Set(capability.BOUNDING, c.sets[capability.BOUNDING]...)
	if err := c.thread.Apply(capability.BOUNDING); err != nil {
		return fmt.Errorf("process.capabilities.bounding: %w", err)
	}
	return nil
}

// apply sets the rest, after the user has changed.
func (c *capabilities) apply() error {
	if c.thread == nil {
		return nil
	}
	c.thread.Clear(capability.CAPS | capability.BOUNDS)
	for kind, set := range c.sets {
		c.thread.Set(kind, set...)
	}
	if err := c.thread.Apply(capability.CAPS | capability.BOUNDS); err != nil {
		return fmt.Errorf("process.capabilities: %w", err)
	}
	if err := capability.ResetAmbient(); err != nil {
		return fmt.Errorf("process.capabilities.ambient: %w", err)
	}
	for _, ambient := range c.ambient {
		// One that is not inheritable as well cannot be raised; runc warns.
		_ = capability.SetAmbient(true, ambient)
	}
	return nil
}
