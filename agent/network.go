package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// setNetwork makes the container's network namespace what the host's is: NICs
// come in from the VM's own namespace and go back there.
func (a *agent) setNetwork(n *protocol.Network) error {
	c, err := a.find(n.Container)
	if err != nil {
		return err
	}
	c.network.Lock()
	defer c.network.Unlock()
	inside, err := c.openNetns()
	if err != nil {
		return err
	}
	defer inside.Close()
	handles, err := openHandles(inside)
	if err != nil {
		return err
	}
	defer handles.close()
	if err := handles.apply(n); err != nil {
		return err
	}
	if err := handles.setNeighbours(n.Neighbours, c.neighbours); err != nil {
		return err
	}
	c.neighbours = n.Neighbours
	return handles.setRoutes(n.Routes)
}

// openNetns is the network namespace of the container's init.
func (c *container) openNetns() (*os.File, error) {
	c.mu.Lock()
	init := c.init
	c.mu.Unlock()
	if init == nil {
		return nil, errNotRunning
	}
	return os.Open(fmt.Sprintf("/proc/%d/ns/net", init.pid))
}

// inNetns calls f on a thread that is in a network namespace meanwhile. One that
// does not get back ends with its goroutine.
func inNetns(ns *os.File, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		own, err := netns.Get()
		if err == nil {
			err = visit(netns.NsHandle(ns.Fd()), f)
			if errors.Join(netns.Set(own), own.Close()) == nil {
				runtime.UnlockOSThread()
			}
		}
		done <- err
	}()
	return <-done
}

func visit(ns netns.NsHandle, f func() error) error {
	if err := netns.Set(ns); err != nil {
		return os.NewSyscallError("setns", err)
	}
	return f()
}

// handles are sockets in the VM's own network namespace and in a container's.
type handles struct {
	vm, container *netlink.Handle
	// own is the VM's namespace, inside the container's.
	own    netns.NsHandle
	inside *os.File
}

func openHandles(inside *os.File) (*handles, error) {
	own, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	h := &handles{own: own, inside: inside}
	if h.vm, err = netlink.NewHandle(unix.NETLINK_ROUTE); err == nil {
		h.container, err = netlink.NewHandleAt(netns.NsHandle(inside.Fd()), unix.NETLINK_ROUTE)
	}
	if err != nil {
		h.close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return h, nil
}

func (h *handles) close() {
	if h.vm != nil {
		h.vm.Close()
	}
	if h.container != nil {
		h.container.Close()
	}
	h.own.Close()
}

// apply makes the interfaces. Those that are gone make room first, and names too.
func (h *handles) apply(n *protocol.Network) error {
	for nic := range protocol.MaxInterfaces {
		if slices.ContainsFunc(n.Interfaces, func(i protocol.Interface) bool { return i.NIC == nic }) {
			continue
		}
		if err := h.park(nic); err != nil {
			return fmt.Errorf("NIC %d: %w", nic, err)
		}
	}
	if err := h.freeNames(n.Interfaces); err != nil {
		return err
	}
	for _, i := range n.Interfaces {
		if err := h.place(i); err != nil {
			return fmt.Errorf("interface %s: %w", i.Name, err)
		}
	}
	return nil
}

// freeNames takes the names of NICs that are about to get others.
func (h *handles) freeNames(interfaces []protocol.Interface) error {
	for _, i := range interfaces {
		link, err := findNIC(h.container, i.NIC)
		if err != nil {
			return err
		}
		if link == nil || link.Attrs().Name == i.Name {
			continue
		}
		if err := h.rename(link, parkedName(i.NIC)); err != nil {
			return fmt.Errorf("interface %s: %w", i.Name, err)
		}
	}
	return nil
}

func (h *handles) rename(link netlink.Link, name string) error {
	return errors.Join(h.container.LinkSetDown(link), h.container.LinkSetName(link, name))
}

// parkedName is that of a NIC that stands for no interface.
func parkedName(nic int) string { return fmt.Sprintf("nic%d", nic) }

// find is the NIC of that number, where it is. Its permanent address tells it.
func findNIC(h *netlink.Handle, nic int) (netlink.Link, error) {
	links, err := h.LinkList()
	if err != nil {
		return nil, err
	}
	want := protocol.NICAddress(nic)
	for _, l := range links {
		if a := l.Attrs(); slices.Equal(a.PermHWAddr, want) {
			return l, nil
		}
	}
	return nil, nil
}

// park takes a NIC out of the container.
func (h *handles) park(nic int) error {
	link, err := findNIC(h.container, nic)
	if err != nil || link == nil {
		return err
	}
	return errors.Join(h.rename(link, parkedName(nic)), h.container.LinkSetNsFd(link, int(h.own)))
}

// place makes the NIC the container's interface.
func (h *handles) place(i protocol.Interface) error {
	link, err := findNIC(h.container, i.NIC)
	if err != nil {
		return err
	}
	if link == nil {
		if link, err = h.bring(i.NIC); err != nil {
			return err
		}
	}
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return err
	}
	if link.Attrs().Name != i.Name {
		if err := h.rename(link, i.Name); err != nil {
			return fmt.Errorf("rename: %w", err)
		}
	}
	if !slices.Equal(link.Attrs().HardwareAddr, mac) {
		if err := h.container.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("MAC %s: %w", i.MAC, err)
		}
	}
	if link.Attrs().MTU != i.MTU {
		if err := h.container.LinkSetMTU(link, i.MTU); err != nil {
			return fmt.Errorf("MTU %d: %w", i.MTU, err)
		}
	}
	if err := h.setIPv6(i); err != nil {
		return fmt.Errorf("IPv6: %w", err)
	}
	if err := h.setAddresses(link, i.Addresses); err != nil {
		return err
	}
	if !i.Up {
		return h.container.LinkSetDown(link)
	}
	return h.container.LinkSetUp(link)
}

// setIPv6 switches IPv6 on or off, if the guest's kernel has it.
func (h *handles) setIPv6(i protocol.Interface) error {
	value := "0"
	if i.NoIPv6 {
		value = "1"
	}
	path := "/proc/sys/net/ipv6/conf/" + i.Name + "/disable_ipv6"
	err := inNetns(h.inside, func() error { return writeFile(path, value) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// bring moves a NIC from the VM's namespace into the container's.
func (h *handles) bring(nic int) (netlink.Link, error) {
	link, err := h.wake(nic)
	if err != nil {
		return nil, err
	}
	if link == nil {
		return nil, fmt.Errorf("the VM has no NIC %d", nic)
	}
	if err := h.vm.LinkSetNsFd(link, int(h.inside.Fd())); err != nil {
		return nil, err
	}
	link, err = findNIC(h.container, nic)
	if err == nil && link == nil {
		err = fmt.Errorf("NIC %d got lost", nic)
	}
	return link, err
}

// wake finds a NIC in the VM's namespace, whose driver may not be loaded yet.
func (h *handles) wake(nic int) (netlink.Link, error) {
	link, err := findNIC(h.vm, nic)
	if err != nil || link != nil {
		return link, err
	}
	if err := loadNICs(); err != nil {
		return nil, err
	}
	return findNIC(h.vm, nic)
}

// setAddresses gives the link these addresses and no others, but for the
// link-local ones that the kernel makes.
func (h *handles) setAddresses(link netlink.Link, want []netip.Prefix) error {
	have, err := h.container.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	for _, address := range have {
		if ip, _ := netip.AddrFromSlice(address.IP); ip.Is6() && !ip.Is4In6() && ip.IsLinkLocalUnicast() {
			continue
		}
		if !slices.ContainsFunc(want, func(p netip.Prefix) bool { return ipNet(p).String() == address.IPNet.String() }) {
			if err := h.container.AddrDel(link, &address); err != nil {
				return fmt.Errorf("address %s: %w", address.IPNet, err)
			}
		}
	}
	for _, prefix := range want {
		address := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			// The engine has looked for duplicates.
			address.Flags = unix.IFA_F_NODAD
		}
		if err := h.container.AddrReplace(link, address); err != nil {
			return fmt.Errorf("address %s: %w", prefix, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// setNeighbours sets the static neighbours, and removes those that were set before
// and are not wanted any more: the container may have set others itself.
func (h *handles) setNeighbours(want, before []protocol.Neighbour) error {
	for _, n := range before {
		if slices.Contains(want, n) {
			continue
		}
		// It may have gone with its interface.
		if entry, err := h.neighbour(n); err == nil {
			_ = h.container.NeighDel(entry)
		}
	}
	for _, n := range want {
		entry, err := h.neighbour(n)
		if err == nil {
			err = h.container.NeighSet(entry)
		}
		if err != nil {
			return fmt.Errorf("neighbour %s: %w", n.Address, err)
		}
	}
	return nil
}

func (h *handles) neighbour(n protocol.Neighbour) (*netlink.Neigh, error) {
	link, err := h.container.LinkByName(n.Interface)
	if err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(n.MAC)
	return &netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: n.Address.AsSlice(), HardwareAddr: mac,
	}, err
}

// setRoutes adds the routes, those to links first: gateways are reached by them.
// Routes that are gone have gone with their address or interface, or are removed.
func (h *handles) setRoutes(want []protocol.Route) error {
	want = slices.Clone(want)
	slices.SortStableFunc(want, func(a, b protocol.Route) int { return b.Scope - a.Scope })
	var routes []*netlink.Route
	for _, r := range want {
		route, err := h.route(r)
		if err != nil {
			return fmt.Errorf("route to %s: %w", r.Destination, err)
		}
		routes = append(routes, route)
	}
	if err := h.removeRoutes(routes); err != nil {
		return err
	}
	for _, route := range routes {
		if err := h.container.RouteReplace(route); err != nil {
			return fmt.Errorf("route to %s: %w", route.Dst, err)
		}
	}
	return nil
}

func (h *handles) route(r protocol.Route) (*netlink.Route, error) {
	link, err := h.container.LinkByName(r.Interface)
	if err != nil {
		return nil, err
	}
	route := &netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: ipNet(r.Destination), Priority: r.Metric, Scope: netlink.Scope(r.Scope),
		Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Protocol: unix.RTPROT_BOOT,
		MTU: r.MTU, AdvMSS: r.AdvMSS,
	}
	if r.Gateway.IsValid() {
		route.Gw = r.Gateway.AsSlice()
	}
	if r.Source.IsValid() {
		route.Src = r.Source.AsSlice()
	}
	if r.OnLink {
		route.SetFlag(netlink.FLAG_ONLINK)
	}
	return route, nil
}

// removeRoutes removes those that were set for the host before and are not wanted
// any more. Routes of the container's own making have another protocol.
func (h *handles) removeRoutes(want []*netlink.Route) error {
	have, err := h.container.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{
		Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_BOOT,
	}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	for _, route := range have {
		if slices.ContainsFunc(want, func(w *netlink.Route) bool { return sameRoute(route, *w) }) {
			continue
		}
		if err := h.container.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("route to %s: %w", route.Dst, err)
		}
	}
	return nil
}

func sameRoute(a, b netlink.Route) bool {
	return a.LinkIndex == b.LinkIndex && a.Priority == b.Priority && a.Gw.Equal(b.Gw) && a.Dst.String() == b.Dst.String()
}
