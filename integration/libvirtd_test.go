package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var libvirtd struct {
	once    sync.Once
	err     error
	started bool
}

// startLibvirtd has a libvirtd run; the error says why none does.
func startLibvirtd(t testing.TB) error {
	t.Helper()
	script := filepath.Join(checkout(t), "hack", "libvirtd.sh")
	libvirtd.once.Do(func() {
		if exec.Command(script, "status").Run() == nil {
			return
		}
		t.Logf("$ %s start", script)
		// A daemon is the machine's, not ours to wait for.
		libvirtd.err = adopt(false)
		defer func() { libvirtd.err = errors.Join(libvirtd.err, adopt(true)) }()
		if out, err := exec.Command(script, "start").CombinedOutput(); err != nil {
			libvirtd.err = fmt.Errorf("%s start: %w: %s", script, err, bytes.TrimSpace(out))
			return
		}
		libvirtd.started = true
	})
	return libvirtd.err
}

func stopLibvirtd() {
	if !libvirtd.started {
		return
	}
	if out, err := exec.Command("../hack/libvirtd.sh", "stop").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "libvirtd.sh stop: %v: %s\n", err, out)
	}
}
