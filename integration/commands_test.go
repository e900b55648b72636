package integration

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/go-runc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// dockerd reads it: name and version from the first line, the commit from
// another.
func TestVersion(t *testing.T) {
	r := machines(t)
	for _, flag := range []string{"--version", "-v"} {
		got := run(t, r.path, flag)
		want := regexp.MustCompile(`^vmruntime version \S+\ncommit: \S+\nspec: ` + regexp.QuoteMeta(specs.Version) + `\n`)
		if !want.MatchString(got) {
			t.Errorf("%s: %q", flag, got)
		}
	}
}

func TestFeatures(t *testing.T) {
	r := subject(t)
	var f features.Features
	if err := json.Unmarshal([]byte(r.must(t, "features")), &f); err != nil {
		t.Fatal(err)
	}
	if f.OCIVersionMin == "" || f.OCIVersionMax == "" {
		t.Errorf("OCI versions %q to %q", f.OCIVersionMin, f.OCIVersionMax)
	}
	if !r.isVM() {
		return
	}
	for name, has := range map[string]bool{
		// What it tells is what dockerd puts into config.json.
		"rro":              slices.Contains(f.MountOptions, "rro"),
		"rbind":            slices.Contains(f.MountOptions, "rbind"),
		"prestart":         slices.Contains(f.Hooks, "prestart"),
		"mount namespaces": f.Linux != nil && slices.Contains(f.Linux.Namespaces, "mount"),
		"CAP_NET_ADMIN":    f.Linux != nil && slices.Contains(f.Linux.Capabilities, "CAP_NET_ADMIN"),
		"seccomp":          f.Linux != nil && f.Linux.Seccomp != nil && f.Linux.Seccomp.Enabled != nil && *f.Linux.Seccomp.Enabled,
	} {
		if !has {
			t.Errorf("features lack %s", name)
		}
	}
}

// check tells one line for each thing, and what to do where one is missing.
func TestCheck(t *testing.T) {
	r := machines(t)
	got := r.call(t, "check")
	if got.Code != 0 {
		t.Errorf("check fails on a machine where the tests run: %s", got)
	}
	for _, subject := range []string{"KVM", "libvirt", "QEMU", "kernel", "9p", "root"} {
		if !strings.Contains(strings.ToLower(got.Out), strings.ToLower(subject)) {
			t.Errorf("check says nothing of %s: %q", subject, got.Out)
		}
	}
	missing := vmruntime(t, map[string]string{"guest": "/no/such/guest"}).call(t, "check")
	if missing.Code == 0 || !strings.Contains(missing.Out, "vmruntime guest build") {
		t.Errorf("check without a guest does not fail and name the remedy: %s", missing)
	}
}

func TestGuestInfo(t *testing.T) {
	r := machines(t)
	if got := r.must(t, "guest", "info"); !strings.Contains(got, "vmlinux") && !strings.Contains(got, "kernel") {
		t.Errorf("guest info: %q", got)
	}
}

// Help is for people and costs nothing: podman asks for it to learn what there
// is.
func TestHelp(t *testing.T) {
	r := subject(t)
	for _, line := range [][]string{{"--help"}, {"create", "--help"}, {"exec", "-h"}} {
		if out := r.must(t, line...); !strings.Contains(out, "USAGE") && !strings.Contains(out, "Usage") {
			t.Errorf("%v: %q", line, out)
		}
	}
}

// One container's life in the hands of the library that containerd uses.
func TestGoRunc(t *testing.T) {
	r := subject(t)
	nothingLeft(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	engine := &runc.Runc{Command: r.path, Root: r.root, Log: scratch + "/go-runc.json", LogFormat: runc.JSON, ExtraArgs: r.options}
	id, bundle, pidFile := r.newID(t), r.bundle(t, idle), t.TempDir()+"/pid"
	stdio, err := runc.NewPipeIO(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stdio.Close()
	t.Logf("go-runc: %+v create start exec ps pause resume state kill delete %s", engine, id)
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("create", engine.Create(ctx, id, bundle, &runc.CreateOpts{IO: stdio, PidFile: pidFile, NoPivot: true}))
	pid, err := runc.ReadPidFile(pidFile)
	must("pid file", err)
	exited := reap(pid)
	stdout := collect("stdout", stdio.Stdout())
	must("start", engine.Start(ctx, id))
	stdout.wait(t, "ready\n")
	must("exec", engine.Exec(ctx, id, specs.Process{Args: []string{"/bin/true"}, Cwd: "/"}, &runc.ExecOpts{}))
	pids, err := engine.Ps(ctx, id)
	must("ps", err)
	if !slices.Contains(pids, pid) {
		t.Errorf("ps: %v without %d", pids, pid)
	}
	must("pause", engine.Pause(ctx, id))
	state, err := engine.State(ctx, id)
	must("state", err)
	if state.Status != "paused" || state.Pid != pid || state.Bundle != bundle {
		t.Errorf("state: %+v", state)
	}
	must("resume", engine.Resume(ctx, id))
	must("kill", engine.Kill(ctx, id, 15, nil))
	if code := receive(t, "exit", exited); code != 42 {
		t.Errorf("exit %d, not 42", code)
	}
	must("delete", engine.Delete(ctx, id, nil))
	must("second delete", engine.Delete(ctx, id, &runc.DeleteOpts{Force: true}))
	if err := engine.Delete(ctx, id, nil); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("delete of an unknown container: %v", err)
	}
	if err := engine.Kill(ctx, id, 9, nil); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("kill of an unknown container: %v", err)
	}
}
