package cloud

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// networkConfig is NoCloud's network-config, of either version
// (https://docs.cloud-init.io/en/latest/reference/network-config.html).
type networkConfig struct {
	Version   int                 `yaml:"version"`
	Ethernets map[string]ethernet `yaml:"ethernets"`
	Config    []configItem        `yaml:"config"`
}

// ethernet is one of version 2, netplan's.
type ethernet struct {
	Match struct {
		MAC  string `yaml:"macaddress"`
		Name string `yaml:"name"`
	} `yaml:"match"`
	MTU         int      `yaml:"mtu"`
	DHCP4       bool     `yaml:"dhcp4"`
	Addresses   []string `yaml:"addresses"`
	Gateway4    string   `yaml:"gateway4"`
	Gateway6    string   `yaml:"gateway6"`
	Nameservers struct {
		Addresses []string `yaml:"addresses"`
		Search    []string `yaml:"search"`
	} `yaml:"nameservers"`
	Routes []struct {
		To  string `yaml:"to"`
		Via string `yaml:"via"`
	} `yaml:"routes"`
}

// configItem is one of version 1.
type configItem struct {
	Type    string   `yaml:"type"`
	Name    string   `yaml:"name"`
	MAC     string   `yaml:"mac_address"`
	MTU     int      `yaml:"mtu"`
	Subnets []subnet `yaml:"subnets"`
	// Address and Search are those of type nameserver.
	Address keyList `yaml:"address"`
	Search  keyList `yaml:"search"`
}

type subnet struct {
	Type    string  `yaml:"type"`
	Address string  `yaml:"address"`
	Netmask string  `yaml:"netmask"`
	Gateway string  `yaml:"gateway"`
	DNS     keyList `yaml:"dns_nameservers"`
	Search  keyList `yaml:"dns_search"`
	Routes  []struct {
		Network string `yaml:"network"`
		To      string `yaml:"destination"`
		Netmask string `yaml:"netmask"`
		Gateway string `yaml:"gateway"`
	} `yaml:"routes"`
}

func parseNetworkConfig(text []byte) (*network, error) {
	var nested struct {
		Network *networkConfig `yaml:"network"`
	}
	if err := decodeYAML(text, &nested); err != nil {
		return nil, err
	}
	config := nested.Network
	if config == nil {
		config = &networkConfig{}
		if err := decodeYAML(text, config); err != nil {
			return nil, err
		}
	}
	n := &network{}
	switch config.Version {
	case 1:
		for i, item := range config.Config {
			if err := item.addTo(n); err != nil {
				return nil, fmt.Errorf("config[%d]: %w", i, err)
			}
		}
	case 2:
		for _, name := range slices.Sorted(maps.Keys(config.Ethernets)) {
			if err := config.Ethernets[name].addTo(n, name); err != nil {
				return nil, fmt.Errorf("ethernets.%.80s: %w", name, err)
			}
		}
	default:
		return nil, fmt.Errorf("version %d is neither 1 nor 2", config.Version)
	}
	return n, nil
}

func (e ethernet) addTo(n *network, name string) error {
	l := link{mac: e.Match.MAC, name: name, mtu: e.MTU, dhcp4: e.DHCP4}
	if e.Match.Name != "" && !strings.ContainsAny(e.Match.Name, "*?[") {
		l.name = e.Match.Name
	}
	for _, address := range e.Addresses {
		if err := l.addAddress(address, ""); err != nil {
			return err
		}
	}
	for _, gateway := range []string{e.Gateway4, e.Gateway6} {
		if gateway != "" {
			if err := l.addRoute("default", "", gateway); err != nil {
				return err
			}
		}
	}
	for _, r := range e.Routes {
		if err := l.addRoute(r.To, "", r.Via); err != nil {
			return err
		}
	}
	for _, server := range e.Nameservers.Addresses {
		n.addServer(server)
	}
	n.search = append(n.search, e.Nameservers.Search...)
	n.links = append(n.links, l)
	return nil
}

func (i configItem) addTo(n *network) error {
	switch i.Type {
	case "nameserver":
		n.addServers(i.Address, i.Search)
		return nil
	case "physical":
	default:
		return fmt.Errorf("type %.80q is not supported", i.Type)
	}
	l := link{mac: i.MAC, name: i.Name, mtu: i.MTU}
	for _, s := range i.Subnets {
		if err := s.addTo(&l); err != nil {
			return err
		}
		n.addServers(s.DNS, s.Search)
	}
	n.links = append(n.links, l)
	return nil
}

func (r *resolver) addServers(servers, search []string) {
	for _, server := range servers {
		r.addServer(server)
	}
	r.search = append(r.search, search...)
}

func (s subnet) addTo(l *link) error {
	switch s.Type {
	case "dhcp", "dhcp4":
		l.dhcp4 = true
		return nil
	case "static", "static6":
	default:
		// manual, and what routers advertise.
		return nil
	}
	if err := l.addAddress(s.Address, s.Netmask); err != nil {
		return err
	}
	if s.Gateway != "" {
		if err := l.addRoute("default", "", s.Gateway); err != nil {
			return err
		}
	}
	for _, r := range s.Routes {
		if err := l.addRoute(r.Network+r.To, r.Netmask, r.Gateway); err != nil {
			return err
		}
	}
	return nil
}
