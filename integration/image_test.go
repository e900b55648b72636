package integration

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// imageTar is what docker save makes of a busybox image with two layers, the upper
// of which takes /etc/doomed away.
func imageTar(t testing.TB) string {
	t.Helper()
	return imageTarOf(t, "worker")
}

// imageTarOf is the same image with another user.
func imageTarOf(t testing.TB, user string) string {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("needs busybox-static: ", err)
	}
	base := tarOf(t, map[string]string{"bin/busybox": string(busybox), "etc/doomed": "x", "etc/passwd": "root:x:0:0::/root:/bin/sh\nworker:x:77:78::/:/bin/sh\n"})
	app := tarOf(t, map[string]string{"app/hello": "from the app\n", "etc/.wh.doomed": ""})
	sum := func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": "amd64",
		"config": map[string]any{"Entrypoint": []string{"/bin/busybox", "sh", "-c"}, "Cmd": []string{"exit 3"}, "Env": []string{"A=1"}, "User": user, "WorkingDir": "/app"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum(base), "sha256:" + sum(app)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest := `[{"Config":"` + sum(string(config)) + `.json","Layers":["base/layer.tar","app/layer.tar"]}]`
	file := filepath.Join(t.TempDir(), "image.tar")
	testutil.WriteFile(t, file, tarOf(t, map[string]string{
		"manifest.json": manifest, sum(string(config)) + ".json": string(config), "base/layer.tar": base, "app/layer.tar": app,
	}))
	return file
}

func tarOf(t testing.TB, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// An image runs as it comes, and nothing is left of its bundle.
func TestRunImage(t *testing.T) {
	needRoot(t)
	needVM(t)
	file := imageTar(t)
	r := vmruntime(t, map[string]string{uriVariable: uriEmbed, "image_store": filepath.Join(t.TempDir(), "images")})
	script := "busybox id -u; busybox pwd; echo $A; busybox cat hello; [ -e /etc/doomed ] || echo gone; exit 5"
	got := r.call(t, "run", "--image", file, r.newID(t), "PATH=/bin; "+script)
	if want := "77\n/app\n1\nfrom the app\ngone\n"; got.Out != want || got.Code != 5 {
		t.Errorf("%s, not %q and exit status 5", got, want)
	}
	if left, _ := filepath.Glob(filepath.Join(r.root, "~image.*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// The bundle of a container that runs stays where it is, whatever name it is called by.
func TestUnbundle(t *testing.T) {
	needRoot(t)
	needVM(t)
	file := imageTar(t)
	r := vmruntime(t, map[string]string{uriVariable: uriEmbed, "image_store": filepath.Join(t.TempDir(), "images")})
	dir := filepath.Join(t.TempDir(), "b")
	r.must(t, "image", "import", "--name", "app", file)
	r.must(t, "image", "bundle", "--image", "app", dir, "PATH=/bin; busybox sleep 1000")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	c := r.create(t, link, options{})
	c.start(t)
	for _, way := range [][]string{{"image", "unbundle", dir}, {"image", "unbundle", "--keep", dir}} {
		got := r.call(t, way...)
		if want := "container " + c.id + " is running: vmruntime delete --force " + c.id + " first"; got.Code != 1 || !strings.Contains(got.Err, want) {
			t.Errorf("%v: %s, not %q and exit status 1", way, got, want)
		}
	}
	if got := c.exec(t, "/bin/busybox", "cat", "/app/hello"); got.Out != "from the app\n" {
		t.Errorf("after that: %s", got)
	}
	r.must(t, "delete", "--force", c.id)
	r.must(t, "image", "unbundle", dir)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is there still: %v", dir, err)
	}
}
