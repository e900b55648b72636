package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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
	return handles.apply(n, int(inside.Fd()))
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

// handles are sockets in the VM's own network namespace and in a container's.
type handles struct {
	vm, container *netlink.Handle
	// own is the VM's namespace.
	own *os.File
}

func openHandles(inside *os.File) (*handles, error) {
	own, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	h := &handles{own: own}
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

// apply brings the interfaces first, then what lies on them.
func (h *handles) apply(n *protocol.Network, inside int) error {
	for nic := range protocol.MaxInterfaces {
		i := slices.IndexFunc(n.Interfaces, func(i protocol.Interface) bool { return i.NIC == nic })
		if i < 0 {
			if err := h.park(nic); err != nil {
				return fmt.Errorf("NIC %d: %w", nic, err)
			}
			continue
		}
		if err := h.place(n.Interfaces[i], inside); err != nil {
			return fmt.Errorf("interface %s: %w", n.Interfaces[i].Name, err)
		}
	}
	for _, neighbour := range n.Neighbours {
		if err := h.setNeighbour(neighbour); err != nil {
			return fmt.Errorf("neighbour %s: %w", neighbour.Address, err)
		}
	}
	return h.setRoutes(n.Routes)
}

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
	return errors.Join(
		h.container.LinkSetDown(link),
		h.container.LinkSetName(link, fmt.Sprintf("nic%d", nic)),
		h.container.LinkSetNsFd(link, int(h.own.Fd())))
}

// place makes the NIC the container's interface.
func (h *handles) place(i protocol.Interface, inside int) error {
	link, err := findNIC(h.container, i.NIC)
	if err != nil {
		return err
	}
	if link == nil {
		if link, err = h.bring(i.NIC, inside); err != nil {
			return err
		}
	}
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return err
	}
	if link.Attrs().Name != i.Name {
		if err := errors.Join(h.container.LinkSetDown(link), h.container.LinkSetName(link, i.Name)); err != nil {
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
	if err := h.setAddresses(link, i.Addresses); err != nil {
		return err
	}
	if !i.Up {
		return h.container.LinkSetDown(link)
	}
	return h.container.LinkSetUp(link)
}

// bring moves a NIC from the VM's namespace into the container's.
func (h *handles) bring(nic, inside int) (netlink.Link, error) {
	link, err := findNIC(h.vm, nic)
	if err != nil {
		return nil, err
	}
	if link == nil {
		return nil, fmt.Errorf("the VM has no NIC %d", nic)
	}
	if err := h.vm.LinkSetNsFd(link, inside); err != nil {
		return nil, err
	}
	link, err = findNIC(h.container, nic)
	if err == nil && link == nil {
		err = fmt.Errorf("NIC %d got lost", nic)
	}
	return link, err
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

func (h *handles) setNeighbour(n protocol.Neighbour) error {
	link, err := h.container.LinkByName(n.Interface)
	if err != nil {
		return err
	}
	mac, err := net.ParseMAC(n.MAC)
	if err != nil {
		return err
	}
	return h.container.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: n.Address.AsSlice(), HardwareAddr: mac,
	})
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
