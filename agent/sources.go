package agent

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// sources are the mounts that a container's set-up begins with, detached: its
// root, what it binds, and the devices of a container in a user namespace, which
// may make none. The agent opens them, because the user of such a container has no
// way through the directories above them; a stage finds them from joinFD on, in
// this order, unless it has received them.
type sources struct{ files []*os.File }

func openSources(spec *specs.Spec) (*sources, error) {
	s := &sources{}
	err := s.openMounts(spec)
	if err == nil && hasNamespace(spec, specs.UserNamespace) {
		err = s.openDevices(spec)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *sources) close() { closeAll(s.files) }

func (s *sources) openMounts(spec *specs.Spec) error {
	root, err := cloneMount(unix.AT_FDCWD, spec.Root.Path, unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("root.path: %w", err)
	}
	s.files = append(s.files, root)
	for _, m := range spec.Mounts {
		m := newMount(m)
		if _, own := m.ownSource(spec.Root.Path); own || !m.hasSource() {
			continue
		}
		source, err := m.openSource()
		if err != nil {
			return m.wrap(err)
		}
		s.files = append(s.files, source)
	}
	return nil
}

// openDevices makes the nodes on a file system that nobody else sees.
func (s *sources) openDevices(spec *specs.Spec) error {
	if !needsDev(spec.Mounts) {
		return nil
	}
	return inMountNamespace(func() error {
		dir, err := newFileSystem("tmpfs", "devices", []string{"mode=0755"}, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
		if err != nil {
			return err
		}
		defer dir.Close()
		if err := attachAt(dir, "/"); err != nil {
			return err
		}
		for i, device := range allDevices(spec.Linux.Devices) {
			node, err := deviceMount(dir, fmt.Sprint(i), device, newUserMappings(spec))
			if err != nil {
				return fmt.Errorf("linux.devices: %s: %w", device.Path, err)
			}
			s.files = append(s.files, node)
		}
		return nil
	})
}

// taker hands a stage the sources in the order in which they were opened.
type taker struct {
	next int
	// received are a preforked stage's descriptors.
	received []int
}

func (t *taker) take(name string) *os.File {
	fd := joinFD + t.next
	if t.received != nil {
		fd = t.received[t.next]
	}
	t.next++
	return os.NewFile(uintptr(fd), name)
}
