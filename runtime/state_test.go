package runtime

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestOneOfManyCreates has many make the same container at once, over and over,
// while somebody deletes it.
func TestOneOfManyCreates(t *testing.T) {
	root := t.TempDir()
	for range 20 {
		var wait sync.WaitGroup
		var mu sync.Mutex
		winners := 0
		for range 16 {
			wait.Go(func() {
				d, err := makeStateDir(root, record{ID: "c"})
				switch {
				case err == nil:
					mu.Lock()
					winners++
					mu.Unlock()
					d.unlock()
				case !errors.Is(err, errExist):
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if winners != 1 {
			t.Fatalf("%d creates got the container", winners)
		}
		removed := 0
		for range 8 {
			wait.Go(func() {
				d, err := lockStateDir(root, "c")
				switch {
				case err == nil:
					mu.Lock()
					removed++
					mu.Unlock()
					if err := d.remove(); err != nil {
						t.Error(err)
					}
				case !errors.Is(err, errNotExist):
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if removed != 1 {
			t.Fatalf("%d deletes removed the container", removed)
		}
	}
	left, err := os.ReadDir(root)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestRecord(t *testing.T) {
	root := t.TempDir()
	if _, err := readRecord(root, "c"); !errors.Is(err, errNotExist) {
		t.Errorf("no container: %v", err)
	}
	d, err := makeStateDir(root, record{ID: "c", Bundle: "/b"})
	if err != nil {
		t.Fatal(err)
	}
	r := Runtime{Root: root}
	if s, err := r.State(t.Context(), "c"); err != nil || s.Status != specs.StateCreating {
		t.Errorf("while it is created: %v %v", s, err)
	}
	d.unlock()
	// Whoever created it is gone without having got anywhere.
	if s, err := r.State(t.Context(), "c"); err != nil || s.Status != specs.StateStopped || s.Bundle != "/b" {
		t.Errorf("after its creator died: %v %v", s, err)
	}
	for name, text := range map[string]string{"empty": "", "cut off": `{"id":"c"`, "of another": `{"id":"d"}`} {
		if err := os.WriteFile(filepath.Join(root, "c", stateFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readRecord(root, "c"); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(filepath.Join(root, "c", stateFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := readRecord(root, "c"); !errors.Is(err, errDamaged) {
		t.Errorf("missing: %v", err)
	}
	list, err := r.List(t.Context())
	if err != nil || len(list) != 0 {
		t.Errorf("list with a damaged one: %v %v", list, err)
	}
}

func TestForceDeleteOfDamaged(t *testing.T) {
	root := t.TempDir()
	r := Runtime{Root: root}
	for range 2 {
		if err := r.Delete(t.Context(), "c", true); err != nil {
			t.Fatalf("of nothing: %v", err)
		}
		if err := os.MkdirAll(filepath.Join(root, "c", "debris"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := r.Delete(t.Context(), "c", false); !errors.Is(err, errDamaged) {
			t.Errorf("without force: %v", err)
		}
		if err := r.Delete(t.Context(), "c", true); err != nil {
			t.Errorf("with force: %v", err)
		}
		if _, err := os.Stat(filepath.Join(root, "c")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
	}
	if err := r.Delete(t.Context(), "c", false); !errors.Is(err, errNotExist) {
		t.Errorf("of nothing without force: %v", err)
	}
}

// Whatever is in the place of a container's state, it can be removed.
func TestForceDeleteOfRubble(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"file":           func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"lock directory": func(dir string) error { return os.MkdirAll(filepath.Join(dir, lockFile), 0o700) },
		"state pipe": func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), unix.Mkfifo(filepath.Join(dir, stateFile), 0o600))
		},
		"link": func(dir string) error { return os.Symlink(t.TempDir(), dir) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "c")
			if err := make(dir); err != nil {
				t.Fatal(err)
			}
			if err := (Runtime{Root: root}).Delete(t.Context(), "c", true); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
		})
	}
}

func TestIDs(t *testing.T) {
	for _, id := range []string{"a", "A_1.x-y+z", "...", "0123456789abcdef"} {
		if err := checkID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{".", "..", "a/b", "a b", "~a", "ä", "a\n"} {
		if err := checkID(id); !errors.Is(err, errInvalidID) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// A zombie has ended: who waits for the end is not always who reaps.
func TestAwaitEnd(t *testing.T) {
	child := exec.Command("sleep", "0.1")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Wait() }()
	start, err := processStart(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	r := record{PID: child.Process.Pid, PIDStart: start}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	r.awaitEnd(canceled)
	if !r.alive() {
		t.Error("it ended at once")
	}
	r.awaitEnd(t.Context())
	if r.alive() {
		t.Error("it has not been waited for")
	}
}

func TestProcessStart(t *testing.T) {
	start, err := processStart(os.Getpid())
	if err != nil || start == 0 {
		t.Fatalf("own start: %d %v", start, err)
	}
	r := record{PID: os.Getpid(), PIDStart: start}
	if !r.alive() {
		t.Error("this process is not alive")
	}
	r.PIDStart++
	if r.alive() {
		t.Error("another process with this pid is taken for it")
	}
}

func TestPIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if err := writePIDFile(path, 42); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "42" {
		t.Errorf("%q %v", text, err)
	}
	// In words that no engine takes for a missing program.
	err := writePIDFile(filepath.Join(path+".d", "pid"), 42)
	if err == nil || !strings.HasSuffix(err.Error(), "does not exist on the host") {
		t.Errorf("error is %v", err)
	}
}

func TestLongIDIsRefused(t *testing.T) {
	if err := checkID(strings.Repeat("x", maxID)); err != nil {
		t.Error(err)
	}
	if err := checkID(strings.Repeat("x", maxID+1)); err == nil || !strings.Contains(err.Error(), "longer than 200") {
		t.Errorf("error is %v", err)
	}
}
