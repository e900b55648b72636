package network

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ingressHandle is the one that an ingress qdisc always has.
var ingressHandle = netlink.MakeHandle(0xffff, 0)

// The ports of the namespace's own sockets, 61440 to 65535, and the port of DNS.
const (
	localPorts     = 0xf000
	localPortsMask = 0xf000
	dnsPort        = 53
)

// Connect has the interfaces that Read has found and their NICs' taps hand all their
// packets to each other (tc-mirred(8)).
func (n *Namespace) Connect() error {
	links, err := n.interfaces()
	if err != nil {
		return err
	}
	for _, link := range links {
		index := link.Attrs().Index
		nic, ok := n.nics[index]
		if !ok || n.connected[index] {
			continue
		}
		if err := connect(link, n.Taps[nic]); err != nil {
			return fmt.Errorf("interface %s and tap %s: %w", link.Attrs().Name, n.Taps[nic], err)
		}
		n.connected[index] = true
	}
	return nil
}

func connect(link netlink.Link, name string) error {
	tap, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	// Larger packets than the interface's come from nobody.
	if tap.Attrs().MTU != link.Attrs().MTU {
		if err := netlink.LinkSetMTU(tap, link.Attrs().MTU); err != nil {
			return fmt.Errorf("MTU %d: %w", link.Attrs().MTU, err)
		}
	}
	if err := netlink.LinkSetUp(tap); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	return errors.Join(redirect(link, tap, answers(link, tap)...), redirect(tap, link))
}

// answers are what sockets of the namespace itself wait for: engines answer the
// container's DNS queries in here, and ask others from here. Answers to ports of
// localPorts stay, and ARP packets go both ways, for the kernel to find its gateway.
func answers(link, tap netlink.Link) []netlink.Filter {
	attrs := func(priority, protocol uint16) netlink.FilterAttrs {
		return netlink.FilterAttrs{LinkIndex: link.Attrs().Index, Parent: ingressHandle, Priority: priority, Protocol: protocol}
	}
	stay := func(priority uint16, transport uint32) *netlink.U32 {
		return &netlink.U32{FilterAttrs: attrs(priority, unix.ETH_P_IP), Sel: &netlink.TcU32Sel{
			Flags: netlink.TC_U32_TERMINAL,
			// Offsets in an IPv4 header without options, and the ports behind it.
			Keys: []netlink.TcU32Key{
				{Off: 8, Mask: 0x00ff0000, Val: transport << 16},
				{Off: 20, Mask: 0xffff0000 | localPortsMask, Val: dnsPort<<16 | localPorts},
			},
		}, ClassId: netlink.MakeHandle(0, 1)} // A class without an action lets the packet pass.
	}
	arp := &netlink.U32{FilterAttrs: attrs(1, unix.ETH_P_ARP), Actions: []netlink.Action{&netlink.MirredAction{
		ActionAttrs:  netlink.ActionAttrs{Action: netlink.TC_ACT_OK},
		MirredAction: netlink.TCA_EGRESS_MIRROR,
		Ifindex:      tap.Attrs().Index,
	}}}
	return []netlink.Filter{arp, stay(2, unix.IPPROTO_UDP), stay(3, unix.IPPROTO_TCP)}
}

// LocalPorts has the namespace's own sockets use ports that the guest's do not,
// which end below 61000.
func LocalPorts() error {
	first, last := localPorts, localPorts|^localPortsMask&0xffff
	return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", fmt.Appendf(nil, "%d %d", first, last), 0)
}

// redirect hands what arrives at one link to the other to send.
func redirect(from, to netlink.Link, before ...netlink.Filter) error {
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: from.Attrs().Index, Handle: ingressHandle, Parent: netlink.HANDLE_INGRESS,
	}}
	// Whatever an earlier VM of the namespace has left goes with it.
	if err := netlink.QdiscDel(ingress); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("tc qdisc del: %w", err)
	}
	if err := netlink.QdiscAdd(ingress); err != nil {
		return fmt.Errorf("tc qdisc add ingress: %w", err)
	}
	filter := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: from.Attrs().Index, Parent: ingressHandle, Priority: 9, Protocol: unix.ETH_P_ALL,
		},
		Actions: []netlink.Action{&netlink.MirredAction{
			ActionAttrs:  netlink.ActionAttrs{Action: netlink.TC_ACT_STOLEN},
			MirredAction: netlink.TCA_EGRESS_REDIR,
			Ifindex:      to.Attrs().Index,
		}},
	}
	for _, f := range append(before, filter) {
		if err := netlink.FilterAdd(f); err != nil {
			return fmt.Errorf("tc filter add: %w", err)
		}
	}
	return nil
}
