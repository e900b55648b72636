package cloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/vmruntime/vmruntime/agent"
)

// state is what came of the network.
type state struct {
	hostname string
}

// bringUp sets the interfaces up as the source says, or by DHCP on the first of
// them. Leases are renewed until ctx ends.
func bringUp(ctx context.Context, want *network) (state, error) {
	nics, err := physical()
	if err != nil || len(nics) == 0 {
		return state{}, err
	}
	if want == nil {
		want = &network{links: []link{{name: nics[0].Attrs().Name, dhcp4: true}}}
	}
	b := &bringer{ctx: ctx, static: want.resolver}
	b.writeResolver(resolver{})
	var all error
	for _, l := range want.links {
		nic := l.among(nics, len(want.links) == 1)
		if nic == nil {
			all = errors.Join(all, fmt.Errorf("network: the machine has no interface %s %s", l.name, l.mac))
			continue
		}
		if err := b.bring(nic, l); err != nil {
			all = errors.Join(all, fmt.Errorf("network: %s: %w", nic.Attrs().Name, err))
		}
	}
	return b.state, all
}

// physical are the machine's NICs.
func physical() ([]netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	return slices.DeleteFunc(links, func(l netlink.Link) bool {
		_, err := os.Stat("/sys/class/net/" + l.Attrs().Name + "/device")
		return err != nil
	}), nil
}

// among finds the link's NIC. Names are another system's: the only link is the
// first NIC if nothing else tells.
func (l link) among(nics []netlink.Link, only bool) netlink.Link {
	mac, _ := net.ParseMAC(l.mac)
	for _, nic := range nics {
		a := nic.Attrs()
		if mac != nil && slices.Equal(a.HardwareAddr, mac) || mac == nil && a.Name == l.name {
			return nic
		}
	}
	if only && mac == nil {
		return nics[0]
	}
	return nil
}

type bringer struct {
	ctx    context.Context
	static resolver
	state  state
}

func (b *bringer) bring(nic netlink.Link, l link) error {
	if l.mtu > 0 {
		if err := netlink.LinkSetMTU(nic, l.mtu); err != nil {
			return fmt.Errorf("MTU %d: %w", l.mtu, err)
		}
	}
	if err := netlink.LinkSetUp(nic); err != nil {
		return err
	}
	for _, prefix := range l.addresses {
		if err := netlink.AddrReplace(nic, &netlink.Addr{IPNet: ipNet(prefix)}); err != nil {
			return fmt.Errorf("address %s: %w", prefix, err)
		}
	}
	if err := setRoutes(nic, l.routes); err != nil {
		return err
	}
	if l.dhcp4 {
		return b.lease(nic)
	}
	return nil
}

func setRoutes(nic netlink.Link, routes []route) error {
	for _, r := range routes {
		change := &netlink.Route{LinkIndex: nic.Attrs().Index, Dst: ipNet(r.to)}
		if r.via.IsValid() && !r.via.IsUnspecified() {
			change.Gw = r.via.AsSlice()
			// Gateways outside of the network are common with a single address.
			change.SetFlag(netlink.FLAG_ONLINK)
		} else {
			change.Scope = netlink.SCOPE_LINK
		}
		if err := netlink.RouteReplace(change); err != nil {
			return fmt.Errorf("route to %s by %s: %w", r.to, r.via, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// maxSearch is the most domains that are searched.
const maxSearch = 32

// writeResolver writes resolv.conf in place, where the container sees it.
func (b *bringer) writeResolver(leased resolver) {
	var text strings.Builder
	for _, server := range slices.Concat(b.static.servers, leased.servers) {
		fmt.Fprintf(&text, "nameserver %s\n", server)
	}
	var domains []string
	for _, domain := range slices.Concat(b.static.search, leased.search) {
		if domain != "" && !strings.ContainsFunc(domain, func(r rune) bool { return r <= ' ' || r >= 0x7f }) && len(domains) < maxSearch {
			domains = append(domains, domain)
		}
	}
	if len(domains) > 0 {
		fmt.Fprintf(&text, "search %s\n", strings.Join(domains, " "))
	}
	// Without it names are not found, which says enough.
	_ = os.WriteFile(agent.ResolverFile, []byte(text.String()), 0o644)
}
