package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

const (
	// ResolverFile becomes the container's /etc/resolv.conf where there is one; it
	// may be written in place at any time.
	ResolverFile = etcDir + "/resolv.conf"
	etcDir       = "/run/vmruntime/etc"
	// seedDir is the container's /var/lib/cloud/seed.
	seedDir = "/run/vmruntime/cloud"
	// defaultHostname is that of a machine that nobody has named.
	defaultHostname = "vmruntime"
	// maxBootDisk bounds the description of a disk in bytes.
	maxBootDisk = 8 << 20
)

// Identity is what a machine that boots from its own disk is told by the cloud
// around it.
type Identity struct {
	// Hostname is empty where there is none.
	Hostname string
	// Keys are lines of authorized_keys(5) for root.
	Keys []string
	// Seed names a directory below /var/lib/cloud/seed, which shows Files to the
	// container; empty without.
	Seed string
	// Files are by their paths relative to that.
	Files map[string][]byte
}

// DiskMain is the role of PID 1 of a self-booting disk, and of its stages: it runs
// the container that is on the disk and powers off with it. identify brings the
// network up and finds out who the machine is; what it fails at is told on the
// console.
func DiskMain(build string, identify func(context.Context) (Identity, error)) int {
	if IsStage() {
		return stageMain()
	}
	guarded(func() {
		if err := runDisk(build, identify); err != nil {
			fatal(err)
		}
	})
	powerOff()
	return 1
}

func runDisk(build string, identify func(context.Context) (Identity, error)) error {
	// The initramfs is out of reach later.
	disk, err := readDisk()
	if err != nil {
		return err
	}
	a, err := prepare(build)
	if err != nil || a == nil {
		return err
	}
	out, err := openConsole()
	if err != nil {
		return err
	}
	defer out.close()
	if err := mountDisk(disk); err != nil {
		return err
	}
	if err := os.MkdirAll(etcDir, 0o755); err != nil {
		return err
	}
	who, err := identify(context.Background())
	if err != nil {
		out.say("%v", err)
	}
	root, err := os.Open(protocol.LayeredRoot(disk.Container.ID))
	if err != nil {
		return err
	}
	defer root.Close()
	if err := authorize(root, who.Keys); err != nil {
		out.say("ssh keys: %v", err)
	}
	config, err := containerOf(disk, root, who)
	if err != nil {
		return err
	}
	code, err := a.runToEnd(config, out)
	if err != nil {
		return err
	}
	out.say("the container's process has ended with exit status %d", code)
	return syncRoot(root)
}

// readDisk reads the description in the initramfs.
func readDisk() (protocol.BootDisk, error) {
	var disk protocol.BootDisk
	text, err := readLimited(protocol.DiskFile, maxBootDisk)
	if err == nil {
		err = json.Unmarshal(text, &disk)
	}
	if err != nil {
		return disk, fmt.Errorf("description of the disk: %w", err)
	}
	return disk, checkConfig(&disk.Container)
}

// containerOf is what runs: the disk's container, as the machine that it has become.
func containerOf(d protocol.BootDisk, root *os.File, who Identity) (*protocol.Container, error) {
	config := d.Container
	spec := config.Spec
	spec.Root.Path = protocol.LayeredRoot(config.ID)
	spec.Hostname = defaultHostname
	if who.Hostname != "" {
		spec.Hostname = who.Hostname
	}
	if err := setProcessUser(root, d.User, spec.Process); err != nil {
		return nil, err
	}
	for _, volume := range d.Volumes {
		dir, err := mkdirInRoot(root, volume)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", volume, err)
		}
		dir.Close()
	}
	// The machine is the container's alone, and so is its network.
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool {
		return n.Type == specs.NetworkNamespace
	})
	binds, err := who.write(spec.Hostname)
	spec.Mounts = append(spec.Mounts, binds...)
	return &config, err
}

// setProcessUser looks the image's user up. Who is not root has no capabilities.
func setProcessUser(root *os.File, name string, p *specs.Process) error {
	passwd, err := openRegular(root, "/etc/passwd")
	if err != nil {
		return err
	}
	defer passwd.Close()
	group, err := openRegular(root, "/etc/group")
	if err != nil {
		return err
	}
	defer group.Close()
	found, err := user.GetExecUser(name, nil, io.LimitReader(passwd, maxPasswd), io.LimitReader(group, maxPasswd))
	if err != nil {
		return fmt.Errorf("user %q in the image's /etc/passwd: %w", name, err)
	}
	p.User.UID, p.User.GID = uint32(found.Uid), uint32(found.Gid)
	for _, id := range found.Sgids {
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(id))
	}
	if found.Uid != 0 && p.Capabilities != nil {
		p.Capabilities.Effective, p.Capabilities.Permitted = nil, nil
	}
	return nil
}

// openRegular opens a regular file inside root for reading; what is missing is
// empty.
func openRegular(root *os.File, path string) (*os.File, error) {
	file, err := openInRoot(root, path, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return os.Open(os.DevNull)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.Open(descriptorPath(int(file.Fd())))
}

// write puts what the container is to see where it can be bound from.
func (i Identity) write(hostname string) ([]specs.Mount, error) {
	files := map[string][]byte{
		etcDir + "/hostname": []byte(hostname + "\n"),
		etcDir + "/hosts": []byte("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" +
			hostname + "\n"),
	}
	for name, text := range i.Files {
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("metadata: %q is no name of a file", name)
		}
		files[filepath.Join(seedDir, i.Seed, name)] = text
	}
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return nil, err
		}
	}
	binds := []specs.Mount{bindOf("/etc/hostname", etcDir+"/hostname"), bindOf("/etc/hosts", etcDir+"/hosts")}
	if _, err := os.Stat(ResolverFile); err == nil {
		binds = append(binds, bindOf("/etc/resolv.conf", ResolverFile))
	}
	if len(i.Files) > 0 {
		// Passwords may be in it.
		if err := os.Chmod(filepath.Join(seedDir, i.Seed), 0o700); err != nil {
			return nil, err
		}
		binds = append(binds, bindOf("/var/lib/cloud/seed", seedDir, "ro"))
	}
	return binds, nil
}

func bindOf(destination, source string, options ...string) specs.Mount {
	return specs.Mount{Destination: destination, Type: "bind", Source: source, Options: append([]string{"rbind", "rprivate"}, options...)}
}

// runToEnd runs a container with the console for its output, and gives its exit
// status.
func (a *agent) runToEnd(config *protocol.Container, out *console) (int, error) {
	c, err := a.add(config)
	if err != nil {
		return 0, err
	}
	if err := c.create(); err != nil {
		return 0, err
	}
	init, err := c.process("")
	if err != nil {
		return 0, err
	}
	init.stdio[0].Close()
	for _, fd := range []int{1, 2} {
		done := init.outputs.add()
		go guarded(func() {
			defer done()
			init.copyOutput(out, init.stdio[fd])
		})
	}
	if err := c.start(); err != nil {
		return 0, err
	}
	go guarded(func() { c.heedPowerButton(out) })
	<-init.exited
	init.outputs.Wait()
	return init.code, nil
}

// authorize adds keys to root's, which are the image's own or of an earlier boot.
func authorize(root *os.File, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	home, err := makeBeneath(root, "root")
	if err != nil {
		return err
	}
	defer home.Close()
	dir, err := makeBeneath(home, ".ssh")
	if err != nil {
		return err
	}
	defer dir.Close()
	file, err := openBeneath(dir, "authorized_keys", unix.O_RDWR|unix.O_CREAT|unix.O_APPEND|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer file.Close()
	return addLines(file, keys)
}

// makeBeneath opens a directory that is no link, and makes it where it is missing.
func makeBeneath(dir *os.File, name string) (*os.File, error) {
	err := unix.Mkdirat(int(dir.Fd()), name, 0o700)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
}

// openBeneath opens an entry of a directory that is no link.
func openBeneath(dir *os.File, name string, flags uint64) (*os.File, error) {
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	if flags&unix.O_CREAT != 0 {
		how.Mode = 0o600
	}
	fd, err := unix.Openat2(int(dir.Fd()), name, how)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), nil
}

// addLines appends those that a file does not have.
func addLines(file *os.File, lines []string) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", file.Name())
	}
	text, err := io.ReadAll(io.LimitReader(file, maxPasswd))
	if err != nil {
		return err
	}
	have := strings.Split(string(text), "\n")
	var more strings.Builder
	if len(text) > 0 && !strings.HasSuffix(string(text), "\n") {
		more.WriteByte('\n')
	}
	for _, line := range lines {
		if !slices.Contains(have, line) {
			have = append(have, line)
			more.WriteString(line + "\n")
		}
	}
	_, err = file.WriteString(more.String())
	return err
}

// syncRoot writes to the disk what the container has written.
func syncRoot(root *os.File) error {
	return os.NewSyscallError("syncfs", unix.Syncfs(int(root.Fd())))
}

func readLimited(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return text, err
}
