package agent

import (
	"os"
	"path/filepath"
	"testing"
)

// The agent stands beside the cgroups of its containers, none of which may be in its way
// whatever it is called.
func TestDivide(t *testing.T) {
	own := t.TempDir()
	for _, dir := range []string{"agent", "containers"} {
		must(t, os.Mkdir(filepath.Join(own, dir), 0o755))
		must(t, os.WriteFile(filepath.Join(own, dir, "cgroup.procs"), nil, 0o644))
	}
	for _, dir := range []string{own, filepath.Join(own, "containers")} {
		must(t, os.WriteFile(filepath.Join(dir, "cgroup.controllers"), []byte("cpu memory\n"), 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), nil, 0o644))
	}
	containers, err := divide(own)
	must(t, err)
	for file, want := range map[string]string{
		filepath.Join(own, "agent", "cgroup.procs"):         "0",
		filepath.Join(own, "cgroup.subtree_control"):        "+cpu +memory",
		filepath.Join(containers, "cgroup.subtree_control"): "+cpu +memory",
	} {
		text, err := os.ReadFile(file)
		must(t, err)
		if string(text) != want {
			t.Errorf("%s has %q, not %q", file, text, want)
		}
	}
	if got := newCgroup(containers, "agent").path; got == filepath.Join(own, "agent") {
		t.Error("a container called agent has the agent's cgroup")
	}
}
