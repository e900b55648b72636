// Package network connects a container's network namespace with the NICs of its
// VM. All of it works on the network namespace of the calling thread.
package network

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// A Namespace is a container's network namespace as the VM sees it.
type Namespace struct {
	// Taps are the names of the VM's, by NIC.
	Taps []string
	// nics are the NICs of interfaces, by their number in the namespace;
	// connected those that are connected.
	nics      map[int]int
	connected map[int]bool
	// resolves is set by KeepAnswers.
	resolves bool
}

// NewNamespace is the namespace of a VM with these taps.
func NewNamespace(taps []string) *Namespace {
	return &Namespace{Taps: taps, nics: map[int]int{}, connected: map[int]bool{}}
}

// Read tells what an engine has put into the namespace: its interfaces but lo and
// the VM's taps, with addresses, routes and static neighbours. Each gets a NIC and
// keeps it.
func (n *Namespace) Read(container string) (found protocol.Network, err error) {
	for range attempts {
		if found, err = n.readOnce(container); err == nil || !changing(err) {
			break
		}
	}
	return found, err
}

// attempts is how often a namespace is read that changes meanwhile.
const attempts = 10

// changing tells that something came or went between two looks.
func changing(err error) bool {
	var notFound netlink.LinkNotFoundError
	return errors.Is(err, netlink.ErrDumpInterrupted) || errors.Is(err, unix.ENODEV) || errors.As(err, &notFound)
}

func (n *Namespace) readOnce(container string) (protocol.Network, error) {
	found := protocol.Network{Container: container}
	links, err := n.interfaces()
	if err != nil {
		return found, err
	}
	if err := n.assign(links); err != nil {
		return found, err
	}
	for _, link := range links {
		if err := n.read(link, &found); err != nil {
			return found, fmt.Errorf("interface %s: %w", link.Attrs().Name, err)
		}
	}
	return found, nil
}

// interfaces are the links that are not the VM's.
func (n *Namespace) interfaces() ([]netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	links = slices.DeleteFunc(links, func(l netlink.Link) bool {
		// Other kinds have no hardware address of this size: lo, and the tunnels
		// that the kernel puts into every namespace.
		return len(l.Attrs().HardwareAddr) != 6 || l.Attrs().Flags&net.FlagLoopback != 0 || slices.Contains(n.Taps, l.Attrs().Name)
	})
	slices.SortFunc(links, func(a, b netlink.Link) int { return cmp.Compare(a.Attrs().Index, b.Attrs().Index) })
	return links, nil
}

// assign gives every interface a NIC, and takes back those of interfaces that are
// gone.
func (n *Namespace) assign(links []netlink.Link) error {
	gone := func(index int) bool {
		return !slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().Index == index })
	}
	maps.DeleteFunc(n.nics, func(index, _ int) bool { return gone(index) })
	maps.DeleteFunc(n.connected, func(index int, _ bool) bool { return gone(index) })
	for _, l := range links {
		if _, has := n.nics[l.Attrs().Index]; has {
			continue
		}
		nic, ok := n.free()
		if !ok {
			return fmt.Errorf("the network namespace has %d interfaces, and a VM NICs for %d", len(links), len(n.Taps))
		}
		n.nics[l.Attrs().Index] = nic
	}
	return nil
}

func (n *Namespace) free() (int, bool) {
	used := slices.Collect(maps.Values(n.nics))
	for nic := range n.Taps {
		if !slices.Contains(used, nic) {
			return nic, true
		}
	}
	return 0, false
}

func (n *Namespace) read(link netlink.Link, into *protocol.Network) error {
	a := link.Attrs()
	i := protocol.Interface{
		NIC: n.nics[a.Index], Name: a.Name, MAC: a.HardwareAddr.String(), MTU: a.MTU, Up: a.Flags&net.FlagUp != 0,
		NoIPv6: noIPv6(a.Name),
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	for _, address := range addresses {
		// The guest makes its own link-local address out of the same MAC.
		if prefix := toPrefix(address.IPNet); !prefix.Addr().Is6() || !prefix.Addr().IsLinkLocalUnicast() {
			i.Addresses = append(i.Addresses, prefix)
		}
	}
	into.Interfaces = append(into.Interfaces, i)
	routes, err := netlink.RouteList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	for _, r := range routes {
		if route, ok := toRoute(a.Name, r); ok {
			into.Routes = append(into.Routes, route)
		}
	}
	neighbours, err := netlink.NeighList(a.Index, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("neighbours: %w", err)
	}
	for _, neighbour := range neighbours {
		address, ok := netip.AddrFromSlice(neighbour.IP)
		if ok && neighbour.State&netlink.NUD_PERMANENT != 0 && len(neighbour.HardwareAddr) == 6 {
			into.Neighbours = append(into.Neighbours, protocol.Neighbour{Interface: a.Name, Address: address.Unmap(), MAC: neighbour.HardwareAddr.String()})
		}
	}
	return nil
}

// noIPv6 tells that IPv6 is switched off, as engines do where they have no address.
func noIPv6(name string) bool {
	text, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/disable_ipv6")
	return err == nil && string(text) == "1\n"
}

// toRoute leaves out what the guest's kernel makes by itself: the routes that
// come with addresses, and those that routers advertise.
func toRoute(name string, r netlink.Route) (protocol.Route, bool) {
	if r.Protocol == unix.RTPROT_KERNEL || r.Protocol == unix.RTPROT_RA || r.Table != unix.RT_TABLE_MAIN || r.Type != unix.RTN_UNICAST {
		return protocol.Route{}, false
	}
	if r.Dst == nil {
		r.Dst = &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
		if r.Family == netlink.FAMILY_V6 {
			r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
	}
	route := protocol.Route{
		Interface: name, Destination: toPrefix(r.Dst), Metric: r.Priority, Scope: int(r.Scope),
		MTU: r.MTU, AdvMSS: r.AdvMSS, OnLink: r.Flags&int(netlink.FLAG_ONLINK) != 0,
	}
	if gateway, ok := netip.AddrFromSlice(r.Gw); ok {
		route.Gateway = gateway.Unmap()
	}
	if source, ok := netip.AddrFromSlice(r.Src); ok {
		route.Source = source.Unmap()
	}
	return route, route.Destination.IsValid()
}

func toPrefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	address, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(address.Unmap(), ones)
}
