package cgroup

import (
	"path/filepath"
	"strings"
	"testing"
)

// Whatever linux.cgroupsPath says, the cgroup is below the hierarchies' mount points.
func FuzzCgroupsPath(f *testing.F) {
	for _, path := range []string{"", "/a/b", "a", "../../x", "/../x", "slice:prefix:name", "machine.slice::", "a\x00b", "/", "a/../../.."} {
		f.Add(path, false)
		f.Add(path, true)
	}
	f.Fuzz(func(t *testing.T, path string, systemd bool) {
		place, err := ParsePlace(path, "id", systemd)
		if err != nil || systemd {
			return
		}
		group, err := saved{Place: place}.open()
		if err != nil {
			return
		}
		for controller, dir := range group.saved.Paths {
			if dir != filepath.Clean(dir) || !strings.HasPrefix(dir+"/", "/sys/fs/cgroup/") {
				t.Errorf("%q leads to %q for %q", path, dir, controller)
			}
		}
	})
}
