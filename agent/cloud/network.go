package cloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// network is what a source says of the machine's network.
type network struct {
	links []link
	resolver
}

// resolver is what resolv.conf says.
type resolver struct {
	servers []netip.Addr
	search  []string
}

// link is one interface, told by its hardware address, else by its name.
type link struct {
	mac, name string
	mtu       int
	dhcp4     bool
	addresses []netip.Prefix
	routes    []route
}

// route is one by a gateway.
type route struct {
	to  netip.Prefix
	via netip.Addr
}

// networkData is OpenStack's network_data.json
// (https://docs.openstack.org/nova/latest/_downloads/network_data.json).
type networkData struct {
	Links []struct {
		ID   string `json:"id"`
		Type string `json:"type"`
		MAC  string `json:"ethernet_mac_address"`
		MTU  int    `json:"mtu"`
	} `json:"links"`
	Networks []networkOfData `json:"networks"`
	Services []serviceOfData `json:"services"`
}

type networkOfData struct {
	Type     string          `json:"type"`
	Link     string          `json:"link"`
	Address  string          `json:"ip_address"`
	Netmask  string          `json:"netmask"`
	Gateway  string          `json:"gateway"`
	Services []serviceOfData `json:"services"`
	Routes   []struct {
		Network string `json:"network"`
		Netmask string `json:"netmask"`
		Gateway string `json:"gateway"`
	} `json:"routes"`
}

type serviceOfData struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

func parseNetworkData(text []byte) (*network, error) {
	var d networkData
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, err
	}
	n := &network{}
	at := map[string]int{}
	for _, l := range d.Links {
		if l.Type == "bond" || l.Type == "vlan" {
			return nil, fmt.Errorf("links: %.80q: type %s is not supported", l.ID, l.Type)
		}
		at[l.ID] = len(n.links)
		n.links = append(n.links, link{mac: l.MAC, mtu: l.MTU})
	}
	n.addServices(d.Services)
	for i, part := range d.Networks {
		where, ok := at[part.Link]
		if !ok {
			return nil, fmt.Errorf("networks[%d]: link %.80q is not among the links", i, part.Link)
		}
		if err := part.addTo(&n.links[where]); err != nil {
			return nil, fmt.Errorf("networks[%d]: %w", i, err)
		}
		n.addServices(part.Services)
	}
	return n, nil
}

func (n *network) addServices(services []serviceOfData) {
	for _, s := range services {
		if s.Type == "dns" {
			n.addServer(s.Address)
		}
	}
}

// addServer takes an address; one that is none is left out.
func (r *resolver) addServer(text string) {
	a, err := netip.ParseAddr(text)
	if err == nil && !slices.Contains(r.servers, a) {
		r.servers = append(r.servers, a)
	}
}

func (p networkOfData) addTo(l *link) error {
	switch p.Type {
	case "ipv4_dhcp":
		l.dhcp4 = true
		return nil
	case "ipv4", "ipv6":
	default:
		// What routers advertise the kernel takes by itself.
		return nil
	}
	if err := l.addAddress(p.Address, p.Netmask); err != nil {
		return err
	}
	if p.Gateway != "" {
		if err := l.addRoute("default", "", p.Gateway); err != nil {
			return err
		}
	}
	for _, r := range p.Routes {
		if err := l.addRoute(r.Network, r.Netmask, r.Gateway); err != nil {
			return err
		}
	}
	return nil
}

func (l *link) addAddress(address, netmask string) error {
	prefix, err := parsePrefix(address, netmask)
	if err != nil {
		return err
	}
	l.addresses = append(l.addresses, prefix)
	return nil
}

// addRoute adds one; "default" is whatever the gateway's family calls so.
func (l *link) addRoute(to, netmask, via string) error {
	gateway, err := netip.ParseAddr(via)
	if err != nil {
		return fmt.Errorf("gateway %.80q is no address", via)
	}
	r := route{via: gateway, to: everywhere(gateway)}
	if to != "default" && to != "" {
		if r.to, err = parsePrefix(to, netmask); err != nil {
			return err
		}
		r.to = r.to.Masked()
	}
	l.routes = append(l.routes, r)
	return nil
}

func everywhere(like netip.Addr) netip.Prefix {
	if like.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// parsePrefix reads 192.0.2.1/24, or an address and its mask, which is a number of
// bits or 255.255.255.0.
func parsePrefix(address, netmask string) (netip.Prefix, error) {
	if strings.Contains(address, "/") {
		p, err := netip.ParsePrefix(address)
		if err != nil {
			return p, fmt.Errorf("%.80q is no address", address)
		}
		return p, nil
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%.80q is no address", address)
	}
	bits, err := maskBits(netmask, a)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("netmask %.80q of %s: %w", netmask, a, err)
	}
	return netip.PrefixFrom(a, bits), nil
}

func maskBits(netmask string, of netip.Addr) (int, error) {
	if netmask == "" {
		return of.BitLen(), nil
	}
	if bits, err := strconv.Atoi(netmask); err == nil && 0 <= bits && bits <= of.BitLen() {
		return bits, nil
	}
	mask, err := netip.ParseAddr(netmask)
	if err != nil || mask.BitLen() != of.BitLen() {
		return 0, errors.New("it is no mask")
	}
	ones, size := net.IPMask(mask.AsSlice()).Size()
	if size == 0 {
		return 0, errors.New("it has holes")
	}
	return ones, nil
}
