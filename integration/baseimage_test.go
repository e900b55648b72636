package integration

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

const (
	baseImageVariable = "base_image"
	guestAnnotation   = "org.vmruntime.guest"
	// bootPatience is for a system with systemd and cloud-init, without KVM on a loaded
	// machine.
	bootPatience = 14 * time.Minute
)

// cloudImage is a Debian with cloud-init, made once for the checkout.
func cloudImage(t testing.TB) string {
	t.Helper()
	if goruntime.GOARCH != "amd64" {
		t.Skip("needs amd64: the script knows no other boot loader")
	}
	out, err := exec.Command(checkout(t) + "/hack/cloudimage.sh").CombinedOutput()
	if err != nil {
		t.Fatalf("hack/cloudimage.sh: %v\n%s", err, out)
	}
	return checkout(t) + "/build/cloudimage.qcow2"
}

// onBaseImage is the runtime whose guests boot from the image.
func onBaseImage(t testing.TB, uri, image string) runtime {
	t.Helper()
	needVM(t)
	needRoot(t)
	r := vmruntime(t, map[string]string{uriVariable: uri, baseImageVariable: image})
	r.name, r.patience = "base-image", bootPatience
	return r
}

func checksum(t testing.TB, path string) [sha256.Size]byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// A distribution's own system, with nothing of ours in its image, is a guest like our
// own. A boot takes minutes without KVM: there are two, at once.
func TestBaseImage(t *testing.T) {
	image := cloudImage(t)
	embed, system := onBaseImage(t, uriEmbed, image), onBaseImage(t, uriSystem, image)
	libvirtd := startLibvirtd(t)
	before := checksum(t, image)
	nothingLeft(t)
	t.Run("boots", func(t *testing.T) {
		t.Run("embed", func(t *testing.T) {
			t.Parallel()
			baseImageWorks(t, embed)
		})
		t.Run("system", func(t *testing.T) {
			if libvirtd != nil {
				t.Skip("needs libvirtd: ", libvirtd)
			}
			t.Parallel()
			got := system.call(t, "run", "-b", system.bundle(t, script("echo out; exit 7")), system.newID(t))
			if got.Code != 7 || got.Out != "out\n" {
				t.Error(got)
			}
		})
	})
	if checksum(t, image) != before {
		t.Error("the base image has changed")
	}
}

func baseImageWorks(t *testing.T, r runtime) {
	t.Helper()
	w := newWire(t)
	w.plug(t, w.inside, "eth0", 99)
	begin := time.Now()
	const limit = 96 << 20
	c := r.startNew(t, joinNetns(w.inside), limitMemory(limit), capabilities("CAP_KILL", "CAP_NET_RAW"),
		script(`trap "exit 42" TERM`, `trap "echo usr1" USR1`, `grep -o root=LABEL=root /proc/cmdline`, `echo ready`, forever))
	c.stdout.wait(t, "root=LABEL=root\nready\n")
	t.Logf("from create to the container's first line: %v", time.Since(begin).Round(time.Second))

	for script, want := range map[string]result{
		"echo out; echo err >&2; exit 7":                                         {Code: 7, Out: "out\n", Err: "err\n"},
		"cat /sys/fs/cgroup/memory.max; echo $$ >/dev/null":                      {Out: "100663296\n"},
		"ping -c 1 -W 10 10.99.0.1 >/dev/null && ip -4 -o a | grep -c 10.99.0.2": {Out: "1\n"},
		"ls /sys/class/net | sort | tr '\\n' ' '":                                {Out: "eth0 lo "},
	} {
		if got := c.exec(t, "/bin/sh", "-c", script); got.Code != want.Code || got.Out != want.Out || got.Err != want.Err {
			t.Errorf("%s: %s", script, got)
		}
	}
	c.kill(t, "USR1")
	c.stdout.wait(t, "root=LABEL=root\nready\nusr1\n")
	r.must(t, "pause", c.id)
	if got := c.status(t); got != "paused" {
		t.Errorf("status %s of a paused container", got)
	}
	r.must(t, "resume", c.id)
	cloudInitDone(t, c)
	t.Logf("to the end of cloud-init: %v", time.Since(begin).Round(time.Second))
	c.kill(t, "TERM")
	c.expect(t, 42)
	c.delete(t)
}

// cloudInitDone waits for what a unit of the test's image writes into the VM's share when
// cloud-init has ended.
func cloudInitDone(t testing.TB, c *container) {
	t.Helper()
	_, dir := shimOf(c.id)
	file := filepath.Join(dir, "share", "status")
	eventually(t, bootPatience, "cloud-init has ended", func() bool { _, err := os.Stat(file); return err == nil })
	text := testutil.ReadFile(t, file)
	t.Logf("cloud-init status: %s", text)
	report, code, _ := strings.Cut(text, "\nexit ")
	var status struct {
		Status     string
		Datasource string
		Errors     []string
	}
	if err := json.Unmarshal([]byte(report), &status); err != nil {
		t.Errorf("%v in %q", err, text)
	}
	if strings.TrimSpace(code) != "0" || status.Status != "done" || len(status.Errors) > 0 || status.Datasource != "nocloud" {
		t.Errorf("exit %s, %+v", code, status)
	}
}

// The container chooses by name, the host's configuration says what that means.
func TestGuestByAnnotation(t *testing.T) {
	needVM(t)
	needRoot(t)
	nothingLeft(t)
	own := vmruntime(t, map[string]string{uriVariable: uriEmbed})
	for value, want := range map[string]string{
		"base_image":         "set base_image",
		"/etc/passwd":        `must be "own" or "base_image"`,
		"/dev/../etc/passwd": guestAnnotation,
	} {
		if got := refusal(t, own.tryCreate(t, own.bundle(t, annotate(guestAnnotation, value)))); !strings.Contains(got, want) {
			t.Errorf("%s: %q does not say %q", value, got, want)
		}
	}
	text := filepath.Join(t.TempDir(), "text.qcow2")
	testutil.WriteFile(t, text, strings.Repeat("no disk\n", 1000))
	r := vmruntime(t, map[string]string{uriVariable: uriEmbed, baseImageVariable: text})
	if got := refusal(t, r.tryCreate(t, r.bundle(t))); !strings.Contains(got, "base_image: "+text+" is neither") {
		t.Error(got)
	}
	// Our own guest does not look at it.
	got := r.call(t, "run", "-b", r.bundle(t, annotate(guestAnnotation, "own"), script("exit 7")), r.newID(t))
	if got.Code != 7 {
		t.Error(got)
	}
}

func limitMemory(bytes int64) change {
	return func(s *specs.Spec) {
		if s.Linux.Resources == nil {
			s.Linux.Resources = &specs.LinuxResources{}
		}
		s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &bytes}
	}
}
