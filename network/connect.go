package network

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ingressHandle is the one that an ingress qdisc always has.
var ingressHandle = netlink.MakeHandle(0xffff, 0)

// priority is that of the filter which hands on everything. By it [Release] knows
// ours; those of answers come before.
const priority = 0x7672

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
		nic, ok := n.nics[link.Attrs().Index]
		if !ok {
			continue
		}
		if err := n.connect(link, n.Taps[nic]); err != nil {
			return fmt.Errorf("interface %s and tap %s: %w", link.Attrs().Name, n.Taps[nic], err)
		}
	}
	return nil
}

func (n *Namespace) connect(link netlink.Link, name string) error {
	index := link.Attrs().Index
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
	// An interface that left the namespace and came back has lost its rules.
	if n.connected[index] && hasIngress(link) {
		return nil
	}
	n.connected[index] = false
	if err := netlink.LinkSetUp(tap); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	if err := errors.Join(passThrough(tap), redirect(link, tap), redirect(tap, link)); err != nil {
		return err
	}
	if n.resolves {
		if err := addFilters(answers(link, tap)); err != nil {
			return err
		}
	}
	n.connected[index] = true
	return nil
}

// KeepAnswers has the answers to DNS queries of the namespace's own sockets stay in
// it, from now on and for interfaces to come: an engine that answers the
// container's queries in here asks others from here.
func (n *Namespace) KeepAnswers() error {
	if err := limitPorts(); err != nil {
		return err
	}
	n.resolves = true
	// All rules are made anew, with whatever an attempt that failed has left.
	clear(n.connected)
	return n.Connect()
}

// answers let those to ports of localPorts stay. ARP packets and their like in IPv6
// go both ways, for the kernel to find its gateway.
func answers(link, tap netlink.Link) []netlink.Filter {
	var next uint16
	filter := func(protocol uint16, keys ...netlink.TcU32Key) *netlink.U32 {
		next++
		return &netlink.U32{FilterAttrs: netlink.FilterAttrs{
			LinkIndex: link.Attrs().Index, Parent: ingressHandle, Priority: next, Protocol: protocol,
		}, Sel: &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Keys: keys}}
	}
	stays := func(f *netlink.U32) netlink.Filter {
		f.ClassId = netlink.MakeHandle(0, 1) // A class without an action lets the packet pass.
		return f
	}
	both := func(f *netlink.U32) netlink.Filter {
		f.Actions = []netlink.Action{&netlink.MirredAction{
			ActionAttrs:  netlink.ActionAttrs{Action: netlink.TC_ACT_OK},
			MirredAction: netlink.TCA_EGRESS_MIRROR,
			Ifindex:      tap.Attrs().Index,
		}}
		return f
	}
	filters := []netlink.Filter{
		both(filter(unix.ETH_P_ARP, netlink.TcU32Key{})),
		both(filter(unix.ETH_P_IPV6, nextHeader(unix.IPPROTO_ICMPV6), netlink.TcU32Key{Off: ipv6Header, Mask: 0xff000000, Val: advertisement << 24})),
	}
	for _, transport := range []uint32{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		filters = append(filters,
			// Offsets in an IPv4 header without options, and the ports behind it.
			stays(filter(unix.ETH_P_IP, netlink.TcU32Key{Off: 8, Mask: 0x00ff0000, Val: transport << 16}, answerPorts(ipv4Header))),
			stays(filter(unix.ETH_P_IPV6, nextHeader(transport), answerPorts(ipv6Header))))
	}
	return filters
}

const (
	ipv4Header = 20
	ipv6Header = 40
	// advertisement is the type of ICMPv6 that answers who has an address (RFC 4861).
	advertisement = 136
)

// nextHeader is in an IPv6 header what follows it.
func nextHeader(transport uint32) netlink.TcU32Key {
	return netlink.TcU32Key{Off: 4, Mask: 0x0000ff00, Val: transport << 8}
}

func answerPorts(offset int32) netlink.TcU32Key {
	return netlink.TcU32Key{Off: offset, Mask: 0xffff0000 | localPortsMask, Val: dnsPort<<16 | localPorts}
}

const portRange = "/proc/sys/net/ipv4/ip_local_port_range"

// limitPorts has the namespace's own sockets use ports that the guest's do not,
// which end below 61000.
func limitPorts() error {
	first, last := localPorts, localPorts|^localPortsMask&0xffff
	return os.WriteFile(portRange, fmt.Appendf(nil, "%d %d", first, last), 0)
}

// passThrough has the tap hand QEMU its packets without queueing them first.
func passThrough(tap netlink.Link) error {
	err := netlink.QdiscReplace(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: tap.Attrs().Index, Parent: netlink.HANDLE_ROOT},
		QdiscType:  "noqueue",
	})
	if err != nil {
		return fmt.Errorf("tc qdisc replace noqueue: %w", err)
	}
	return nil
}

// redirect hands what arrives at one link to the other to send.
func redirect(from, to netlink.Link) error {
	// Whatever an earlier VM of the namespace has left goes with it.
	if err := removeIngress(from); err != nil {
		return err
	}
	if err := netlink.QdiscAdd(ingress(from)); err != nil {
		return fmt.Errorf("tc qdisc add ingress: %w", err)
	}
	return addFilters([]netlink.Filter{&netlink.U32{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: from.Attrs().Index, Parent: ingressHandle, Priority: priority, Protocol: unix.ETH_P_ALL,
		},
		Actions: []netlink.Action{&netlink.MirredAction{
			ActionAttrs:  netlink.ActionAttrs{Action: netlink.TC_ACT_STOLEN},
			MirredAction: netlink.TCA_EGRESS_REDIR,
			Ifindex:      to.Attrs().Index,
		}},
	}})
}

func addFilters(filters []netlink.Filter) error {
	for _, f := range filters {
		if err := netlink.FilterAdd(f); err != nil {
			return fmt.Errorf("tc filter add: %w", err)
		}
	}
	return nil
}

func ingress(link netlink.Link) *netlink.Ingress {
	return &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link.Attrs().Index, Handle: ingressHandle, Parent: netlink.HANDLE_INGRESS,
	}}
}

func hasIngress(link netlink.Link) bool {
	qdiscs, err := netlink.QdiscList(link)
	return err == nil && slices.ContainsFunc(qdiscs, func(q netlink.Qdisc) bool { return q.Attrs().Handle == ingressHandle })
}

func removeIngress(link netlink.Link) error {
	err := netlink.QdiscDel(ingress(link))
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("tc qdisc del: %w", err)
	}
	return nil
}
