package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
)

// network runs an iperf3 that serves at the address of the first NIC, and writes
// what it says to the port.
func network(port *os.File, address string) error {
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	if err := errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link)); err != nil {
		return fmt.Errorf("eth0: %w", err)
	}
	if err := mountRoot("trans=virtio,version=9p2000.L"); err != nil {
		return err
	}
	return inRoot(port, "/usr/bin/iperf3", "--server", "--forceflush")
}
