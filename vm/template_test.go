package vm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// build makes a template without a machine.
func build(t *testing.T, dir, key string, machine Config) {
	t.Helper()
	lock, err := LockTemplate(t.Context(), dir, true)
	if err != nil {
		t.Fatal(err)
	}
	made, err := lock.Begin(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	made.Key, made.Machine = key, machine
	for path, text := range map[string]string{made.MemoryFile(): "memory", made.StateFile(): "state"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(lock.Commit(made), lock.Release()); err != nil {
		t.Fatal(err)
	}
}

func TestTemplate(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "256M-1cpu-0123")
	if _, _, err := OpenTemplate(dir, "key"); !errors.Is(err, ErrNoTemplate) {
		t.Errorf("before it is built: %v", err)
	}
	build(t, dir, "key", base())
	opened, state, err := OpenTemplate(dir, "key")
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	if text := make([]byte, 5); opened.Name() != "256M-1cpu-0123" || opened.Machine.Memory != base().Memory {
		t.Errorf("opened %+v", opened)
	} else if _, err := state.Read(text); err != nil || string(text) != "state" {
		t.Errorf("the state begins with %q, %v", text, err)
	}
	if _, _, err := OpenTemplate(dir, "other"); !errors.Is(err, ErrStale) {
		t.Errorf("under another key: %v", err)
	}
	build(t, dir, "other", base())
	if _, state, err := OpenTemplate(dir, "other"); err != nil {
		t.Errorf("built again: %v", err)
	} else {
		state.Close()
	}
	if err := opened.CheckMemory(); !errors.Is(err, ErrDamaged) {
		t.Errorf("the replaced memory passes for the one that was opened: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(root, ".*"))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the lock there is %v", left)
	}
	if list, err := ListTemplates(root); err != nil || len(list) != 1 || list[0].Name() != "256M-1cpu-0123" {
		t.Errorf("list: %v, %v", list, err)
	}
	if err := RemoveTemplate(root, "256M-1cpu-0123"); err != nil {
		t.Error(err)
	}
	if err := RemoveTemplate(root, "256M-1cpu-0123"); err == nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
	for _, name := range []string{"", "..", "../x", ".256M-1cpu-0123.lock"} {
		if err := RemoveTemplate(root, name); err == nil {
			t.Errorf("%q was removed", name)
		}
	}
}

// A template takes a hundred megabytes: it goes when nobody will start from it.
func TestTemplatesArePruned(t *testing.T) {
	root := t.TempDir()
	kernel := filepath.Join(root, "vmlinux")
	if err := os.WriteFile(kernel, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	machine := func(change func(*Config)) Config {
		c := Blank(base())
		c.Kernel = kernel
		change(&c)
		return c
	}
	for _, old := range []struct {
		name    string
		machine Config
	}{
		{"older-program", machine(func(c *Config) { c.Cmdline = "other" })},
		{"other-size", machine(func(c *Config) { c.Memory *= 2 })},
		{"guest-gone", machine(func(c *Config) { c.Kernel = filepath.Join(root, "gone") })},
		{"new", machine(func(*Config) {})},
	} {
		build(t, filepath.Join(root, old.name), "key", old.machine)
	}
	list, err := ListTemplates(root)
	if err != nil || len(list) != 2 || list[0].Name() != "new" || list[1].Name() != "other-size" {
		t.Errorf("left are %v, %v", list, err)
	}
}

func TestDamagedTemplate(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"memory written": func(dir string) error {
			path := filepath.Join(dir, memoryFile)
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			// Size and time of modification stay as they were.
			return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("MEMORY"), 0o600),
				os.Chmod(path, 0o400), os.Chtimes(path, info.ModTime(), info.ModTime()))
		},
		"memory gone":   func(dir string) error { return os.Remove(filepath.Join(dir, memoryFile)) },
		"memory a link": func(dir string) error { return relink(filepath.Join(dir, memoryFile)) },
		"state written": func(dir string) error {
			path := filepath.Join(dir, stateFile)
			return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("STATE"), 0o600))
		},
		"state cut":        func(dir string) error { return os.Truncate(filepath.Join(dir, stateFile), 1) },
		"state gone":       func(dir string) error { return os.Remove(filepath.Join(dir, stateFile)) },
		"description gone": func(dir string) error { return os.Remove(filepath.Join(dir, templateFile)) },
		"description cut":  func(dir string) error { return os.Truncate(filepath.Join(dir, templateFile), 20) },
		"others may enter": func(dir string) error { return os.Chmod(dir, 0o755) },
		"a link":           relink,
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "t")
			build(t, dir, "key", base())
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			if _, _, err := OpenTemplate(dir, "key"); !errors.Is(err, ErrDamaged) {
				t.Errorf("it is taken: %v", err)
			}
			build(t, dir, "key", base())
			if _, state, err := OpenTemplate(dir, "key"); err != nil {
				t.Errorf("built again: %v", err)
			} else {
				state.Close()
			}
		})
	}
}

// relink moves a file away and leaves a symbolic link to it.
func relink(path string) error {
	return errors.Join(os.Rename(path, path+".moved"), os.Symlink(path+".moved", path))
}

func TestTemplateLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "t")
	first, err := LockTemplate(t.Context(), dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockTemplate(t.Context(), dir, false); !errors.Is(err, ErrBuilding) {
		t.Errorf("the second one gets %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := LockTemplate(ctx, dir, true); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("who waits gets %v", err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		second, err := LockTemplate(t.Context(), dir, true)
		if err == nil {
			err = second.Release()
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err := first.Release(); err != nil {
		t.Error(err)
	}
	waiting.Wait()
}

func TestTemplateKey(t *testing.T) {
	c := base()
	c.Firmware = "rom"
	dir := t.TempDir()
	for _, path := range []*string{&c.Kernel, &c.Initramfs, &c.Emulator, &c.Firmware} {
		*path = filepath.Join(dir, filepath.Base(*path))
		if err := os.WriteFile(*path, []byte("one"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	key := func(libvirt uint32) string {
		t.Helper()
		k, err := TemplateKey(c, libvirt)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	last := key(9000000)
	if key(9000000) != last {
		t.Error("the key changes by itself")
	}
	if key(9000001) == last {
		t.Error("another libvirt has the same key")
	}
	for _, path := range []string{c.Kernel, c.Initramfs, c.Emulator, c.Firmware, filepath.Join(dir, "qemu-system-x86_64")} {
		if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("two"), 0o700)); err != nil {
			t.Fatal(err)
		}
		next := key(9000000)
		if next == last {
			t.Errorf("another %s has the same key", filepath.Base(path))
		}
		last = next
	}
}

func TestCPUModel(t *testing.T) {
	model, err := cpuModel("/proc/cpuinfo")
	if err != nil || model == "" {
		t.Errorf("%q, %v", model, err)
	}
	if strings.Contains(model, "MHz") {
		t.Errorf("it has what changes by itself: %s", model)
	}
}
