package engines

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

const (
	ownNetnsOnly = "a VM cannot have the host's interfaces"
	noPods       = "one VM for several containers is not there yet"
	noNames      = "podman's CNI has no DNS without the dnsname plugin"
)

var networkRows = []feature{
	{name: "network: address, MAC and route of the engine", try: networkFacts},
	{name: "network none", try: networkNone},
	{name: "network host", try: networkHost, except: map[string]exception{
		"vmruntime": {why: ownNetnsOnly, line: []string{"--network", "host", "busybox", "true"}, refusal: "network"},
	}},
	{name: "network of another container", try: networkOfAnother, except: map[string]exception{
		"vmruntime": {why: noPods, line: []string{"--network", "container:" + theBox, "busybox", "true"}, refusal: "another VM"},
	}},
	{name: "published port", try: publishedPort},
	{name: "container to container", try: containerToContainer},
	{name: "user-defined network: names", try: networkNames, except: map[string]exception{"podman": {why: noNames}}},
	{name: "user-defined network: names of the outside", try: outsideNames, except: map[string]exception{"podman": {why: noNames}}},
	{name: "network connect and disconnect", try: networkConnect},
	{name: "IPv6", try: ipv6},
	{name: "--dns, --dns-search and --dns-option", try: dnsOptions},
	{name: "--add-host", try: addHost},
	{name: "--hostname", try: hostname},
}

// addressOf is a container's address in the engine's default network.
func (e engine) addressOf(t testing.TB, container string) string {
	t.Helper()
	return e.inspect(t, container, "{{.NetworkSettings.IPAddress}}")
}

func networkFacts(t *testing.T, e engine) {
	contains(t, "addresses", e.exec(t, e.box, "ip addr show eth0"),
		"inet "+e.addressOf(t, e.box)+"/16", e.inspect(t, e.box, "{{.NetworkSettings.MacAddress}}"))
	contains(t, "routes", e.exec(t, e.box, "ip route"), "default via "+e.inspect(t, e.box, "{{.NetworkSettings.Gateway}}")+" dev eth0")
}

func networkNone(t *testing.T, e engine) {
	same(t, "interfaces", e.run(t, "--network", "none", "busybox", "ls", "/sys/class/net"), "lo")
}

func networkHost(t *testing.T, e engine) {
	contains(t, "interfaces", e.run(t, "--network", "host", "busybox", "ip", "link"), "docker0")
}

func networkOfAnother(t *testing.T, e engine) {
	contains(t, "addresses", e.run(t, "--network", "container:"+e.box, "busybox", "ip", "addr"), e.addressOf(t, e.box))
}

// web is a shell's script that serves a page on port 8080. The server goes into the
// background before it listens.
const web = `mkdir /www; echo page >/www/index.html; httpd -p 8080 -h /www
until wget -q -O /dev/null http://127.0.0.1:8080; do :; done; ` + forever

func publishedPort(t *testing.T, e engine) {
	name := e.start(t, "-p", "8080", "busybox", "sh", "-c", web)
	e.logsHave(t, name, "ready")
	address, _, _ := strings.Cut(e.must(t, "port", name, "8080/tcp"), "\n")
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "the page", get(t, "http://127.0.0.1:"+port), "page\n")
}

func get(t testing.TB, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func containerToContainer(t *testing.T, e engine) {
	server := e.start(t, "busybox", "sh", "-c", web)
	e.logsHave(t, server, "ready")
	same(t, "the page", e.exec(t, e.box, "wget -q -O - http://"+e.addressOf(t, server)+":8080"), "page")
}

// network makes a user-defined network that goes with the test.
func (e engine) network(t testing.TB, options ...string) string {
	t.Helper()
	name := newID()
	e.must(t, append(append([]string{"network", "create"}, options...), name)...)
	t.Cleanup(func() { e.call(t, "network", "rm", name) })
	return name
}

func networkNames(t *testing.T, e engine) {
	network := e.network(t)
	server := e.start(t, "--network", network, "--network-alias", "web", "busybox", "sh", "-c", web)
	e.logsHave(t, server, "ready")
	got := e.run(t, "--network", network, "busybox", "sh", "-c", "wget -q -O - http://web:8080; wget -q -O - http://"+server+":8080")
	same(t, "the pages", got, "page\npage")
}

// outsideNames asks a resolver of the host through the engine's own.
func outsideNames(t *testing.T, e engine) {
	gateway := e.inspect(t, e.box, "{{.NetworkSettings.Gateway}}")
	serveDNS(t, gateway)
	got := e.run(t, "--network", e.network(t), "--dns", gateway, "busybox", "nslookup", "outside.example.")
	contains(t, "the answer", got, "127.0.0.11", "192.0.2.7")
}

// serveDNS answers every question for an address with 192.0.2.7, and every other
// with nothing.
func serveDNS(t testing.TB, address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(address, "53"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(answer(buffer[:n]), from)
		}
	}()
}

// answer makes a reply of a question, RFC 1035 section 4.
func answer(question []byte) []byte {
	const header, typeA = 12, 1
	end := header
	for question[end] != 0 {
		end += 1 + int(question[end])
	}
	end += 5
	reply := append([]byte{}, question[:end]...)
	flags := []byte{0x84, 0}
	copy(reply[2:], flags)
	copy(reply[6:], []byte{0, 0, 0, 0, 0, 0})
	if binary.BigEndian.Uint16(question[end-4:]) != typeA {
		return reply
	}
	reply[7] = 1
	return append(reply, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7)
}

func networkConnect(t *testing.T, e engine) {
	network := e.network(t)
	name := e.idle(t, "--network", e.network(t))
	address := `{{(index .NetworkSettings.Networks "` + network + `").IPAddress}}`
	e.must(t, "network", "connect", network, name)
	want := "inet " + e.inspect(t, name, address) + "/"
	until(t, "eth1 inside", func() bool { return strings.Contains(e.exec(t, name, "ip addr show eth1 || true"), want) })
	e.must(t, "network", "disconnect", network, name)
	until(t, "no eth1 inside", func() bool { return !strings.Contains(e.exec(t, name, "ip link"), "eth1") })
}

func ipv6(t *testing.T, e engine) {
	subnet := "fd00:" + e.name[:1] + ":" + e.runtime[:1] + "::/64"
	subnet = strings.NewReplacer("p", "a", "r", "b", "v", "c").Replace(subnet)
	network := e.network(t, "--ipv6", "--subnet", subnet)
	server := e.start(t, "--network", network, "busybox", "sh", "-c", web)
	e.logsHave(t, server, "ready")
	address := e.inspect(t, server, `{{(index .NetworkSettings.Networks "`+network+`").GlobalIPv6Address}}`)
	same(t, "the page", e.run(t, "--network", network, "busybox", "wget", "-q", "-O", "-", "http://["+address+"]:8080"), "page")
}

func dnsOptions(t *testing.T, e engine) {
	got := e.run(t, "--dns", "192.0.2.1", "--dns-search", "example.com", "--dns-option", "ndots:3", "busybox", "cat", "/etc/resolv.conf")
	contains(t, "resolv.conf", got, "nameserver 192.0.2.1", "search example.com", "options ndots:3")
}

func addHost(t *testing.T, e engine) {
	got := e.run(t, "--add-host", "db:192.0.2.9", "busybox", "grep", "-w", "db", "/etc/hosts")
	same(t, "the host", strings.Join(strings.Fields(got), " "), "192.0.2.9 db")
}

func hostname(t *testing.T, e engine) {
	got := e.run(t, "--hostname", "somebody", "busybox", "sh", "-c", "hostname; echo $(cat /etc/hostname); grep -c somebody /etc/hosts")
	same(t, "the name", got, "somebody\nsomebody\n1")
}
