package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestParseMountOptions(t *testing.T) {
	for name, c := range map[string]struct {
		options []string
		want    mountOptions
	}{
		"none":        {nil, mountOptions{}},
		"flags":       {[]string{"ro", "nosuid", "nodev", "noexec"}, mountOptions{flags: unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC}},
		"last wins":   {[]string{"ro", "rw"}, mountOptions{cleared: unix.MS_RDONLY}},
		"first loses": {[]string{"rw", "ro"}, mountOptions{flags: unix.MS_RDONLY}},
		"data":        {[]string{"mode=755", "size=1m", "", "x"}, mountOptions{data: []string{"mode=755", "size=1m", "x"}}},
		"propagation": {[]string{"rprivate", "shared"}, mountOptions{propagation: []uintptr{unix.MS_PRIVATE | unix.MS_REC, unix.MS_SHARED}}},
		"rbind":       {[]string{"rbind"}, mountOptions{flags: unix.MS_BIND | unix.MS_REC}},
		"rro":         {[]string{"rro"}, mountOptions{recursive: true, recursiveSet: unix.MOUNT_ATTR_RDONLY}},
		"rrw":         {[]string{"rrw"}, mountOptions{recursive: true, recursiveClear: unix.MOUNT_ATTR_RDONLY}},
		"rnoatime":    {[]string{"rnoatime"}, mountOptions{recursive: true, recursiveSet: unix.MOUNT_ATTR_NOATIME, recursiveClear: unix.MOUNT_ATTR__ATIME}},
		"rrelatime":   {[]string{"rrelatime"}, mountOptions{recursive: true, recursiveClear: unix.MOUNT_ATTR__ATIME}},
		"ratime":      {[]string{"ratime"}, mountOptions{recursive: true, recursiveClear: unix.MOUNT_ATTR__ATIME}},
		"copy":        {[]string{"tmpcopyup"}, mountOptions{copyUp: true}},
		"defaults":    {[]string{"defaults", "sync"}, mountOptions{flags: unix.MS_SYNCHRONOUS}},
	} {
		got := parseMountOptions(c.options)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(mountOptions{})); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestMountTypes(t *testing.T) {
	for _, c := range []struct {
		mount specs.Mount
		kind  string
		flags uintptr
	}{
		{specs.Mount{Type: "none", Options: []string{"rbind"}}, "bind", unix.MS_BIND | unix.MS_REC},
		{specs.Mount{Type: "bind"}, "bind", unix.MS_BIND},
		{specs.Mount{Options: []string{"bind", "ro"}}, "bind", unix.MS_BIND | unix.MS_RDONLY},
		{specs.Mount{Type: "cgroup"}, "cgroup2", 0},
		{specs.Mount{Type: "tmpfs"}, "tmpfs", 0},
	} {
		if m := newMount(c.mount); m.Type != c.kind || m.flags != c.flags {
			t.Errorf("%+v is %s with %#x", c.mount, m.Type, m.flags)
		}
	}
}

func TestAttributes(t *testing.T) {
	if got := attributes(unix.MS_RDONLY | unix.MS_NOATIME | unix.MS_SYNCHRONOUS); got != unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOATIME {
		t.Errorf("attributes %#x", got)
	}
	if got := attributes(unix.MS_STRICTATIME | unix.MS_NOATIME); got != unix.MOUNT_ATTR_STRICTATIME {
		t.Errorf("attributes %#x", got)
	}
	if diff := cmp.Diff([]string{"sync", "lazytime"}, superFlags(unix.MS_SYNCHRONOUS|unix.MS_LAZYTIME|unix.MS_NODEV)); diff != "" {
		t.Error(diff)
	}
}

// Whatever the options, none is lost, and none is both asked for and not.
func FuzzMountOptions(f *testing.F) {
	f.Add("ro,nosuid,size=1m,rprivate,tmpcopyup")
	f.Add("rbind,rro,ratime,rnoatime,rw,mode=755")
	f.Fuzz(func(t *testing.T, text string) {
		options := strings.Split(text, ",")
		o := parseMountOptions(options)
		if both := o.flags & o.cleared; both != 0 {
			t.Errorf("%#x is set and cleared", both)
		}
		if (o.recursiveSet|o.recursiveClear)&^(allAttributes|unix.MOUNT_ATTR__ATIME) != 0 || attributes(o.flags)&^(allAttributes|unix.MOUNT_ATTR__ATIME) != 0 {
			t.Errorf("unknown attributes: set %#x, clear %#x, %#x", o.recursiveSet, o.recursiveClear, attributes(o.flags))
		}
		for _, option := range o.data {
			if !slices.Contains(options, option) || mountFlags[option].flag != 0 || propagations[option] != 0 {
				t.Errorf("%q is the file system's", option)
			}
		}
	})
}
