package network

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watched are the groups of rtnetlink(7) that tell of what Read reads.
var watched = []uint{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_NEIGH,
}

// Watch tells of changes of the namespace's links, addresses, routes and static
// neighbours until done is closed. Changes that come together may be told once;
// that some got lost is told as one.
func Watch(done <-chan struct{}) (<-chan struct{}, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, watched...)
	if err != nil {
		return nil, fmt.Errorf("watch: netlink: %w", err)
	}
	go func() {
		<-done
		socket.Close()
	}()
	return follow(socket), nil
}

func follow(socket *nl.NetlinkSocket) <-chan struct{} {
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		for {
			messages, _, err := socket.Receive()
			switch {
			case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR):
				// The socket goes on with what comes next.
			case err != nil:
				return
			case !slices.ContainsFunc(messages, matters):
				continue
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes
}

// matters leaves out what the kernel learns of neighbours all the time.
func matters(m syscall.NetlinkMessage) bool {
	if m.Header.Type != unix.RTM_NEWNEIGH {
		return true
	}
	neighbour, err := netlink.NeighDeserialize(m.Data)
	return err != nil || neighbour.State&netlink.NUD_PERMANENT != 0
}
