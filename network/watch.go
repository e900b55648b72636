package network

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Watch tells of changes of the namespace's links, addresses and routes until
// done is closed. Changes that come together may be told once.
func Watch(done <-chan struct{}) (<-chan struct{}, error) {
	links := make(chan netlink.LinkUpdate)
	if err := netlink.LinkSubscribe(links, done); err != nil {
		return nil, fmt.Errorf("watch links: %w", err)
	}
	addresses := make(chan netlink.AddrUpdate)
	if err := netlink.AddrSubscribe(addresses, done); err != nil {
		return nil, fmt.Errorf("watch addresses: %w", err)
	}
	routes := make(chan netlink.RouteUpdate)
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		return nil, fmt.Errorf("watch routes: %w", err)
	}
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		for {
			var open bool
			select {
			case _, open = <-links:
			case _, open = <-addresses:
			case _, open = <-routes:
			}
			if !open {
				return
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes, nil
}
