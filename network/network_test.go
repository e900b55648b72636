package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// enterNamespace gives the test a network namespace of its own. Its thread ends
// with it.
func enterNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a network namespace")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// addVeth makes an interface with its other end, peer-NAME.
func addVeth(t *testing.T, name string, addresses ...string) netlink.Link {
	t.Helper()
	mac, _ := net.ParseMAC("02:00:00:00:00:0" + name[len(name)-1:])
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name, HardwareAddr: mac, MTU: 1400},
		PeerName:  "peer-" + name,
	}
	must(t, netlink.LinkAdd(veth))
	for _, text := range addresses {
		address, err := netlink.ParseAddr(text)
		must(t, err)
		address.Flags = unix.IFA_F_NODAD
		must(t, netlink.AddrAdd(veth, address))
	}
	must(t, netlink.LinkSetUp(veth))
	peer, err := netlink.LinkByName(veth.PeerName)
	must(t, err)
	must(t, netlink.LinkSetUp(peer))
	return veth
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRead(t *testing.T) {
	enterNamespace(t)
	n := NewNamespace([]string{"peer-eth0", "peer-eth1"})
	found, err := n.Read("c")
	must(t, err)
	if len(found.Interfaces) != 0 {
		t.Errorf("an empty namespace holds %+v", found)
	}
	eth0 := addVeth(t, "eth0", "10.0.0.2/24", "fd00::2/64")
	must(t, netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 0, 0, 1)}))
	must(t, netlink.RouteAdd(&netlink.Route{
		LinkIndex: eth0.Attrs().Index, Scope: netlink.SCOPE_LINK, Src: net.IPv4(10, 0, 0, 2), Priority: 7,
		Dst: &net.IPNet{IP: net.IPv4(192, 168, 7, 0), Mask: net.CIDRMask(24, 32)},
	}))
	neighbourMAC, _ := net.ParseMAC("02:00:00:00:00:77")
	must(t, netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: eth0.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.IPv4(10, 0, 0, 9), HardwareAddr: neighbourMAC,
	}))
	found, err = n.Read("c")
	must(t, err)
	want := protocol.Network{
		Container: "c",
		Interfaces: []protocol.Interface{{
			NIC: 0, Name: "eth0", MAC: "02:00:00:00:00:00", MTU: 1400, Up: true,
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("fd00::2/64")},
		}},
		Routes: []protocol.Route{
			{Interface: "eth0", Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.0.1")},
			{
				Interface: "eth0", Destination: netip.MustParsePrefix("192.168.7.0/24"), Source: netip.MustParseAddr("10.0.0.2"),
				Metric: 7, Scope: int(netlink.SCOPE_LINK),
			},
		},
		Neighbours: []protocol.Neighbour{{Interface: "eth0", Address: netip.MustParseAddr("10.0.0.9"), MAC: "02:00:00:00:00:77"}},
	}
	if diff := cmp.Diff(want, found, cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
		t.Errorf("it is read as (-want +got)\n%s", diff)
	}
}

// An interface keeps its NIC while others come and go.
func TestAssign(t *testing.T) {
	enterNamespace(t)
	n := NewNamespace([]string{"peer-eth0", "peer-eth1"})
	nics := func() map[string]int {
		t.Helper()
		found, err := n.Read("c")
		must(t, err)
		got := map[string]int{}
		for _, i := range found.Interfaces {
			got[i.Name] = i.NIC
		}
		return got
	}
	eth0 := addVeth(t, "eth0")
	addVeth(t, "eth1")
	if diff := cmp.Diff(map[string]int{"eth0": 0, "eth1": 1}, nics()); diff != "" {
		t.Error(diff)
	}
	must(t, netlink.LinkDel(eth0))
	if diff := cmp.Diff(map[string]int{"eth1": 1}, nics()); diff != "" {
		t.Error(diff)
	}
	addVeth(t, "eth3")
	// The other end of eth3 is an interface as well here.
	if _, err := n.Read("c"); err == nil {
		t.Error("more interfaces than NICs are no error")
	}
}

// What arrives at the interface leaves by the tap, and the other way round.
func TestConnect(t *testing.T) {
	enterNamespace(t)
	addVeth(t, "eth0")
	addVeth(t, "tap0")
	n := NewNamespace([]string{"tap0", "peer-tap0", "peer-eth0"})
	_, err := n.Read("c")
	must(t, err)
	must(t, n.Connect())
	must(t, n.Connect())
	for _, way := range [][2]string{{"peer-eth0", "peer-tap0"}, {"peer-tap0", "peer-eth0"}} {
		const experimental = 0x88b5
		from, to := openFrames(t, way[0], experimental), openFrames(t, way[1], experimental)
		// A frame of a protocol that nobody else sends here.
		frame := append(make([]byte, 12), 0x88, 0xb5, 'h', 'i')
		frame = append(frame, make([]byte, 60-len(frame))...)
		_, err := unix.Write(from, frame)
		must(t, err)
		got := make([]byte, 100)
		count, err := unix.Read(to, got)
		if err != nil || string(got[14:16]) != "hi" {
			t.Errorf("%s to %s: %q, %v", way[0], way[1], got[:max(count, 0)], err)
		}
	}
}

// openFrames sends and receives frames of an EtherType.
func openFrames(t *testing.T, name string, kind uint16) int {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	kind = kind<<8 | kind>>8 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(kind))
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: kind, Ifindex: link.Attrs().Index}))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	return fd
}

// Answers to the namespace's own DNS queries stay in it.
func TestAnswersStay(t *testing.T) {
	enterNamespace(t)
	addVeth(t, "eth0")
	addVeth(t, "tap0")
	n := NewNamespace([]string{"tap0", "peer-tap0", "peer-eth0"})
	_, err := n.Read("c")
	must(t, err)
	must(t, n.Connect())
	must(t, LocalPorts())
	from, to := openFrames(t, "peer-eth0", unix.ETH_P_IP), openFrames(t, "peer-tap0", unix.ETH_P_IP)
	for _, test := range []struct {
		name                string
		source, destination uint16
		stays               bool
	}{
		{"answer to the namespace", 53, 61440, true},
		{"answer to its last port", 53, 65535, true},
		{"answer to the guest", 53, 60999, false},
		{"other traffic to such a port", 80, 61440, false},
	} {
		_, err := unix.Write(from, datagram(test.source, test.destination))
		must(t, err)
		// It shows that nothing is on its way any more.
		_, err = unix.Write(from, datagram(1, 1))
		must(t, err)
		got := make([]byte, 100)
		_, err = unix.Read(to, got)
		must(t, err)
		if stayed := binary.BigEndian.Uint16(got[34:]) == 1; stayed != test.stays {
			t.Errorf("%s stays: %v", test.name, stayed)
		}
		if !test.stays {
			_, err = unix.Read(to, got)
			must(t, err)
		}
	}
}

// datagram is an Ethernet frame with a UDP datagram over IPv4.
func datagram(source, destination uint16) []byte {
	frame := append(make([]byte, 12), 0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	frame = binary.BigEndian.AppendUint16(frame, source)
	frame = binary.BigEndian.AppendUint16(frame, destination)
	return append(frame, make([]byte, 60-len(frame))...)
}

func TestWatch(t *testing.T) {
	enterNamespace(t)
	done := make(chan struct{})
	changes, err := Watch(done)
	must(t, err)
	addVeth(t, "eth0", "10.0.0.2/24")
	select {
	case <-changes:
	case <-time.After(10 * time.Second):
		t.Error("a new interface is not told")
	}
	close(done)
	for end := time.After(10 * time.Second); ; {
		select {
		case _, open := <-changes:
			if !open {
				return
			}
		case <-end:
			t.Fatal("it goes on when it is done")
		}
	}
}
