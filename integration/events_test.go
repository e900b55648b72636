package integration

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/go-runc"
	"github.com/google/go-cmp/cmp"
)

// followEvents runs `events` until the container has ended.
func followEvents(t testing.TB, c *container, args ...string) *stream {
	t.Helper()
	cmd, _ := c.command(t, append([]string{"events", c.id}, args...)...)
	read, write := pipe(t)
	cmd.Stdout, cmd.Stderr = write, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() {
		if err := cmd.Wait(); err != nil {
			t.Errorf("events: %v", err)
		}
	})
	return collect("events", read)
}

// keys are the names in an object of objects, except for those of a map of figures.
func keys(v any, at string) []string {
	object, ok := v.(map[string]any)
	if !ok || at == ".data.memory.raw" {
		return nil
	}
	var list []string
	for key, member := range object {
		list = append(append(list, at+"."+key), keys(member, at+"."+key)...)
	}
	return list
}

// optional are figures that one version of cgroups has and the other has not (the
// guest's is v2), or that may be 0.
var optional = []string{
	"percpu", "throttl", ".periods", "cpus", "mems", "blkio.", "hugetlb.", ".psi", ".memory.kernel", ".cache", ".max", ".usage.usage", ".limit",
}

// The figures are where runc has them.
func TestEventsStats(t *testing.T) {
	shapes := map[string][]string{}
	for _, r := range []runtime{reference(t), subject(t)} {
		t.Run(r.name, func(t *testing.T) {
			nothingLeft(t)
			c := r.startNew(t, idle, limited, cgroupsPath(cgroupName(t)))
			c.stdout.wait(t, "ready\n")
			text := r.must(t, "events", "--stats", c.id)
			var tree any
			if err := json.Unmarshal([]byte(text), &tree); err != nil {
				t.Fatal(err)
			}
			for _, key := range keys(tree, "") {
				if !slices.ContainsFunc(optional, func(o string) bool { return strings.Contains(key, o) }) {
					shapes[r.name] = append(shapes[r.name], key)
				}
			}
			slices.Sort(shapes[r.name])
			// As containerd's library reads it.
			var event runc.Event
			if err := json.Unmarshal([]byte(text), &event); err != nil {
				t.Fatal(err)
			}
			if event.Type != "stats" || event.ID != c.id || event.Stats == nil {
				t.Fatalf("event %s", text)
			}
			s := event.Stats
			if s.Memory.Usage.Limit != 128*mib || s.Memory.Usage.Usage == 0 || s.Memory.Usage.Usage > 128*mib {
				t.Errorf("memory %+v of a limit of %d", s.Memory.Usage, 128*mib)
			}
			if s.Pids.Limit != 100 || s.Pids.Current == 0 || s.Pids.Current > 5 {
				t.Errorf("pids %+v of a limit of 100", s.Pids)
			}
			if s.Cpu.Usage.Total == 0 {
				t.Error("no CPU time")
			}
			c.end(t)
		})
	}
	names := slices.Sorted(maps.Keys(shapes))
	if len(names) == 2 {
		if diff := cmp.Diff(shapes["runc"], shapes[names[0]]); diff != "" {
			t.Errorf("names (-runc +ours):\n%s", diff)
		}
	}
}

// Figures come until the container ends, also while it is paused.
func TestEvents(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.startNew(t, idle, cgroupsPath(cgroupName(t)))
	events := followEvents(t, c, "--interval", "100ms")
	events.wait(t, `"type":"stats"`)
	r.must(t, "pause", c.id)
	before := strings.Count(events.text(), "\n")
	eventually(t, patience, "figures of a paused container", func() bool { return strings.Count(events.text(), "\n") > before+1 })
	if event := r.must(t, "events", "--stats", c.id); !strings.Contains(event, `"memory":{`) {
		t.Errorf("stats of a paused container: %s", event)
	}
	r.must(t, "resume", c.id)
	c.end(t)
	for line := range strings.Lines(events.all(t)) {
		var event runc.Event
		if err := json.Unmarshal(bytes.TrimSpace([]byte(line)), &event); err != nil || event.Type != "stats" {
			t.Errorf("line %q: %v", line, err)
		}
	}
}

func TestEventsRefused(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	c := r.create(t, r.bundle(t, idle), options{})
	if message := r.refuse(t, "events", "--interval", "0s", c.id); !strings.Contains(message, "duration interval must be greater than 0") {
		t.Error(message)
	}
	c.kill(t, "KILL")
	c.wait(t)
	for _, args := range [][]string{{"events", c.id}, {"events", "--stats", c.id}} {
		if message := r.refuse(t, args...); !strings.Contains(message, "container with id "+c.id+" is not running") {
			t.Error(message)
		}
	}
	c.delete(t)
	if message := r.refuse(t, "events", c.id); !strings.Contains(message, "does not exist") {
		t.Error(message)
	}
}
