package guest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

// Options say what a guest is made of.
type Options struct {
	// Kernels are the .deb packages of one kernel release, or the path of one
	// vmlinuz, whose modules are then in Modules.
	Kernels []string
	Modules string
	// Agent is the vmagent binary, DiskAgent the one for disks that boot by
	// themselves.
	Agent     string
	DiskAgent string
	// Output is the guest's directory; a guest that is there is replaced.
	Output string
	// Progress receives a line for each step.
	Progress io.Writer
}

// Build makes a guest. It appears in Output complete or not at all: of several
// builds at once the last one stays, and a machine that boots meanwhile keeps
// the files that it has opened.
func Build(ctx context.Context, options Options) (Image, error) {
	image, err := build(ctx, options)
	if err != nil {
		return Image{}, fmt.Errorf("build guest: %w", err)
	}
	return image, nil
}

func build(ctx context.Context, options Options) (Image, error) {
	output, err := filepath.Abs(options.Output)
	if err != nil {
		return Image{}, err
	}
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		return Image{}, err
	}
	work, err := os.MkdirTemp(filepath.Dir(output), "."+filepath.Base(output)+"-")
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = os.RemoveAll(work) }()

	source, err := findKernel(ctx, options, filepath.Join(work, "package"))
	if err != nil {
		return Image{}, err
	}
	step := func(format string, args ...any) { fmt.Fprintf(options.Progress, format+"\n", args...) }
	step("kernel %s", source.release)
	made := filepath.Join(work, "guest")
	info, err := write(made, source, options, step)
	if err != nil {
		return Image{}, err
	}
	step("initramfs with vmagent %s and %d modules", info.AgentBuild, len(info.Modules))
	if err := publish(made, output); err != nil {
		return Image{}, err
	}
	step("guest is in %s", output)
	return Open(output)
}

// write makes the files of a guest in the new directory dir.
func write(dir string, source kernel, options Options, step func(string, ...any)) (Info, error) {
	packed, err := os.ReadFile(source.image)
	if err != nil {
		return Info{}, err
	}
	vmlinux, err := extractKernel(packed)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", source.image, err)
	}
	step("vmlinux of %d MiB out of %d MiB", len(vmlinux)>>20, len(packed)>>20)
	agent, err := readAgent(options.Agent)
	if err != nil {
		return Info{}, err
	}
	tree, err := openTree(source.modules)
	if err != nil {
		return Info{}, err
	}
	modules, err := tree.resolve(wanted{required, optional, onDemand, layers})
	if err != nil {
		return Info{}, err
	}
	var initramfs bytes.Buffer
	if err := writeInitramfs(&initramfs, agent, modules); err != nil {
		return Info{}, err
	}
	diskInitramfs, err := packDiskInitramfs(tree, options.DiskAgent)
	if err != nil {
		return Info{}, err
	}

	info := Info{
		Release:  source.release,
		Protocol: protocol.Version,
		Built:    time.Now().UTC().Truncate(time.Second),
		SHA256: map[string]string{
			kernelFile:        sum(vmlinux),
			initramfsFile:     sum(initramfs.Bytes()),
			"vmagent":         sum(agent),
			vmlinuzFile:       sum(packed),
			diskInitramfsFile: sum(diskInitramfs),
		},
	}
	info.AgentBuild = info.SHA256["vmagent"][:12]
	for _, m := range modules {
		info.Modules = append(info.Modules, m.file)
	}
	description, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return Info{}, err
	}
	return info, writeFiles(dir, map[string][]byte{
		kernelFile:        vmlinux,
		initramfsFile:     initramfs.Bytes(),
		vmlinuzFile:       packed,
		diskInitramfsFile: diskInitramfs,
		infoFile:          append(description, '\n'),
	})
}

// readAgent refuses what cannot run as the only program of a guest.
func readAgent(path string) ([]byte, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("agent: %w (remedy: make build)", err)
	}
	file, err := elf.NewFile(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("agent %s: %w", path, err)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("agent %s is not static: build it with CGO_ENABLED=0", path)
		}
	}
	return body, nil
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

func writeFiles(dir string, files map[string][]byte) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// publish puts the directory made in the place of output, in one step where
// something is there already; that then lies in made.
func publish(made, output string) error {
	err := os.Rename(made, output)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
		err = unix.Renameat2(unix.AT_FDCWD, made, unix.AT_FDCWD, output, unix.RENAME_EXCHANGE)
	}
	return err
}
