package cloud

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

const (
	// tries and tryFor are how often and how long a server is asked before the
	// machine starts without; it is asked on then.
	tries  = 4
	tryFor = 4 * time.Second
	// leastLease is taken for leases that would be renewed all the time.
	leastLease = time.Minute
)

// lease gets an address (RFC 2131) and keeps it.
func (b *bringer) lease(nic netlink.Link) error {
	l, err := transact(nic, func(c *nclient4.Client) (*nclient4.Lease, error) { return request(b.ctx, c) })
	if err == nil {
		err = b.apply(nic, l)
		b.state.hostname = validHostname(l.ACK.HostName())
	}
	go b.keep(nic, l)
	if err != nil {
		return fmt.Errorf("DHCP: %w", err)
	}
	return nil
}

// transact has a client for the time of one exchange: it reads whatever comes to
// the interface.
func transact(nic netlink.Link, do func(*nclient4.Client) (*nclient4.Lease, error)) (*nclient4.Lease, error) {
	// The client polls for random numbers and gives up; a kernel without a source of
	// them makes some only while somebody waits.
	if _, err := rand.Read(make([]byte, 1)); err != nil {
		return nil, err
	}
	c, err := nclient4.New(nic.Attrs().Name, nclient4.WithTimeout(tryFor), nclient4.WithRetry(tries))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return do(c)
}

func request(ctx context.Context, c *nclient4.Client) (*nclient4.Lease, error) {
	return c.Request(ctx, dhcpv4.WithRequestedOptions(
		dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter, dhcpv4.OptionSubnetMask, dhcpv4.OptionDomainNameServer,
		dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionHostName, dhcpv4.OptionInterfaceMTU))
}

// keep renews the lease, or gets one where there is none.
func (b *bringer) keep(nic netlink.Link, l *nclient4.Lease) {
	for pause := leastLease; ; {
		if l != nil {
			pause = max(l.ACK.IPAddressLeaseTime(leastLease)/2, leastLease/2)
		}
		select {
		case <-b.ctx.Done():
			return
		case <-time.After(pause):
		}
		l = b.renew(nic, l)
	}
}

// renew gives the lease from now on, nil where it has run out.
func (b *bringer) renew(nic netlink.Link, old *nclient4.Lease) *nclient4.Lease {
	l, err := transact(nic, func(c *nclient4.Client) (*nclient4.Lease, error) {
		if old != nil {
			if l, err := c.Renew(b.ctx, old); err == nil {
				return l, nil
			}
		}
		return request(b.ctx, c)
	})
	if err != nil {
		// The kernel takes the address away when its time has come.
		return nil
	}
	_ = b.apply(nic, l)
	return l
}

// apply sets address, routes and name servers.
func (b *bringer) apply(nic netlink.Link, l *nclient4.Lease) error {
	ack := l.ACK
	mask := ack.SubnetMask()
	if mask == nil {
		mask = ack.YourIPAddr.DefaultMask()
	}
	seconds := int(ack.IPAddressLeaseTime(0) / time.Second)
	address := &netlink.Addr{IPNet: &net.IPNet{IP: ack.YourIPAddr, Mask: mask}, ValidLft: seconds, PreferedLft: seconds}
	if err := netlink.AddrReplace(nic, address); err != nil {
		return fmt.Errorf("address %s: %w", address.IPNet, err)
	}
	b.writeResolver(leasedResolver(ack))
	if text := ack.Options.Get(dhcpv4.OptionInterfaceMTU); len(text) == 2 {
		// A size that the interface does not take is no reason to have none.
		_ = netlink.LinkSetMTU(nic, int(text[0])<<8|int(text[1]))
	}
	return setRoutes(nic, leasedRoutes(ack))
}

// leasedRoutes are option 121's, or else the router's (RFC 3442).
func leasedRoutes(ack *dhcpv4.DHCPv4) []route {
	var routes []route
	for _, r := range ack.ClasslessStaticRoute() {
		via, _ := netip.AddrFromSlice(r.Router.To4())
		to, ok := netip.AddrFromSlice(r.Dest.IP.To4())
		if bits, size := r.Dest.Mask.Size(); ok && size == 32 {
			routes = append(routes, route{to: netip.PrefixFrom(to, bits), via: via})
		}
	}
	if len(routes) > 0 {
		return routes
	}
	for _, router := range ack.Router() {
		if via, ok := netip.AddrFromSlice(router.To4()); ok {
			return []route{{to: everywhere(via), via: via}}
		}
	}
	return nil
}

func leasedResolver(ack *dhcpv4.DHCPv4) resolver {
	var r resolver
	for _, server := range ack.DNS() {
		r.addServer(server.String())
	}
	if labels := ack.DomainSearch(); labels != nil {
		r.search = labels.Labels
	}
	if name := ack.DomainName(); name != "" && len(r.search) == 0 {
		r.search = []string{name}
	}
	return r
}
