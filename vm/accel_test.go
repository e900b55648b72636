package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeProof is a proof whose QEMU is a shell script. It counts its runs in the
// file "runs" of the proof's directory.
func fakeProof(t *testing.T, script string) Proof {
	t.Helper()
	dir := t.TempDir()
	p := Proof{
		QEMU:      filepath.Join(dir, "qemu"),
		Kernel:    filepath.Join(dir, "vmlinux"),
		Initramfs: filepath.Join(dir, "initramfs"),
		Dir:       filepath.Join(dir, "verdicts"),
	}
	text := fmt.Sprintf("#!/bin/sh\necho run >>%s/runs\n%s\n", dir, script)
	for path, body := range map[string]string{p.QEMU: text, p.Kernel: "kernel", p.Initramfs: "initramfs"} {
		if err := os.WriteFile(path, []byte(body), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	setForTest(t, &openKVM, func() error { return nil })
	return p
}

func setForTest[T any](t *testing.T, variable *T, value T) {
	old := *variable
	*variable = value
	t.Cleanup(func() { *variable = old })
}

func runs(t *testing.T, p Proof) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(p.QEMU), "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(text), "run\n")
}

func TestProveKVM(t *testing.T) {
	tests := map[string]struct {
		script string
		want   Verdict
	}{
		"boots":    {`echo "[    0.500000] reboot: Power down"`, Verdict{KVM, "a guest booted with KVM"}},
		"fails":    {"echo 'no MSR' >&2; exit 1", Verdict{TCG, "KVM is there, but QEMU failed with it: exit status 1: no MSR"}},
		"aborts":   {"kill -ABRT $$", Verdict{TCG, "KVM is there, but QEMU failed with it: signal: aborted: it printed nothing"}},
		"resets":   {"echo Kernel panic", Verdict{TCG, "KVM is there, but a guest that booted with it did not get to its end: Kernel panic"}},
		"hangs":    {"exec sleep 60", Verdict{TCG, "KVM is there, but a guest did not boot with it within 300ms"}},
		"chatters": {"exec yes", Verdict{TCG, "KVM is there, but a guest did not boot with it within 300ms"}},
		// A child that keeps the console open after QEMU is gone.
		"lingers": {"sleep 60 & exec sleep 60", Verdict{TCG, "KVM is there, but a guest did not boot with it within 300ms"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := fakeProof(t, test.script)
			if strings.Contains(test.want.Reason, "within") {
				setForTest(t, &kvmDeadline, 300*time.Millisecond)
			}
			if v, known := KnownVerdict(p); known {
				t.Errorf("verdict %v is known before the proof", v)
			}
			for range 2 {
				got, err := ProveKVM(t.Context(), p)
				if err != nil {
					t.Fatal(err)
				}
				if got != test.want {
					t.Errorf("got  %+v\nwant %+v", got, test.want)
				}
			}
			if n := runs(t, p); n != 1 {
				t.Errorf("QEMU ran %d times, want once", n)
			}
			if v, known := KnownVerdict(p); !known || v != test.want {
				t.Errorf("known verdict is %v, %v", v, known)
			}
		})
	}
}

func TestProveKVMWithoutDevice(t *testing.T) {
	p := fakeProof(t, "exit 0")
	setForTest(t, &openKVM, func() error { return os.ErrNotExist })
	v, err := ProveKVM(t.Context(), p)
	if err != nil || v.Accelerator != TCG || runs(t, p) != 0 {
		t.Errorf("verdict %v, error %v, %d runs; want TCG without a run", v, err, runs(t, p))
	}
}

// A new kernel or QEMU is proven anew, and so is a damaged verdict.
func TestProveKVMAgain(t *testing.T) {
	changes := map[string]func(Proof) error{
		"kernel":  func(p Proof) error { return os.WriteFile(p.Kernel, []byte("another kernel"), 0o600) },
		"qemu":    func(p Proof) error { return os.Chtimes(p.QEMU, time.Time{}, time.Unix(1, 0)) },
		"damaged": damageVerdicts,
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			p := fakeProof(t, "echo reboot: Power down")
			for _, want := range []int{1, 2} {
				if _, err := ProveKVM(t.Context(), p); err != nil {
					t.Fatal(err)
				}
				if n := runs(t, p); n != want {
					t.Errorf("QEMU ran %d times, want %d", n, want)
				}
				if err := change(p); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func damageVerdicts(p Proof) error {
	paths, err := filepath.Glob(filepath.Join(p.Dir, "*.json"))
	for _, path := range paths {
		err = errors.Join(err, os.WriteFile(path, []byte(`{"accelerator":"abacus"}`), 0o600))
	}
	return err
}

func TestProveKVMConcurrently(t *testing.T) {
	p := fakeProof(t, "sleep 0.3; echo reboot: Power down")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if v, err := ProveKVM(t.Context(), p); err != nil || v.Accelerator != KVM {
				t.Errorf("verdict %v, error %v", v, err)
			}
		})
	}
	all.Wait()
	if n := runs(t, p); n != 1 {
		t.Errorf("QEMU ran %d times, want once", n)
	}
}

// What was interrupted, or could not begin, proves nothing.
func TestProveKVMErrors(t *testing.T) {
	t.Run("canceled", func(t *testing.T) {
		p := fakeProof(t, "exec sleep 60")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if v, err := ProveKVM(ctx, p); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("verdict %v, error %v", v, err)
		}
		if v, known := KnownVerdict(p); known {
			t.Errorf("verdict %v was remembered", v)
		}
	})
	t.Run("no kernel", func(t *testing.T) {
		p := fakeProof(t, "exit 0")
		p.Kernel = filepath.Join(t.TempDir(), "gone")
		if v, err := ProveKVM(t.Context(), p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("verdict %v, error %v", v, err)
		}
	})
	t.Run("no program", func(t *testing.T) {
		p := fakeProof(t, "exit 0")
		if err := os.Chmod(p.QEMU, 0o644); err != nil {
			t.Fatal(err)
		}
		if v, err := ProveKVM(t.Context(), p); !errors.Is(err, os.ErrPermission) {
			t.Errorf("verdict %v, error %v", v, err)
		}
	})
}
