package shim

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

func TestIdentity(t *testing.T) {
	dir, domain := Dir("/run/a", "x"), UUID("/run/a", "x")
	if filepath.Dir(dir) != runDir || len(filepath.Base(dir)) != 12 {
		t.Errorf("directory %s", dir)
	}
	if _, err := uuid.Parse(domain); err != nil {
		t.Error(err)
	}
	for _, other := range [][2]string{{"/run/a", "y"}, {"/run/b", "x"}, {"/run", "a\x00x"}} {
		if Dir(other[0], other[1]) == dir || UUID(other[0], other[1]) == domain {
			t.Errorf("%q has the identity of another container", other)
		}
	}
}

// What a killed shim leaves is ended and removed, twice without complaint.
func TestClean(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it writes below " + runDir)
	}
	root := t.TempDir()
	dir := Dir(root, "x")
	if err := os.MkdirAll(filepath.Join(dir, "share/c.rootfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	stray := exec.Command(fake(t), "-uuid", UUID(root, "x"))
	if _, err := stray.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := stray.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- stray.Wait() }()
	for range 2 {
		if err := Clean(t.Context(), root, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; err == nil || err.Error() != "signal: killed" {
		t.Errorf("the stray ended with %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

// fake is a program that waits whatever its arguments are.
func fake(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "fake")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nwhile :; do read line; done\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// What could not be given back is told, and can be with another attempt.
func TestCleanAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it writes below " + runDir)
	}
	root := t.TempDir()
	dir := Dir(root, "z")
	// A file that cannot be read.
	if err := os.MkdirAll(foreignFile(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Clean(t.Context(), root, "z"); err == nil {
		t.Error("it has been cleaned")
	}
	if err := os.Remove(foreignFile(dir)); err != nil {
		t.Fatal(err)
	}
	if err := Clean(t.Context(), root, "z"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

// A share that is still mounted keeps its files.
func TestCleanSparesMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	root, files := t.TempDir(), t.TempDir()
	precious := filepath.Join(files, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(Dir(root, "y"), "share/c.rootfs")
	if err := os.MkdirAll(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(files, target, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := Clean(t.Context(), root, "y"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(Dir(root, "y")); !os.IsNotExist(err) {
		t.Error("the directory is left")
	}
}
