package protocol

import "net/netip"

// MaxInterfaces is how many interfaces a VM has NICs for.
const MaxInterfaces = 4

// NICAddress is the hardware address that the VM's i-th NIC starts with, by which
// the guest tells its NICs apart.
func NICAddress(i int) []byte { return []byte{0x02, 'v', 'm', 'r', 0, byte(i)} }

// Network is what a container's network namespace holds, and is to hold in the
// guest: the whole of it, every time.
type Network struct {
	Container  string      `json:"container"`
	Interfaces []Interface `json:"interfaces,omitempty"`
	Routes     []Route     `json:"routes,omitempty"`
	Neighbours []Neighbour `json:"neighbours,omitempty"`
}

// ResolverAddress is where engines answer DNS queries in the network namespaces of
// containers on user-defined networks.
const ResolverAddress = "127.0.0.11:53"

// MaxQuery bounds a [Query] in bytes as it crosses: the largest DNS message in
// base64.
const MaxQuery = 128 << 10

// Query is a DNS message (RFC 1035) on the stream that a Resolver request opens:
// the guest sends what the container asks at ResolverAddress, the host what it is
// answered there, under the same ID. One without an answer has none.
type Query struct {
	ID      uint64 `json:"id"`
	TCP     bool   `json:"tcp,omitempty"`
	Message []byte `json:"message"`
}

// Interface is one of the namespace, and the NIC that stands for it.
type Interface struct {
	// NIC is the number of the VM's NIC, from 0 on.
	NIC  int    `json:"nic"`
	Name string `json:"name"`
	// MAC is the hardware address in its usual notation.
	MAC string `json:"mac"`
	MTU int    `json:"mtu"`
	Up  bool   `json:"up"`
	// NoIPv6 switches IPv6 off.
	NoIPv6    bool           `json:"noIPv6,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
}

// Route is one of the main table.
type Route struct {
	// Interface is the name of the one it leads to.
	Interface   string       `json:"interface"`
	Destination netip.Prefix `json:"destination"`
	// Gateway and Source are invalid where there is none.
	Gateway netip.Addr `json:"gateway,omitzero"`
	Source  netip.Addr `json:"source,omitzero"`
	Metric  int        `json:"metric,omitempty"`
	// MTU and AdvMSS are the route's own, in bytes, 0 where it has none.
	MTU    int `json:"mtu,omitempty"`
	AdvMSS int `json:"advMSS,omitempty"`
	// Scope is a number of rtnetlink(7): 0 is universe, 253 the link.
	Scope int `json:"scope,omitempty"`
	// OnLink says that the gateway is reached directly, whatever the addresses.
	OnLink bool `json:"onLink,omitempty"`
}

// Neighbour is one that somebody has set by hand.
type Neighbour struct {
	Interface string     `json:"interface"`
	Address   netip.Addr `json:"address"`
	MAC       string     `json:"mac"`
}
