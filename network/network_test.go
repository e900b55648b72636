package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
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

// Answers to the namespace's own DNS queries stay in it, once an engine resolves there.
func TestAnswersStay(t *testing.T) {
	for name, version := range map[string]struct {
		kind     uint16
		ports    int
		datagram func(source, destination uint16) []byte
	}{
		"IPv4": {unix.ETH_P_IP, 34, datagram},
		"IPv6": {unix.ETH_P_IPV6, 54, datagram6},
	} {
		t.Run(name, func(t *testing.T) {
			enterNamespace(t)
			addVeth(t, "eth0")
			addVeth(t, "tap0")
			n := NewNamespace([]string{"tap0", "peer-tap0", "peer-eth0"})
			_, err := n.Read("c")
			must(t, err)
			must(t, n.Connect())
			from, to := openFrames(t, "peer-eth0", version.kind), openFrames(t, "peer-tap0", version.kind)
			// arrives tells whether it comes out at the tap. What follows shows that
			// nothing is on its way any more.
			arrives := func(source, destination uint16) bool {
				t.Helper()
				for _, frame := range [][]byte{version.datagram(source, destination), version.datagram(1, 1)} {
					_, err := unix.Write(from, frame)
					must(t, err)
				}
				for count := 0; ; {
					got := make([]byte, 100)
					_, err := unix.Read(to, got)
					must(t, err)
					switch binary.BigEndian.Uint16(got[version.ports:]) {
					case 1:
						return count > 0
					case source:
						count++
					}
				}
			}
			if !arrives(dnsPort, 61440) {
				t.Error("without an engine's resolver answers stay")
			}
			must(t, n.KeepAnswers())
			// Another time nothing is added.
			must(t, n.KeepAnswers())
			for _, test := range []struct {
				name                string
				source, destination uint16
				arrives             bool
			}{
				{"answer to the namespace", dnsPort, 61440, false},
				{"answer to its last port", dnsPort, 65535, false},
				{"answer to the guest", dnsPort, 60999, true},
				{"other traffic to such a port", 80, 61440, true},
			} {
				if got := arrives(test.source, test.destination); got != test.arrives {
					t.Errorf("%s arrives at the guest: %v", test.name, got)
				}
			}
		})
	}
}

// datagram is an Ethernet frame with a UDP datagram over IPv4.
func datagram(source, destination uint16) []byte {
	frame := append(make([]byte, 12), 0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	frame = binary.BigEndian.AppendUint16(frame, source)
	frame = binary.BigEndian.AppendUint16(frame, destination)
	return append(frame, make([]byte, 60-len(frame))...)
}

// datagram6 is the same over IPv6.
func datagram6(source, destination uint16) []byte {
	frame := append(make([]byte, 12), 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, unix.IPPROTO_UDP, 64)
	frame = append(frame, make([]byte, 32)...)
	frame = binary.BigEndian.AppendUint16(frame, source)
	frame = binary.BigEndian.AppendUint16(frame, destination)
	return append(frame, 0, 8, 0, 0)
}

// An interface that changes, and one that left and came back, stays connected.
func TestConnectAgain(t *testing.T) {
	enterNamespace(t)
	eth0, tap := addVeth(t, "eth0"), addVeth(t, "tap0")
	n := NewNamespace([]string{"tap0", "peer-tap0", "peer-eth0"})
	connect := func() {
		t.Helper()
		_, err := n.Read("c")
		must(t, err)
		must(t, n.Connect())
	}
	connect()
	must(t, netlink.LinkSetMTU(eth0, 1300))
	connect()
	tap, err := netlink.LinkByName(tap.Attrs().Name)
	must(t, err)
	if tap.Attrs().MTU != 1300 {
		t.Errorf("the tap's MTU is %d", tap.Attrs().MTU)
	}
	must(t, removeIngress(eth0))
	connect()
	if !hasIngress(eth0) {
		t.Error("an interface without rules stays so")
	}
}

// Of many that come at once one gets the namespace, and another one when it has left.
func TestOccupy(t *testing.T) {
	enterNamespace(t)
	here, err := netns.Get()
	must(t, err)
	defer here.Close()
	leaves, others := make(chan func() error, 8), make(chan error, 8)
	var all sync.WaitGroup
	for range cap(leaves) {
		all.Go(func() {
			others <- inside(here, func() error {
				leave, err := Occupy()
				if err == nil {
					leaves <- leave
				}
				return err
			})
		})
	}
	all.Wait()
	close(others)
	for err := range others {
		if err != nil && !errors.Is(err, ErrOccupied) {
			t.Error(err)
		}
	}
	if len(leaves) != 1 {
		t.Fatalf("%d have it", len(leaves))
	}
	must(t, (<-leaves)())
	_, err = Occupy()
	must(t, err)
	must(t, unix.Unshare(unix.CLONE_NEWNET))
	_, err = Occupy()
	must(t, err)
}

// A namespace of others is found as it was.
func TestForeign(t *testing.T) {
	enterNamespace(t)
	eth0 := addVeth(t, "eth0")
	other := addVeth(t, "eth1")
	must(t, netlink.QdiscAdd(ingress(other)))
	const name = "vmr00112233440"
	before, err := Inspect(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), []string{name})
	must(t, err)
	must(t, MakeTaps(before.Taps))
	n := NewNamespace([]string{name, "peer-eth0", "eth1", "peer-eth1"})
	_, err = n.Read("c")
	must(t, err)
	must(t, n.Connect())
	must(t, n.KeepAnswers())
	leave, err := Occupy()
	must(t, err)
	must(t, before.Release())
	if !hasIngress(eth0) {
		t.Error("the rules of a VM that runs are removed")
	}
	must(t, leave())
	must(t, before.Release())
	if hasIngress(eth0) || !hasIngress(other) {
		t.Errorf("ingress rules remain: %v, those of others: %v", hasIngress(eth0), hasIngress(other))
	}
	after, err := Inspect(before.Path, before.Taps)
	must(t, err)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	// What an engine leaves of a namespace that it has removed.
	after.Path = filepath.Join(t.TempDir(), "netns")
	must(t, os.WriteFile(after.Path, nil, 0o600))
	must(t, after.Release())
}

// Taps come from where QEMU is.
func TestFetchTaps(t *testing.T) {
	enterNamespace(t)
	const name = "vmr00112233440"
	sleep := exec.Command("sleep", "60")
	sleep.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	must(t, sleep.Start())
	t.Cleanup(func() {
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	})
	there, err := netns.GetFromPid(sleep.Process.Pid)
	must(t, err)
	defer there.Close()
	must(t, inside(there, func() error { return MakeTaps([]string{name}) }))
	must(t, FetchTaps(sleep.Process.Pid, []string{name}))
	link, err := netlink.LinkByName(name)
	must(t, err)
	if link.Type() != "tuntap" {
		t.Errorf("it is a %s", link.Type())
	}
	if err := FetchTaps(sleep.Process.Pid, []string{name}); err == nil {
		t.Error("a tap that is not there is no error")
	}
}

func TestWatch(t *testing.T) {
	enterNamespace(t)
	done := make(chan struct{})
	changes, err := Watch(done)
	must(t, err)
	addVeth(t, "eth0", "10.0.0.2/24")
	told(t, changes)
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

// That changes got lost is told, and later ones are as well.
func TestWatchOverrun(t *testing.T) {
	enterNamespace(t)
	eth0 := addVeth(t, "eth0")
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, watched...)
	must(t, err)
	defer socket.Close()
	must(t, socket.SetReceiveBufferSize(1, false))
	for i := range 100 {
		must(t, netlink.LinkSetMTU(eth0, 1300+i%2))
	}
	if _, _, err := socket.Receive(); !errors.Is(err, unix.ENOBUFS) {
		t.Fatalf("the buffer does not overflow: %v", err)
	}
	for i := range 100 {
		must(t, netlink.LinkSetMTU(eth0, 1300+i%2))
	}
	changes := follow(socket)
	for i := range 3 {
		told(t, changes)
		must(t, netlink.LinkSetMTU(eth0, 1200+i))
	}
	told(t, changes)
}

func told(t *testing.T, changes <-chan struct{}) {
	t.Helper()
	select {
	case _, open := <-changes:
		if !open {
			t.Fatal("nothing is told any more")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a change is not told")
	}
}
