package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// otherVersion builds the program anew with another version of the control
// protocol, as the next release may have it.
func otherVersion(t testing.TB, r runtime) runtime {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(checkout(t), "shim", "control.go")
	text := testutil.ReadFile(t, source)
	changed := strings.Replace(text, "const controlVersion = ", "const controlVersion = 1000 + ", 1)
	if changed == text {
		t.Fatal("no constant controlVersion in ", source)
	}
	testutil.WriteFile(t, filepath.Join(dir, "control.go"), changed)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: filepath.Join(dir, "control.go")}})
	if err != nil {
		t.Fatal(err)
	}
	testutil.WriteFile(t, filepath.Join(dir, "overlay.json"), string(overlay))
	r.path = filepath.Join(dir, "vmruntime")
	build := exec.Command("go", "build", "-tags", "libvirt_dlopen", "-overlay", filepath.Join(dir, "overlay.json"),
		"-ldflags", "-X github.com/vmruntime/vmruntime/internal/version.version=99.0-other", "-o", r.path, "./cmd/vmruntime")
	build.Dir = checkout(t)
	t.Logf("$ %s", testutil.ShellLine(build.Args...))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return r
}

// A container whose program was replaced meanwhile: who calls is told, and can
// still end it.
func TestOtherVersion(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	other := otherVersion(t, r)
	c := r.startNew(t, idle)
	c.stdout.wait(t, "ready\n")
	for _, command := range [][]string{
		{"start", c.id}, {"kill", c.id, "TERM"}, {"pause", c.id}, {"resume", c.id}, {"ps", c.id},
		{"exec", c.id, "/bin/true"}, {"state", c.id}, {"delete", c.id},
	} {
		message := other.refuse(t, command...)
		for _, want := range []string{"99.0-other", "shim", ownVersion(t, r)} {
			if !strings.Contains(message, want) {
				t.Errorf("%s: %q does not say %q", command[0], message, want)
			}
		}
	}
	if got := c.status(t); got != "running" {
		t.Errorf("status %s, not running", got)
	}
	other.must(t, "delete", "--force", c.id)
	c.expect(t, 137)
}

// ownVersion is what --version prints.
func ownVersion(t testing.TB, r runtime) string {
	t.Helper()
	return strings.Fields(run(t, r.path, "--version"))[2]
}

// A guest of another time is refused before it boots.
func TestOtherGuest(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	dir := t.TempDir()
	var info map[string]any
	for _, name := range []string{"vmlinux", "initramfs"} {
		testutil.WriteFile(t, filepath.Join(dir, name), "")
	}
	if err := json.Unmarshal([]byte(r.must(t, "guest", "info")), &info); err != nil {
		t.Fatal(err)
	}
	info["protocol"] = 99
	text, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "guest.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	other := vmruntime(t, map[string]string{uriVariable: uriEmbed, "guest": dir})
	checkRefusal(t, other.tryCreate(t, other.bundle(t)), "protocol 99", "vmruntime guest build")
}
