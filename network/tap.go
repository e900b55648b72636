package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// MakeTaps makes taps that stay until their namespace ends. Without them QEMU's end
// would wait for the kernel to take each of its taps away.
func MakeTaps(names []string) error {
	for _, name := range names {
		tap := &netlink.Tuntap{
			LinkAttrs: netlink.LinkAttrs{Name: name},
			Mode:      netlink.TUNTAP_MODE_TAP,
			Flags:     netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_TUN_EXCL,
		}
		if err := netlink.LinkAdd(tap); err != nil {
			return fmt.Errorf("tap %s: %w", name, err)
		}
	}
	return nil
}

// FetchTaps brings the taps of a QEMU, which are in the network namespace in which a
// libvirtd has started it, here. They end with it all the same.
func FetchTaps(qemu int, names []string) (err error) {
	there, err := netns.GetFromPid(qemu)
	if err != nil {
		return fmt.Errorf("network namespace of QEMU %d: %w", qemu, err)
	}
	defer func() { err = errors.Join(err, there.Close()) }()
	here, err := netns.Get()
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer func() { err = errors.Join(err, here.Close()) }()
	if there.Equal(here) {
		return nil
	}
	h, err := netlink.NewHandleAt(there, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("network namespace of QEMU %d: netlink: %w", qemu, err)
	}
	defer h.Close()
	for _, name := range names {
		tap, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkSetNsFd(tap, int(here))
		}
		if err != nil {
			return fmt.Errorf("tap %s: %w", name, err)
		}
	}
	return nil
}
