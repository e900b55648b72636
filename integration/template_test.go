package integration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

const templateDir = "/var/cache/vmruntime/templates"

// withOwnGuest is the runtime with a copy of the guest, whose templates are the
// test's alone. They are removed at its end.
func withOwnGuest(t testing.TB, templates string) runtime {
	t.Helper()
	needVM(t)
	dir := filepath.Join(t.TempDir(), "guest")
	run(t, "cp", "-r", filepath.Join(checkout(t), "build/guest"), dir)
	r := vmruntime(t, map[string]string{uriVariable: uriEmbed, templatesVariable: templates, "guest": dir})
	t.Cleanup(func() {
		for _, name := range r.templates(t) {
			r.must(t, "template", "remove", name)
		}
	})
	return r
}

// templates are the names of those that boot the runtime's guest.
func (r runtime) templates(t testing.TB) []string {
	t.Helper()
	var info struct{ Kernel string }
	if err := json.Unmarshal([]byte(r.must(t, "guest", "info")), &info); err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(r.must(t, "template", "list")) {
		if fields := strings.Fields(line); strings.Contains(line, info.Kernel) {
			names = append(names, fields[0])
		}
	}
	return names
}

// way runs a container to its end and tells how its machine started: warm or
// cold, with what the runtime said about it.
func (r runtime) way(t testing.TB, changes ...change) (way, reason, level string) {
	t.Helper()
	bundle := r.bundle(t, changes...)
	debug := r
	debug.options = append([]string{"--debug"}, r.options...)
	cmd, log := debug.command(t, "run", "--bundle", bundle, r.newID(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("run: %v: %s", err, out)
	}
	for line := range strings.Lines(testutil.ReadFile(t, log)) {
		var entry struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if way, reason, found := strings.Cut(entry.Msg, " start: "); found {
			t.Logf("%s start: %s", way, reason)
			return way, reason, entry.Level
		}
	}
	t.Fatalf("the log does not tell how the machine started: %s", testutil.ReadFile(t, log))
	return
}

func (r runtime) expectWay(t testing.TB, want string) {
	t.Helper()
	if way, reason, _ := r.way(t); way != want {
		t.Errorf("a %s start (%s), not a %s one", way, reason, want)
	}
}

// Everything of a clone that must be its own is.
func TestClonesDiffer(t *testing.T) {
	for _, uri := range []string{uriEmbed, uriSystem} {
		t.Run(filepath.Base(uri), func(t *testing.T) {
			needVM(t)
			if uri == uriSystem {
				if err := startLibvirtd(t); err != nil {
					t.Skip("needs libvirtd: ", err)
				}
			}
			r := warm(t, uri)
			nothingLeft(t)
			r.expectWay(t, "warm")
			look := script(
				"date +%s.%N",
				"od -An -tx1 -N16 /dev/urandom", "od -An -tx1 -N16 /dev/random",
				"cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid", "hostname")
			seen := map[string]bool{}
			for i := range 2 {
				name := func(s *specs.Spec) { s.Hostname = fmt.Sprintf("clone-%d", i) }
				c := r.create(t, r.bundle(t, look, name, rootfs(debianRootfs(t))), options{})
				before := time.Now()
				c.start(t)
				lines := strings.Split(strings.TrimSpace(c.stdout.all(t)), "\n")
				after := time.Now()
				c.expect(t, 0)
				c.delete(t)
				if len(lines) != 6 {
					t.Fatalf("the clone says %q", lines)
				}
				checkClock(t, lines[0], before, after)
				for _, line := range lines {
					if seen[line] {
						t.Errorf("two clones say %q", line)
					}
					seen[line] = true
				}
			}
		})
	}
}

// checkClock compares what date says with the time between two moments.
func checkClock(t testing.TB, text string, before, after time.Time) {
	t.Helper()
	const slack = 100 * time.Millisecond
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	inside := time.UnixMicro(int64(seconds * 1e6))
	if inside.Before(before.Add(-slack)) || inside.After(after.Add(slack)) {
		t.Errorf("the clone's clock says %v between %v and %v", inside, before, after)
	}
}

// TLS needs random numbers and the time.
func TestTLSInClone(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	root := newRootfs(t)
	line := exec.Command("go", "build", "-o", filepath.Join(root, "tls"), "./tls")
	line.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := line.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	testutil.WriteFile(t, filepath.Join(root, "certificate.pem"), newCertificate(t))
	c := r.startNew(t, rootfs(root), args("/tls", "/certificate.pem"))
	if out := c.stdout.all(t); out != "hello over TLS\n" {
		t.Errorf("the client got %q, and says %q", out, c.stderr.all(t))
	}
	c.expect(t, 0)
	c.delete(t)
}

// newCertificate is one for 127.0.0.1 that is not valid before this moment, with
// its key.
func newCertificate(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// Certificates count in whole seconds.
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Truncate(time.Second), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, block := range []pem.Block{{Type: "CERTIFICATE", Bytes: certificate}, {Type: "PRIVATE KEY", Bytes: private}} {
		if err := pem.Encode(&text, &block); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

// The first start of its kind boots, and has a template built for the next ones.
func TestTemplateInBackground(t *testing.T) {
	r := withOwnGuest(t, "auto")
	nothingLeft(t)
	r.expectWay(t, "cold")
	eventually(t, patience, "template is built", func() bool { return len(r.templates(t)) == 1 })
	r.expectWay(t, "warm")
	// What a host is made of changes: the template is made anew.
	guest := filepath.Dir(r.kernel(t))
	text := testutil.ReadFile(t, filepath.Join(guest, "initramfs"))
	testutil.WriteFile(t, filepath.Join(guest, "initramfs"), text)
	r.expectWay(t, "cold")
	eventually(t, patience, "template is built again", func() bool {
		way, _, _ := r.way(t)
		return way == "warm"
	})
}

func (r runtime) kernel(t testing.TB) string {
	t.Helper()
	var info struct{ Kernel string }
	if err := json.Unmarshal([]byte(r.must(t, "guest", "info")), &info); err != nil {
		t.Fatal(err)
	}
	return info.Kernel
}

// Who asks for the same template at the same time gets the same one.
func TestTemplateRace(t *testing.T) {
	r := withOwnGuest(t, "built")
	nothingLeft(t)
	r.expectWay(t, "cold")
	var builders sync.WaitGroup
	for range 4 {
		builders.Go(func() {
			if result := r.call(t, "template", "build"); result.Code != 0 {
				t.Errorf("template build: %s", result)
			}
		})
	}
	builders.Wait()
	names := r.templates(t)
	if len(names) != 1 {
		t.Fatalf("templates: %v", names)
	}
	hidden, err := filepath.Glob(filepath.Join(templateDir, "."+names[0]+"*"))
	if err != nil || len(hidden) != 1 {
		t.Errorf("beside the lock there is %v", hidden)
	}
	description := filepath.Join(templateDir, names[0], "template.json")
	before := testutil.ReadFile(t, description)
	r.must(t, "template", "build")
	if testutil.ReadFile(t, description) != before {
		t.Error("a sound template was built again")
	}
	r.expectWay(t, "warm")
}

// A builder that is killed leaves nothing that runs, and nothing that would be
// taken for a template.
func TestTemplateBuilderKilled(t *testing.T) {
	r := withOwnGuest(t, "built")
	nothingLeft(t)
	cmd, _ := r.command(t, "template", "build")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	machine := 0
	eventually(t, patience, "template's machine runs", func() bool {
		machine = templateMachine(r.kernel(t))
		return machine != 0
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	awaitDeath(t, 5*time.Second, "the template's QEMU", machine)
	if names := r.templates(t); len(names) != 0 {
		t.Errorf("templates: %v", names)
	}
	r.expectWay(t, "cold")
	r.must(t, "template", "build")
	r.expectWay(t, "warm")
}

// A template is of one of few sizes, and never of more CPUs than the host has: which
// it became is told.
func TestTemplateTellsItsSize(t *testing.T) {
	r := withOwnGuest(t, "built")
	nothingLeft(t)
	got := r.must(t, "template", "build", "--memory", "10", "--cpus", "99")
	if want := fmt.Sprintf(": machines of 128 MiB, virtual CPUs: %d\n", goruntime.NumCPU()); !strings.HasSuffix(got, want) {
		t.Errorf("build says %q, not %q", got, want)
	}
}

// templateMachine is the pid of the QEMU that boots the kernel for a template.
func templateMachine(kernel string) int {
	for pid, s := range readStats() {
		line := strings.Join(commandLine(pid), " ")
		if s.state != "Z" && strings.Contains(line, "guest=vmruntime-template-") && strings.Contains(line, kernel) {
			return pid
		}
	}
	return 0
}

// A template that is not as it was saved is not used, said so, and mended.
func TestTemplateDamaged(t *testing.T) {
	r := withOwnGuest(t, "built")
	nothingLeft(t)
	for name, damage := range map[string]func(dir string) error{
		"memory": func(dir string) error { return poke(filepath.Join(dir, "memory"), 1<<20) },
		"state":  func(dir string) error { return poke(filepath.Join(dir, "state"), 1000) },
		"foreign": func(dir string) error {
			// The same files, but put there by somebody else.
			return exec.Command("sh", "-c", `cp -a "$1" "$1.copy" && rm -r "$1" && mv "$1.copy" "$1"`, "sh", dir).Run()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r.must(t, "template", "build")
			names := r.templates(t)
			if len(names) != 1 {
				t.Fatalf("templates: %v", names)
			}
			if err := damage(filepath.Join(templateDir, names[0])); err != nil {
				t.Fatal(err)
			}
			way, reason, level := r.way(t)
			if way != "cold" || level != "warn" || !strings.Contains(reason, "damaged") {
				t.Errorf("a %s start, said as %s: %s", way, level, reason)
			}
			r.must(t, "template", "build")
			r.expectWay(t, "warm")
		})
	}
}

// poke changes a byte of a file.
func poke(path string, offset int64) error {
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := file.WriteAt([]byte{0xcc}, offset); err != nil {
		return err
	}
	return file.Close()
}

// A QEMU that a guest took over could write into the machines of others.
func TestTemplateIsReadOnly(t *testing.T) {
	r := warm(t, uriEmbed)
	nothingLeft(t)
	c := r.startNew(t, idle)
	c.stdout.wait(t, "ready\n")
	qemu := qemuOf(t, c)
	opened := 0
	for fd, target := range openFiles(t, qemu) {
		if !strings.HasPrefix(target, templateDir) {
			continue
		}
		opened++
		var flags int
		info := testutil.ReadFile(t, fmt.Sprintf("/proc/%d/fdinfo/%s", qemu, fd))
		_, rest, _ := strings.Cut(info, "flags:")
		if _, err := fmt.Sscanf(rest, "%o", &flags); err != nil {
			t.Fatalf("%s: %v", info, err)
		}
		if flags&unix.O_ACCMODE != unix.O_RDONLY {
			t.Errorf("QEMU has %s open with flags %o", target, flags)
		}
	}
	if opened == 0 {
		t.Error("QEMU has no file of a template open: this test looks at the wrong ones")
	}
	mounts := testutil.ReadFile(t, fmt.Sprintf("/proc/%d/mountinfo", qemu))
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		if strings.HasPrefix(fields[4], templateDir) && !strings.HasPrefix(fields[5], "ro") {
			t.Errorf("QEMU sees %s writable", fields[4])
		}
	}
	c.end(t)
}

// openFiles are the open files of a process, by descriptor.
func openFiles(t testing.TB, pid int) map[string]string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		files[e.Name()], _ = os.Readlink(filepath.Join(dir, e.Name()))
	}
	return files
}

func TestTemplateCommands(t *testing.T) {
	r := machines(t)
	for _, test := range []struct{ line, want string }{
		{"template remove", "--all"},
		{"template remove ../x", "no name of a template"},
		{"template remove 1M-1cpu-000000000000", "file does not exist"},
		{"template remove --all x", "--all"},
		{"template build --memory -1", "--memory"},
		{"template build --cpus 0", "--cpus"},
		{"template build x", "exactly 0"},
	} {
		if got := r.refuse(t, strings.Fields(test.line)...); !strings.Contains(got, test.want) {
			t.Errorf("%s: %q does not say %q", test.line, got, test.want)
		}
	}
}

// Where the time goes is told for every command that people wait for.
func TestTiming(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	bundle := r.bundle(t)
	expect := func(got string, phases ...string) {
		t.Helper()
		for _, phase := range phases {
			if !strings.Contains(got, phase) {
				t.Errorf("no %q in %s", phase, got)
			}
		}
	}
	whole := r.call(t, "run", "--timing", "--bundle", bundle, r.newID(t))
	expect(whole.Err, "load the state", "set up the container", "wait for the process", "delete the container")
	c := r.create(t, bundle, options{args: []string{"--timing"}})
	c.stderr.await(t, "table", func(text string, _ bool) bool { return strings.Contains(text, "set up the container\n") })
	expect(c.stderr.text(), "start the domain", "load the state")
	expect(r.call(t, "start", "--timing", c.id).Err, "start the process")
	c.expect(t, 0)
	expect(r.call(t, "delete", "--timing", c.id).Err, "delete the container")
}
