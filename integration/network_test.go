package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// joinNetns has the container live in the network namespace at path.
func joinNetns(path string) change {
	return func(s *specs.Spec) {
		i := slices.IndexFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.NetworkNamespace })
		s.Linux.Namespaces[i].Path = path
	}
}

// A wire is a network namespace with one end of a veth pair in it, and the other
// end, 10.99.0.1 and fd99::1, in a namespace that stands for the world.
type wire struct{ world, inside string }

func newWire(t testing.TB) wire {
	t.Helper()
	w := wire{world: newNetns(t), inside: newNetns(t)}
	w.in(t, w.world, "ip link set lo up")
	return w
}

// in runs a command in the namespace at path.
func (w wire) in(t testing.TB, path, line string) string {
	t.Helper()
	return run(t, "nsenter", append([]string{"--net=" + path}, strings.Fields(line)...)...)
}

// plug makes an interface in the namespace at path, as an engine does.
func (w wire) plug(t testing.TB, path, name string, network int) {
	t.Helper()
	peer := "world-" + name
	inNetns(t, w.world, func() error {
		ns, err := os.Open(path)
		if err != nil {
			return err
		}
		defer ns.Close()
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: peer}, PeerName: name, PeerNamespace: netlink.NsFd(ns.Fd()),
		})
	})
	for _, line := range []string{
		fmt.Sprintf("ip addr add 10.%d.0.1/24 dev %s", network, peer),
		fmt.Sprintf("ip -6 addr add fd%d::1/64 dev %s nodad", network, peer),
		"ip link set " + peer + " mtu 1400 up",
	} {
		w.in(t, w.world, line)
	}
	for _, line := range []string{
		"ip link set " + name + " mtu 1400",
		fmt.Sprintf("ip addr add 10.%d.0.2/24 dev %s", network, name),
		fmt.Sprintf("ip -6 addr add fd%d::2/64 dev %s nodad", network, name),
		"ip link set " + name + " up",
		"ip link set lo up",
	} {
		w.in(t, path, line)
	}
}

// The guest's network is the namespace's.
func TestNetwork(t *testing.T) {
	needVM(t)
	eachDriver(t, networkMirrored)
}

func networkMirrored(t *testing.T, r runtime) {
	t.Helper()
	w := newWire(t)
	w.plug(t, w.inside, "eth0", 99)
	for _, line := range []string{
		"ip route add default via 10.99.0.1",
		"ip route add 192.168.50.0/24 via 10.99.0.7 metric 50",
		"ip -6 route add default via fd99::1",
		"ip neigh add 10.99.0.9 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
	} {
		w.in(t, w.inside, line)
	}
	c := r.startNew(t, joinNetns(w.inside), idle)
	c.stdout.wait(t, "ready\n")
	look := `for f in "-4 addr show dev eth0" "-6 addr show dev eth0" "route" "-6 route show" "neigh show dev eth0 nud permanent" "link show dev eth0"; do ip $f; done`
	want := facts(run(t, "nsenter", "--net="+w.inside, "sh", "-c", look))
	got := facts(c.exec(t, "/bin/sh", "-c", look).Out)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the guest's network (-namespace +guest)\n%s", diff)
	}
	c.end(t)
}

// facts are what ip says of a network, without what two kernels and two versions
// of ip word differently.
func facts(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.Contains(line, "fe80:"):
			// Every kernel looks for duplicates of its link-local address itself.
		case fields[0] == "inet" || fields[0] == "inet6":
			list = append(list, strings.Join(fields[:2], " "))
		case fields[0] == "link/ether":
			list = append(list, fields[1])
		case strings.HasSuffix(fields[0], ":"):
			i := slices.Index(fields, "mtu")
			list = append(list, strings.Join(fields[i:i+2], " "))
		case fields[0] == "multicast":
			// Every interface has it.
		case strings.Contains(line, "/") || fields[0] == "default" || strings.Contains(line, "lladdr"):
			list = append(list, fields[0]+known(fields))
		}
	}
	slices.Sort(list)
	return list
}

// known are the words of a route or neighbour that everybody prints, in one order.
func known(fields []string) string {
	text := ""
	for _, word := range []string{"via", "dev", "metric", "src", "lladdr"} {
		if i := slices.Index(fields, word); i > 0 && i+1 < len(fields) {
			text += " " + word + " " + fields[i+1]
		}
	}
	return text
}

// Packets go both ways, over IPv4 and IPv6.
func TestNetworkTraffic(t *testing.T) {
	needVM(t)
	eachDriver(t, networkTraffic)
}

func networkTraffic(t *testing.T, r runtime) {
	t.Helper()
	w := newWire(t)
	w.plug(t, w.inside, "eth0", 99)
	c := r.startNew(t, joinNetns(w.inside), script("echo ready", forever))
	c.stdout.wait(t, "ready\n")
	for _, address := range []string{"10.99.0.1", "fd99::1"} {
		listener := w.listen(t, address)
		go greet(listener)
		if got := c.exec(t, "/bin/sh", "-c", "nc "+address+" 7000 </dev/null"); got.Out != "hello\n" {
			t.Errorf("from %s the guest gets %s", address, got)
		}
	}
	server := c.execDetached(t, options{}, "/bin/sh", "-c", "while :; do echo guest | nc -l -p 7001; done")
	for _, address := range []string{"10.99.0.2", "fd99::2"} {
		if got := w.ask(t, net.JoinHostPort(address, "7001")); got != "guest\n" {
			t.Errorf("at %s the guest says %q", address, got)
		}
	}
	server.kill(t, unix.SIGKILL)
	c.end(t)
	// The namespace is as it was before.
	var conn net.Conn
	inNetns(t, w.inside, func() (err error) {
		conn, err = net.DialTimeout("tcp", "10.99.0.1:7000", patience)
		return err
	})
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "hello\n" {
		t.Errorf("without the VM the namespace gets %q, %v", got, err)
	}
}

// A namespace that is filled between create and start, and changed later.
func TestNetworkComesLater(t *testing.T) {
	needVM(t)
	eachDriver(t, networkComesLater)
}

func networkComesLater(t *testing.T, r runtime) {
	t.Helper()
	w := newWire(t)
	c := r.create(t, r.bundle(t, script("ip -o -4 addr show dev eth0 | grep -o 10[.0-9]*/24", "echo ready", forever)), options{})
	own := fmt.Sprintf("/proc/%d/ns/net", c.pid)
	w.plug(t, own, "eth0", 99)
	c.start(t)
	c.stdout.wait(t, "10.99.0.2/24\nready\n")
	w.plug(t, own, "eth1", 98)
	inGuest := func(interfaces string) func() bool {
		return func() bool { return c.exec(t, "/bin/sh", "-c", "echo $(ls /sys/class/net)").Out == interfaces+"\n" }
	}
	eventually(t, patience, "guest has the second interface", inGuest("eth0 eth1 lo"))
	go greet(w.listen(t, "10.98.0.1"))
	eventually(t, patience, "second network works", func() bool {
		return c.exec(t, "/bin/sh", "-c", "nc 10.98.0.1 7000 </dev/null").Out == "hello\n"
	})
	w.in(t, own, "ip link del eth1")
	eventually(t, patience, "second interface is gone", inGuest("eth0 lo"))
	// The same name on another network, and the first interface under another.
	w.plug(t, own, "eth1", 97)
	eventually(t, patience, "interface is there again", inGuest("eth0 eth1 lo"))
	for _, line := range []string{
		"ip link set eth0 down", "ip link set eth1 down", "ip link set eth0 name first0", "ip link set eth1 name eth0",
		"ip link set eth0 mtu 1300 up", "ip link set first0 up",
	} {
		w.in(t, own, line)
	}
	eventually(t, patience, "interfaces have changed", func() bool {
		return c.exec(t, "/bin/sh", "-c", "echo $(ls /sys/class/net) $(cat /sys/class/net/eth0/mtu)").Out == "eth0 first0 lo 1300\n"
	})
	go greet(w.listen(t, "10.97.0.1"))
	eventually(t, patience, "third network works", func() bool {
		return c.exec(t, "/bin/sh", "-c", "nc 10.97.0.1 7000 </dev/null").Out == "hello\n"
	})
	if got := r.refuse(t, "create", "--bundle", r.bundle(t, joinNetns(own)), r.newID(t)); !strings.Contains(got, "remove --network container:ID or --pod") {
		t.Errorf("the network of a VM is refused by %q", got)
	}
	c.end(t)
}

// An engine that answers at 127.0.0.11 in the namespace answers in the guest.
func TestNetworkNames(t *testing.T) {
	needVM(t)
	eachDriver(t, networkNames)
}

func networkNames(t *testing.T, r runtime) {
	t.Helper()
	w := newWire(t)
	w.plug(t, w.inside, "eth0", 99)
	inNetns(t, w.world, func() error { return w.answer(t, w.world, "10.99.0.1:53") })
	inNetns(t, w.inside, func() error { return w.answer(t, w.inside, "127.0.0.11:53") })
	c := r.startNew(t, joinNetns(w.inside), idle)
	c.stdout.wait(t, "ready\n")
	for name, address := range map[string]string{"db.example": "10.1.2.3", "db.world": "10.4.5.6"} {
		if got := c.exec(t, "nslookup", name, "127.0.0.11"); !strings.Contains(got.Out, address) {
			t.Errorf("%s over UDP: %s", name, got)
		}
	}
	// The length, and a query with nothing but a header, which comes back as it is.
	query := `\000\014ABCDEFGHIJKL`
	if got := c.exec(t, "/bin/sh", "-c", `printf "`+query+`" | nc 127.0.0.11 53 | tail -c 12`); got.Out != "ABCDEFGHIJKL" {
		t.Errorf("over TCP: %s", got)
	}
	c.end(t)
}

// answer is a DNS server in the namespace at path, which the calling thread is in.
// Over TCP it sends everything back.
func (w wire) answer(t testing.TB, path, address string) error {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { packets.Close() })
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { listener.Close() })
	go w.answerNames(packets, path)
	go answerNamesTCP(listener)
	return nil
}

// answerNames says of every name that it is 10.1.2.3 (RFC 1035), and 10.4.5.6 in the
// world, which is asked for names that end like it.
func (w wire) answerNames(packets net.PacketConn, path string) {
	buffer := make([]byte, 1500)
	for {
		n, from, err := packets.ReadFrom(buffer)
		if err != nil {
			return
		}
		answer := buffer[:n]
		switch {
		case path == w.world:
			answer = addAnswer(answer, 10, 4, 5, 6)
		case strings.Contains(string(answer), "\x05world\x00"):
			answer, err = w.forward(answer)
		default:
			answer = addAnswer(answer, 10, 1, 2, 3)
		}
		if err == nil {
			_, _ = packets.WriteTo(answer, from)
		}
	}
}

// forward asks the world from the namespace itself, as engines do.
func (w wire) forward(query []byte) (answer []byte, err error) {
	answer = make([]byte, 1500)
	err = enterNetns(w.inside, func() error {
		conn, err := net.Dial("udp", "10.99.0.1:53")
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write(query); err != nil {
			return err
		}
		n, err := conn.Read(answer)
		answer = answer[:n]
		return err
	})
	return answer, err
}

func addAnswer(query []byte, address ...byte) []byte {
	answer := append([]byte(nil), query...)
	answer[2], answer[3] = 0x84, 0
	if n := len(query); n < 16 || query[n-3] != 1 {
		// Not for an IPv4 address: an answer without any.
		return answer
	}
	answer[7] = 1
	return append(append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4), address...)
}

// answerNamesTCP sends everything back.
func answerNamesTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// A container without a network has lo alone.
func TestNoNetwork(t *testing.T) {
	needVM(t)
	eachDriver(t, networkNoNetwork)
}

func networkNoNetwork(t *testing.T, r runtime) {
	t.Helper()
	c := r.startNew(t, script("ls /sys/class/net"))
	if got := c.stdout.all(t); got != "lo\n" {
		t.Errorf("interfaces: %q", got)
	}
	c.expect(t, 0)
	c.delete(t)
}

// listen listens at port 7000 of the world.
func (w wire) listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var listener net.Listener
	inNetns(t, w.world, func() error {
		var err error
		listener, err = net.Listen("tcp", net.JoinHostPort(address, "7000"))
		return err
	})
	t.Cleanup(func() { listener.Close() })
	return listener
}

func greet(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "hello\n")
		conn.Close()
	}
}

// ask connects from the world until somebody answers there.
func (w wire) ask(t testing.TB, address string) string {
	t.Helper()
	answer := ""
	eventually(t, patience, "guest answers at "+address, func() bool {
		var conn net.Conn
		err := error(nil)
		inNetns(t, w.world, func() error {
			conn, err = net.DialTimeout("tcp", address, time.Second)
			return nil
		})
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		answer, err = bufio.NewReader(conn).ReadString('\n')
		return err == nil
	})
	return answer
}

// inNetns calls f in the network namespace at path.
func inNetns(t testing.TB, path string, f func() error) {
	t.Helper()
	if err := enterNetns(path, f); err != nil {
		t.Fatalf("in %s: %v", path, err)
	}
}

func enterNetns(path string, f func() error) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		goruntime.LockOSThread()
		ns, err := os.Open(path)
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Of two that come into one network namespace at once, one gets it.
func TestNetworkOfOne(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	w := newWire(t)
	bundle, dir := r.bundle(t, joinNetns(w.inside), idle), t.TempDir()
	var ids []string
	for range 2 {
		ids = append(ids, r.newID(t))
	}
	results := make([]result, len(ids))
	var all sync.WaitGroup
	for i, id := range ids {
		all.Go(func() {
			results[i] = r.callWith(t, func(cmd *exec.Cmd) { cmd.Stdout, cmd.Stderr = nil, nil },
				"create", "--bundle", bundle, "--pid-file", filepath.Join(dir, id), id)
		})
	}
	all.Wait()
	created := 0
	for i, id := range ids {
		if results[i].Code != 0 {
			if !strings.Contains(results[i].Message, "the network of another VM") {
				t.Errorf("refused: %s", results[i])
			}
			continue
		}
		created++
		exited := reap(readPid(t, filepath.Join(dir, id)))
		r.must(t, "delete", id)
		receive(t, "the shim's end", exited)
	}
	if created != 1 {
		t.Errorf("%d of %d have the namespace", created, len(ids))
	}
}
