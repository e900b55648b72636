package main

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// A cable is a veth pair from our network namespace into one that it makes, as
// engines make them. It needs a goroutine that is locked to its thread.
type cable struct {
	there netns.NsHandle
	// path is that of the namespace.
	path string
	// host and guest are the addresses of the ends.
	host, guest netip.Prefix
	// mac is the guest's end's.
	mac string
}

// newCable is one that goes with the lab.
func (l *lab) newCable() (*cable, error) {
	name := l.newID()
	c := &cable{path: filepath.Join("/run/netns", name)}
	c.host, c.guest = ends(l.ids)
	if err := c.makeNamespace(name); err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	l.later(func() error { return errors.Join(c.there.Close(), netns.DeleteNamed(name)) })
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("bench%d", l.ids)},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(c.there),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("veth %s: %w", veth.Name, err)
	}
	l.later(func() error { return netlink.LinkDel(veth) })
	if err := bringUp(veth.Name, c.host); err != nil {
		return nil, err
	}
	if err := c.visit(c.plugIn); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *cable) makeNamespace(name string) error {
	own, err := netns.Get()
	if err != nil {
		return err
	}
	defer own.Close()
	c.there, err = netns.NewNamed(name)
	// It has entered it.
	return errors.Join(err, netns.Set(own))
}

// ends are the addresses of the nth cable, from the range for benchmarks (RFC 2544,
// C.2.2).
func ends(n int) (host, guest netip.Prefix) {
	// Networks of four addresses: the first and the last are not for hosts.
	first := 4 * n
	at := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 30)
	}
	return at(first + 1), at(first + 2)
}

func (c *cable) plugIn() error {
	if err := bringUp("eth0", c.guest); err != nil {
		return err
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	c.mac = link.Attrs().HardwareAddr.String()
	return nil
}

func bringUp(name string, address netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address.String())
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link)); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}

// visit calls f in the cable's namespace; what it starts is born there.
func (c *cable) visit(f func() error) (err error) {
	own, err := netns.Get()
	if err != nil {
		return err
	}
	defer own.Close()
	if err := netns.Set(c.there); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, netns.Set(own)) }()
	return f()
}

// joined is the change of a container that joins the namespace.
func (c *cable) joined(s *specs.Spec) {
	for i := range s.Linux.Namespaces {
		if n := &s.Linux.Namespaces[i]; n.Type == specs.NetworkNamespace {
			n.Path = c.path
		}
	}
}
