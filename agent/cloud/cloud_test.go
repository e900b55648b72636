package cloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func from(files map[string]string) reader {
	return func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	}
}

// said is what of data a test looks at.
type said struct {
	Seed, Hostname string
	Keys           []string
	Files          []string
}

func summary(d *data) said {
	s := said{Seed: d.seed, Hostname: d.hostname, Keys: d.keys}
	for name := range d.files {
		s.Files = append(s.Files, name)
	}
	slices.Sort(s.Files)
	return s
}

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		parse func(reader) (*data, error)
		files map[string]string
		want  said
		err   string
	}{
		"nova": {
			parseOpenStack,
			map[string]string{
				metaFile: `{"hostname":"web.novalocal","public_keys":{"b":"ssh-rsa B\n","a":"ssh-rsa A"}}`,
				userFile: "#!/bin/sh\necho hi\n", networkFile: `{"links":[],"networks":[],"services":[]}`,
			},
			said{"config_drive", "web", []string{"ssh-rsa A", "ssh-rsa B"}, []string{metaFile, networkFile, userFile}}, "",
		},
		"nova without a name":     {parseOpenStack, map[string]string{metaFile: `{}`}, said{"config_drive", "", nil, []string{metaFile}}, ""},
		"nova without meta data":  {parseOpenStack, nil, said{"config_drive", "", nil, nil}, "meta_data.json is missing"},
		"nova with broken data":   {parseOpenStack, map[string]string{metaFile: "{"}, said{"config_drive", "", nil, []string{metaFile}}, "meta_data.json: "},
		"nova with broken config": {parseOpenStack, map[string]string{metaFile: `{"hostname":"a"}`, userFile: "#cloud-config\n- x\n"}, said{"config_drive", "a", nil, []string{metaFile, userFile}}, "user-data: "},
		"nocloud": {
			parseNoCloud,
			map[string]string{"meta-data": "instance-id: i\nlocal-hostname: db-1.example.org\npublic-keys:\n  - ssh-rsa A\n", "user-data": ""},
			said{"nocloud", "db-1", []string{"ssh-rsa A"}, []string{"meta-data", "user-data"}}, "",
		},
		"nocloud with a cloud-config": {
			parseNoCloud,
			map[string]string{"meta-data": "{}", "user-data": "#cloud-config\nhostname: mine\nssh_authorized_keys: [ssh-rsa A]\nruncmd: [[x]]\n"},
			said{"nocloud", "mine", []string{"ssh-rsa A"}, []string{"meta-data", "user-data"}}, "",
		},
		"nocloud with a table of keys": {parseNoCloud, map[string]string{"meta-data": "public-keys: {a: ssh-rsa A}"}, said{"nocloud", "", []string{"ssh-rsa A"}, []string{"meta-data"}}, ""},
		"an evil host name":            {parseNoCloud, map[string]string{"meta-data": "local-hostname: \"a b\\nc\""}, said{"nocloud", "", nil, []string{"meta-data"}}, ""},
		"an evil key":                  {parseNoCloud, map[string]string{"meta-data": "public-keys: [\"a\\nb\", c]"}, said{"nocloud", "", []string{"c"}, []string{"meta-data"}}, ""},
		"broken YAML":                  {parseNoCloud, map[string]string{"meta-data": "a: [", "user-data": "x"}, said{"nocloud", "", nil, []string{"meta-data", "user-data"}}, "meta-data: "},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := test.parse(from(test.files))
			if diff := cmp.Diff(test.want, summary(d)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error is %v, not %q", err, test.err)
			}
		})
	}
}

func TestKeysHaveABound(t *testing.T) {
	var many []string
	for i := range maxKeys + 5 {
		many = append(many, fmt.Sprint(i))
	}
	if n := len(validKeys(many)); n != maxKeys {
		t.Errorf("%d keys", n)
	}
}

func TestReadLimited(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"large", "link", "."} {
		if _, err := readIn(root, name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// The service may take a while; what it has not is not there.
func TestFromService(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch {
		case asked == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/"+metaFile:
			fmt.Fprint(w, `{"hostname":"h","public_keys":{"k":"ssh-rsa A"}}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	d, err := fromService(t.Context(), server.URL+"/")
	if err != nil || d.hostname != "h" || !slices.Equal(d.keys, []string{"ssh-rsa A"}) {
		t.Errorf("got %+v, %v", d, err)
	}
	server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := fromService(ctx, server.URL+"/"); err == nil {
		t.Error("a service that is not there is no error")
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func TestParseNetwork(t *testing.T) {
	static := &network{
		links: []link{{
			mac: "fa:16:3e:00:00:01", mtu: 1450,
			addresses: []netip.Prefix{prefix("192.0.2.7/24"), prefix("2001:db8::7/64")},
			routes:    []route{{prefix("0.0.0.0/0"), addr("192.0.2.1")}, {prefix("10.0.0.0/8"), addr("192.0.2.2")}},
		}},
		resolver: resolver{servers: []netip.Addr{addr("192.0.2.53")}},
	}
	for name, test := range map[string]struct {
		parse func([]byte) (*network, error)
		text  string
		want  *network
		err   string
	}{
		"network_data": {parseNetworkData, `{
			"links":[{"id":"tap1","type":"ovs","ethernet_mac_address":"fa:16:3e:00:00:01","mtu":1450}],
			"networks":[
				{"id":"n0","type":"ipv4","link":"tap1","ip_address":"192.0.2.7","netmask":"255.255.255.0","routes":[
					{"network":"0.0.0.0","netmask":"0.0.0.0","gateway":"192.0.2.1"},{"network":"10.0.0.0","netmask":"255.0.0.0","gateway":"192.0.2.2"}]},
				{"id":"n1","type":"ipv6","link":"tap1","ip_address":"2001:db8::7","netmask":"64"}],
			"services":[{"type":"dns","address":"192.0.2.53"},{"type":"dns","address":"nonsense"}]}`, static, ""},
		"network_data with DHCP": {parseNetworkData,
			`{"links":[{"id":"a","type":"phy","ethernet_mac_address":"fa:16:3e:00:00:01","mtu":null}],"networks":[{"type":"ipv4_dhcp","link":"a"}]}`,
			&network{links: []link{{mac: "fa:16:3e:00:00:01", dhcp4: true}}}, ""},
		"network_data with a bond":          {parseNetworkData, `{"links":[{"id":"b","type":"bond"}]}`, nil, "bond is not supported"},
		"network_data without the link":     {parseNetworkData, `{"networks":[{"type":"ipv4","link":"x"}]}`, nil, "is not among the links"},
		"network_data with a foolish mask":  {parseNetworkData, `{"links":[{"id":"a"}],"networks":[{"type":"ipv4","link":"a","ip_address":"192.0.2.7","netmask":"255.0.255.0"}]}`, nil, "holes"},
		"network_data with a foolish route": {parseNetworkData, `{"links":[{"id":"a"}],"networks":[{"type":"ipv4","link":"a","ip_address":"192.0.2.7/24","routes":[{"network":"0.0.0.0","netmask":"0.0.0.0","gateway":"x"}]}]}`, nil, "gateway"},
		"version 2": {parseNetworkConfig, `
version: 2
ethernets:
  eth0:
    match: {macaddress: "fa:16:3e:00:00:01"}
    mtu: 1450
    addresses: [192.0.2.7/24, "2001:db8::7/64"]
    gateway4: 192.0.2.1
    routes: [{to: 10.0.0.0/8, via: 192.0.2.2}]
    nameservers: {addresses: [192.0.2.53]}
`, &network{links: []link{{mac: static.links[0].mac, name: "eth0", mtu: 1450, addresses: static.links[0].addresses, routes: static.links[0].routes}}, resolver: static.resolver}, ""},
		"version 2 below network": {parseNetworkConfig, "network: {version: 2, ethernets: {ens3: {dhcp4: true}}}", &network{links: []link{{name: "ens3", dhcp4: true}}}, ""},
		"version 1": {parseNetworkConfig, `
version: 1
config:
- type: physical
  name: eth0
  mac_address: "fa:16:3e:00:00:01"
  subnets:
  - {type: static, address: 192.0.2.7, netmask: 255.255.255.0, gateway: 192.0.2.1, dns_nameservers: [192.0.2.53]}
  - {type: dhcp}
- {type: nameserver, address: 192.0.2.54, search: [example.org]}
`, &network{
			links: []link{{mac: "fa:16:3e:00:00:01", name: "eth0", dhcp4: true, addresses: []netip.Prefix{prefix("192.0.2.7/24")},
				routes: []route{{prefix("0.0.0.0/0"), addr("192.0.2.1")}}}},
			resolver: resolver{servers: []netip.Addr{addr("192.0.2.53"), addr("192.0.2.54")}, search: []string{"example.org"}},
		}, ""},
		"version 1 with a vlan": {parseNetworkConfig, "{version: 1, config: [{type: vlan}]}", nil, "vlan"},
		"no version":            {parseNetworkConfig, "ethernets: {}", nil, "neither 1 nor 2"},
		"no YAML":               {parseNetworkConfig, "[", nil, "no YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.parse([]byte(test.text))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error is %v, without %q", err, test.err)
				}
				return
			}
			exported := cmp.AllowUnexported(network{}, link{}, route{}, resolver{})
			plain := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
			plainPrefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
			if diff := cmp.Diff(test.want, got, exported, plain, plainPrefix); diff != "" || err != nil {
				t.Errorf("%v; -want +got:\n%s", err, diff)
			}
		})
	}
}

func TestKindOf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "device")
	image := make([]byte, 64<<10)
	copy(image[32769:], "CD001")
	copy(image[32808:], "CIDATA                          ")
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if kindOf(file, "cidata") != "iso9660" || kindOf(file, "config-2") != "" {
		t.Error("the ISO is not told by its label")
	}
	clear(image)
	copy(image[82:], "FAT32   ")
	copy(image[71:], "CONFIG-2   ")
	if err := os.WriteFile(file, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if kindOf(file, "config-2") != "vfat" {
		t.Error("the FAT is not told by its label")
	}
}

// FuzzMetadata feeds the parsers what a cloud could say.
func FuzzMetadata(f *testing.F) {
	f.Add("instance-id: i\nlocal-hostname: a\npublic-keys: [k]\n", "#cloud-config\nhostname: b\n", "version: 2\n")
	f.Add(`{"hostname":"a","public_keys":{"k":"v"}}`, "#cloud-config\n[", `{"links":[{"id":"a"}],"networks":[{"type":"ipv4","link":"a","ip_address":"1.2.3.4","netmask":"8"}]}`)
	f.Fuzz(func(t *testing.T, meta, user, net string) {
		_, _ = parseNoCloud(from(map[string]string{"meta-data": meta, "user-data": user, "network-config": net}))
		d, _ := parseOpenStack(from(map[string]string{metaFile: meta, userFile: user, networkFile: net}))
		if strings.ContainsAny(d.hostname, "\n /") || slices.ContainsFunc(d.keys, func(k string) bool { return strings.Contains(k, "\n") }) {
			t.Errorf("%q, %q", d.hostname, d.keys)
		}
	})
}

// Channels that are off are switched on, and looked at again; others stay as they are.
func TestWakeChannels(t *testing.T) {
	sys := t.TempDir()
	device := func(name, id string, config []byte) string {
		dir := filepath.Join(sys, "bus/pci/devices", name)
		scan := filepath.Join(dir, "ata1/host0/scsi_host/host0/scan")
		if err := os.MkdirAll(filepath.Dir(scan), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string][]byte{
			filepath.Join(dir, "uevent"): []byte("DRIVER=x\nPCI_ID=" + id + "\n"), filepath.Join(dir, "config"): config, scan: nil,
		} {
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	on := make([]byte, 256)
	on[firstChannel], on[secondChannel] = 0x83, 0x80
	for name, test := range map[string]struct {
		id     string
		config []byte
		scan   string
		want   byte
	}{
		"off":   {piixID, make([]byte, 256), "- - -", 0x80},
		"on":    {piixID, on, "", 0x83},
		"other": {"8086:2922", make([]byte, 256), "", 0},
	} {
		dir := device(name, test.id, test.config)
		if err := wakeChannels(sys); err != nil {
			t.Fatal(err)
		}
		config, _ := os.ReadFile(filepath.Join(dir, "config"))
		scan, _ := os.ReadFile(filepath.Join(dir, "ata1/host0/scsi_host/host0/scan"))
		if config[firstChannel] != test.want || string(scan) != test.scan {
			t.Errorf("%s: %#x, scan %q", name, config[firstChannel], scan)
		}
	}
}
