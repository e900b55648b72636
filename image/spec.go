package image

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/continuity/fs"
	"github.com/moby/sys/user"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/basespec"
)

// capabilities are those that Docker gives.
var capabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// runtimeSpec is the image's configuration as a runtime takes it, by the rules of
// the image specification's conversion.md. rootfs is where the image is mounted:
// its users are looked up there, and its volumes made.
func (i Image) runtimeSpec(rootfs string, args []string) (*specs.Spec, error) {
	config, err := i.Spec()
	if err != nil {
		return nil, err
	}
	spec, err := newSpec(config, args)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if spec.Process.User, err = findUser(config.Config.User, rootfs); err != nil {
		return nil, fmt.Errorf("configuration: config.User: %w", err)
	}
	if c := spec.Process.Capabilities; spec.Process.User.UID != 0 {
		c.Effective, c.Permitted = nil, nil
	}
	if err := makeVolumes(config.Config, rootfs); err != nil {
		return nil, fmt.Errorf("configuration: Volumes: %w", err)
	}
	return spec, nil
}

// newSpec is all that can be said without looking into the image: the user is root.
func newSpec(config v1.Image, args []string) (*specs.Spec, error) {
	process, err := newProcess(config.Config, args)
	if err != nil {
		return nil, err
	}
	spec := basespec.New()
	spec.Process = process
	spec.Annotations = annotations(config)
	// Engines give them to /proc, too.
	spec.Mounts[0].Options = []string{"nosuid", "noexec", "nodev"}
	return spec, nil
}

func newProcess(c v1.ImageConfig, args []string) (*specs.Process, error) {
	if len(args) == 0 {
		args = c.Cmd
	}
	args = slices.Concat(c.Entrypoint, args)
	if len(args) == 0 {
		return nil, errors.New("neither Entrypoint nor Cmd is there: name a command")
	}
	env := slices.Clone(c.Env)
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "PATH=") }) {
		env = append(env, basespec.DefaultPath)
	}
	return &specs.Process{
		Args: args, Env: env, Cwd: path.Join("/", c.WorkingDir),
		Capabilities: &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities},
	}, nil
}

// findUser looks a user up in the image's own files.
func findUser(name, rootfs string) (specs.User, error) {
	passwd, err := openInRoot(rootfs, "/etc/passwd")
	if err != nil {
		return specs.User{}, err
	}
	defer passwd.Close()
	group, err := openInRoot(rootfs, "/etc/group")
	if err != nil {
		return specs.User{}, err
	}
	defer group.Close()
	found, err := user.GetExecUser(name, nil, io.LimitReader(passwd, maxJSON), io.LimitReader(group, maxJSON))
	if err != nil {
		return specs.User{}, fmt.Errorf("%.300q in the image's /etc/passwd: %w", name, err)
	}
	u := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid)}
	for _, g := range found.Sgids {
		u.AdditionalGids = append(u.AdditionalGids, uint32(g))
	}
	return u, nil
}

// openInRoot opens a file of an image; what is missing is empty.
func openInRoot(rootfs, name string) (*os.File, error) {
	file, err := fs.RootPath(rootfs, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return os.Open(os.DevNull)
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s is not a file", name)
	}
	return f, nil
}

// maxVolumes bounds what a configuration can have made.
const maxVolumes = 256

// makeVolumes makes the directories that are missing.
func makeVolumes(c v1.ImageConfig, rootfs string) error {
	if len(c.Volumes) > maxVolumes {
		return fmt.Errorf("%d of them are more than %d", len(c.Volumes), maxVolumes)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Volumes)) {
		dir, err := fs.RootPath(rootfs, name)
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err != nil {
			return fmt.Errorf("%.300q: %w", name, err)
		}
	}
	return nil
}

func annotations(c v1.Image) map[string]string {
	a := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			a["org.opencontainers.image."+name] = value
		}
	}
	set("os", c.OS)
	set("architecture", c.Architecture)
	set("author", c.Author)
	set("stopSignal", c.Config.StopSignal)
	set("exposedPorts", strings.Join(slices.Sorted(maps.Keys(c.Config.ExposedPorts)), ","))
	maps.Copy(a, c.Config.Labels)
	return a
}
