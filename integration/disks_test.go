package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

// loopDevice is a block device of the host that begins with "host", and the file
// behind it.
func loopDevice(t testing.TB) (device, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	testutil.WriteFile(t, file, "host"+strings.Repeat("\x00", 1<<20-4))
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Skipf("needs loop devices: losetup: %v: %s", err, out)
	}
	device = strings.TrimSpace(string(out))
	t.Cleanup(func() { run(t, "losetup", "--detach", device) })
	return device, file
}

// hand gives a block device to the container under another path, as --device does.
func hand(t testing.TB, device, path, access string) change {
	t.Helper()
	info, err := os.Stat(device)
	if err != nil {
		t.Fatal(err)
	}
	number := info.Sys().(*syscall.Stat_t).Rdev
	major, minor := int64(unix.Major(number)), int64(unix.Minor(number))
	mode, uid, gid := os.FileMode(0o640), uint32(0), uint32(6)
	return func(s *specs.Spec) {
		s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{
			Path: path, Type: "b", Major: major, Minor: minor, FileMode: &mode, UID: &uid, GID: &gid,
		})
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: "b", Major: &major, Minor: &minor, Access: access,
		})
	}
}

// A block device of the host is a disk of the guest's, with the container's rights.
func TestDisks(t *testing.T) {
	needVM(t)
	eachDriver(t, func(t *testing.T, r runtime) {
		device, file := loopDevice(t)
		other, _ := loopDevice(t)
		c := r.startNew(t, idle, hand(t, device, "/dev/data/disk", "rwm"), hand(t, other, "/dev/kept", "r"))
		c.stdout.wait(t, "ready\n")
		for script, want := range map[string]string{
			"stat -c '%F %a %u %g' /dev/data/disk":                              "block special file 640 0 6\n",
			"head -c 4 /dev/data/disk":                                          "host",
			"head -c 4 /dev/kept":                                               "host",
			"printf guest | dd of=/dev/data/disk bs=512 seek=1 conv=sync,fsync": "",
		} {
			if got := c.exec(t, "/bin/sh", "-c", script); got.Out != want || got.Code != 0 {
				t.Errorf("%s: %s, not %q", script, got, want)
			}
		}
		if got := c.exec(t, "/bin/sh", "-c", "echo guest > /dev/kept"); got.Code == 0 {
			t.Error("a disk that may only be read is written")
		}
		c.end(t)
		if text := testutil.ReadFile(t, file); !bytes.HasPrefix([]byte(text[512:]), []byte("guest")) {
			t.Errorf("the host's device has %q", text[512:520])
		}
	})
}

// What the host itself uses is given to nobody who writes.
func TestDiskInUse(t *testing.T) {
	r := machines(t)
	nothingLeft(t)
	device, _ := loopDevice(t)
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	got := refusal(t, r.tryCreate(t, r.bundle(t, hand(t, device, "/dev/disk", "rwm"))))
	for _, want := range []string{"linux.devices[", "/dev/disk", "in use on the host", device} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
}
