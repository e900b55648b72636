package runtime

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/rootdisk"
	"github.com/vmruntime/vmruntime/vm"
)

// specFile is the name of a bundle's configuration.
const specFile = "config.json"

// A Bundle is a config.json that was read and found sound, with the paths on
// the host that it names resolved.
type Bundle struct {
	// Dir is absolute.
	Dir  string
	Spec *specs.Spec
	// Rootfs is root.path, absolute and without symlinks.
	Rootfs string
	// Sources are the files and directories behind the bind mounts, without
	// symlinks, by their index in Spec.Mounts.
	Sources map[int]string
	// OwnSources are those that an earlier mount of the container itself provides:
	// absolute paths inside the root, by their index in Spec.Mounts.
	OwnSources map[int]string
	// Disks are the host's block devices, by their index in Spec.Linux.Devices.
	Disks map[int]vm.Disk
	// Layers are the disks that the root file system is read from; without them the
	// guest sees it through the share.
	Layers rootdisk.Disks
}

// LoadBundle reads the bundle in dir. Its errors name the field and what it
// must be. They never say "no such file or directory" or "permission denied":
// engines take these for errors of the container's executable.
func LoadBundle(dir string) (Bundle, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Bundle{}, fmt.Errorf("bundle: %w", err)
	}
	spec, err := readSpec(dir)
	if err != nil {
		return Bundle{}, err
	}
	b := Bundle{Dir: dir, Spec: spec}
	if err := checkSpec(spec); err != nil {
		return Bundle{}, fmt.Errorf("%s: %w", specFile, err)
	}
	if b.Rootfs, err = b.findRootfs(); err != nil {
		return Bundle{}, fmt.Errorf("%s: %w", specFile, err)
	}
	b.OwnSources = b.findOwnSources()
	if b.Sources, err = b.findSources(); err != nil {
		return Bundle{}, fmt.Errorf("%s: %w", specFile, err)
	}
	if b.Disks, err = findDisks(spec.Linux); err != nil {
		return Bundle{}, fmt.Errorf("%s: %w", specFile, err)
	}
	return b, nil
}

func readSpec(dir string) (*specs.Spec, error) {
	body, err := readFile(filepath.Join(dir, specFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s not found in bundle %s", specFile, dir)
	case err != nil:
		return nil, fmt.Errorf("%s of bundle %s cannot be read: %s", specFile, dir, reason(err))
	}
	spec := new(specs.Spec)
	if err := decode(body, spec); err != nil {
		return nil, fmt.Errorf("%s%w", specFile, err)
	}
	return spec, nil
}

// maxSpec is the largest config.json in bytes. No program can be started with an
// environment of that size, and a shim takes no larger plan.
const maxSpec = 6 << 20

// readFile reads a configuration or a state. Nothing but a file will do: a pipe that
// nobody writes to would hold up a command for ever, a device has no end.
func readFile(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a file")
	case info.Size() > maxSpec:
		return nil, fmt.Errorf("%d bytes are more than the %d that it may have", info.Size(), maxSpec)
	}
	return io.ReadAll(io.LimitReader(file, maxSpec))
}

// checkSpec looks at what is wrong whatever runs the container.
func checkSpec(s *specs.Spec) error {
	checks := []func(*specs.Spec) error{checkVersion, checkRoot, checkNames, checkProcess, checkMountTargets, checkNamespaceList, checkValues}
	for _, check := range checks {
		if err := check(s); err != nil {
			return err
		}
	}
	return nil
}

// maxName is the kernel's longest host or domain name in bytes (uts_namespaces(7)).
const maxName = 64

func checkNames(s *specs.Spec) error {
	for field, name := range map[string]string{"hostname": s.Hostname, "domainname": s.Domainname} {
		switch {
		case len(name) > maxName:
			return fmt.Errorf("%s: %d bytes are more than the %d that it may have", field, len(name), maxName)
		case strings.Contains(name, "\x00"):
			return fmt.Errorf("%s: %q must be without NUL bytes", field, name)
		}
	}
	return nil
}

var versionPattern = regexp.MustCompile(`^1\.[0-9]+\.[0-9]+([-+].*)?$`)

func checkVersion(s *specs.Spec) error {
	switch {
	case s.Version == "":
		return errors.New("ociVersion is missing: it must be 1.x, such as " + specs.Version)
	case !versionPattern.MatchString(s.Version):
		return fmt.Errorf("ociVersion: %q is not supported: it must be 1.x, such as %s", s.Version, specs.Version)
	}
	return nil
}

func checkRoot(s *specs.Spec) error {
	switch {
	case s.Root == nil:
		return errors.New("root is missing: it must name the root filesystem in root.path")
	case s.Root.Path == "":
		return errors.New("root.path is missing: it must name the root filesystem")
	}
	return nil
}

func checkProcess(s *specs.Spec) error {
	if s.Process == nil {
		return errors.New("process is missing: it must name the program in process.args")
	}
	if err := checkAnyProcess(s.Process); err != nil {
		return fmt.Errorf("process.%w", err)
	}
	return checkExecSize(s.Process)
}

// maxString is how long the kernel lets an argument or a variable be, without its NUL
// (execve(2)).
const maxString = 128<<10 - 1

// checkExecSize refuses what no process can be started with, in execve's words. It is
// about the first process: a further one has the stack limit of that.
func checkExecSize(p *specs.Process) error {
	const defaultStack, most, least, pointer = 8 << 20, 6 << 20, 128 << 10, 8
	stack := uint64(defaultStack)
	for _, r := range p.Rlimits {
		if r.Type == "RLIMIT_STACK" {
			stack = r.Soft
		}
	}
	limit := max(min(stack/4, most), least)
	var size uint64
	for _, s := range slices.Concat(p.Args, p.Env) {
		size += uint64(len(s)) + 1 + pointer
	}
	if size > limit {
		return fmt.Errorf("process.args, process.env: argument list too long: %d bytes together are more than the %d that the stack limit leaves them", size, limit)
	}
	return nil
}

// checkAnyProcess looks at a process of a container, the first or a further one.
// Its errors begin with the name of a field below process.
func checkAnyProcess(p *specs.Process) error {
	switch {
	case len(p.Args) == 0:
		return errors.New("args must not be empty: it must name the program to run")
	case p.Args[0] == "":
		return errors.New("args[0] must not be empty: it must name the program to run")
	case p.Cwd == "":
		return errors.New(`cwd is missing: it must be an absolute path, such as "/"`)
	case !filepath.IsAbs(p.Cwd):
		return fmt.Errorf("cwd: %q must be absolute", p.Cwd)
	case p.OOMScoreAdj != nil && (*p.OOMScoreAdj < -1000 || *p.OOMScoreAdj > 1000):
		return fmt.Errorf("oomScoreAdj: %d must be -1000 to 1000", *p.OOMScoreAdj)
	}
	if strings.ContainsRune(p.Cwd, 0) {
		return errors.New("cwd contains a NUL byte")
	}
	for name, list := range map[string][]string{"args": p.Args, "env": p.Env} {
		for i, s := range list {
			switch {
			case strings.ContainsRune(s, 0):
				return fmt.Errorf("%s[%d] contains a NUL byte", name, i)
			case len(s) > maxString:
				return fmt.Errorf("%s[%d]: argument list too long: %d bytes are more than the %d that a string may have", name, i, len(s), maxString)
			case name == "env" && strings.Index(s, "=") < 1:
				return fmt.Errorf("env[%d]: %q must be NAME=value", i, s)
			}
		}
	}
	return nil
}

func checkMountTargets(s *specs.Spec) error {
	for i, m := range s.Mounts {
		switch {
		case m.Destination == "":
			return fmt.Errorf("mounts[%d].destination is missing: it must be an absolute path", i)
		case !filepath.IsAbs(m.Destination):
			return fmt.Errorf("mounts[%d].destination: %q must be absolute", i, m.Destination)
		}
	}
	return nil
}

func checkNamespaceList(s *specs.Spec) error {
	if s.Linux == nil {
		return nil
	}
	seen := map[specs.LinuxNamespaceType]bool{}
	for i, ns := range s.Linux.Namespaces {
		switch {
		case ns.Type == "":
			return fmt.Errorf("linux.namespaces[%d].type is missing", i)
		case seen[ns.Type]:
			return fmt.Errorf("linux.namespaces[%d]: %q is there twice", i, ns.Type)
		}
		seen[ns.Type] = true
	}
	return nil
}

func (b Bundle) findRootfs() (string, error) {
	path := b.path(b.Spec.Root.Path)
	resolved, info, err := resolve(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("root.path: %w", err)
	case !info.IsDir():
		return "", fmt.Errorf("root.path: %s must be a directory", path)
	}
	return resolved, nil
}

// findSources resolves the bind mounts' sources. What a socket or a device does
// is done by the host's kernel: neither can cross into a VM.
func (b Bundle) findSources() (map[int]string, error) {
	sources := map[int]string{}
	for i, m := range b.Spec.Mounts {
		if _, own := b.OwnSources[i]; own || !isBind(m) {
			continue
		}
		name := fmt.Sprintf("mounts[%d].source", i)
		if m.Source == "" {
			return nil, fmt.Errorf("%s is missing: a bind mount must name a file or directory", name)
		}
		path := b.path(m.Source)
		resolved, info, err := resolve(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if kind := foreign(info.Mode()); kind != "" {
			return nil, fmt.Errorf("%s: %s is a %s of the host, which a VM cannot share: remove the mount", name, path, kind)
		}
		sources[i] = resolved
	}
	return sources, nil
}

// findOwnSources finds the bind mounts of what earlier mounts put into the root. As
// with runc, mounts see those before them.
func (b Bundle) findOwnSources() map[int]string {
	sources := map[int]string{}
	for i, m := range b.Spec.Mounts {
		if !isBind(m) || m.Source == "" {
			continue
		}
		path, ok := b.insideRoot(b.path(m.Source))
		covers := func(earlier specs.Mount) bool { return isBelow(path, b.destination(earlier)) }
		if ok && slices.ContainsFunc(b.Spec.Mounts[:i], covers) {
			sources[i] = path
		}
	}
	return sources
}

// destination is where a mount goes inside the root. One that begins with the path
// of the root on the host is taken for what is meant, as runc does.
func (b Bundle) destination(m specs.Mount) string {
	if path, ok := b.insideRoot(m.Destination); ok {
		return path
	}
	return m.Destination
}

// insideRoot cuts the path of the root off a path of the host.
func (b Bundle) insideRoot(path string) (string, bool) {
	if b.Rootfs == "/" || !isBelow(path, b.Rootfs) {
		return "", false
	}
	return filepath.Join("/", strings.TrimPrefix(filepath.Clean(path), b.Rootfs)), true
}

// isBelow tells whether an absolute path is that of a directory, or below it.
func isBelow(path, dir string) bool {
	relative, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(relative)
}

// path makes a path of config.json absolute: it may be relative to the bundle.
func (b Bundle) path(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(b.Dir, p)
}

// isBind tells whether a mount takes a file or directory of the host.
func isBind(m specs.Mount) bool {
	if m.Type == "bind" {
		return true
	}
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}
