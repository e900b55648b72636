package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"

	"github.com/docker/go-units"

	"github.com/vmruntime/vmruntime/image/fsimage"
	"github.com/vmruntime/vmruntime/internal/trace"
	"github.com/vmruntime/vmruntime/protocol"
	"github.com/vmruntime/vmruntime/rootdisk"
	"github.com/vmruntime/vmruntime/vm"
)

// How guests reach a root file system: through the share, or as disks.
const (
	rootfsShare = "share"
	rootfsBlock = "block"
)

// The annotations that take the place of rootfs and rootfs_size for one container.
const (
	rootfsAnnotation     = "org.vmruntime.rootfs"
	rootfsSizeAnnotation = "org.vmruntime.rootfs.size"
)

// rootfsOnDisks tells whether the container's root file system becomes disks, and how
// large in bytes the one for its writes is.
func (b Bundle) rootfsOnDisks(c Config) (block bool, size int64, err error) {
	way, bytes := c.Rootfs, c.RootfsSize
	if a, ok := b.Spec.Annotations[rootfsAnnotation]; ok {
		if way = a; way != rootfsShare && way != rootfsBlock {
			return false, 0, fmt.Errorf("annotations: %s must be %q or %q, not %q", rootfsAnnotation, rootfsShare, rootfsBlock, way)
		}
	}
	name := "rootfs_size"
	if a, ok := b.Spec.Annotations[rootfsSizeAnnotation]; ok {
		name, bytes = "annotations: "+rootfsSizeAnnotation, a
	}
	if size, err = diskSize(bytes); err != nil {
		return false, 0, fmt.Errorf("%s: %w", name, err)
	}
	return way == rootfsBlock, size, nil
}

// maxDisk is the largest ext4 of 4 KiB blocks in bytes.
const maxDisk = 16 << 40

func diskSize(text string) (int64, error) {
	size, err := byteSize(text)
	if err == nil && (size < fsimage.MinExt4 || size > maxDisk) {
		return 0, fmt.Errorf("%q must be between 16MiB and 16TiB", text)
	}
	return size, err
}

func byteSize(text string) (int64, error) {
	size, err := units.RAMInBytes(text)
	if err != nil || size <= 0 {
		return 0, fmt.Errorf("%q is not a number of bytes, such as 10GiB", text)
	}
	return size, nil
}

// layered gives the bundle the disks of its root file system, if it is to have some.
// They stay until release is called: by then the machine has to have them open.
func (r Runtime) layered(ctx context.Context, b Bundle) (_ Bundle, release func(), err error) {
	release = func() {}
	block, size, err := b.rootfsOnDisks(r.Config)
	if err != nil || !block {
		return b, release, err
	}
	defer trace.Begin(ctx, "make the disks of the root file system")()
	limit, err := byteSize(r.Config.ImageLimit)
	if err != nil {
		return b, release, fmt.Errorf("image_limit: %w", err)
	}
	r.collectDisks(ctx)
	request := rootdisk.Request{Rootfs: b.Rootfs, Size: size, Limit: limit, ReadOnly: b.Spec.Root.Readonly}
	if b.Layers, release, err = rootdisk.Open(r.Config.RootfsStore).Prepare(ctx, request); err != nil {
		return b, func() {}, fmt.Errorf("root.path: %w", err)
	}
	return b, release, nil
}

// collectDisks removes the disks of containers that engines have removed. That
// it cannot is no reason for a command to fail that is about another.
func (r Runtime) collectDisks(ctx context.Context) {
	if _, err := rootdisk.Open(r.Config.RootfsStore).Collect(ctx); err != nil {
		slog.Warn(err.Error())
	}
}

// layerDisks are the machine's disks for the layers, insideLayers what the guest makes
// its root of.
func layerDisks(d rootdisk.Disks) []vm.Disk {
	if d.Lower == "" {
		return nil
	}
	disks := []vm.Disk{{Path: d.Lower, Serial: protocol.LowerSerial(0), ReadOnly: true, File: true}}
	if d.Upper != "" {
		disks = append(disks, vm.Disk{Path: d.Upper, Serial: protocol.UpperSerial(), File: true})
	}
	return disks
}

func insideLayers(d rootdisk.Disks) *protocol.Layers {
	if d.Lower == "" {
		return nil
	}
	layers := protocol.Layers{Lower: []string{protocol.LowerSerial(0)}}
	if d.Upper != "" {
		layers.Upper = protocol.UpperSerial()
	}
	return &layers
}

// checkDisks looks for what makes the disks of root file systems.
func (r Runtime) checkDisks() Finding {
	f := Finding{Level: Missing, Name: "disks"}
	if r.Config.Rootfs != rootfsBlock {
		// An annotation may still ask for some.
		f.Level = Warning
	}
	for tool, debian := range map[string]string{"mkfs.erofs": "erofs-utils", "mke2fs": "e2fsprogs"} {
		if _, err := exec.LookPath(tool); err != nil {
			f.Text, f.Remedy = tool+" is not installed, which rootfs = \"block\" needs", "apt install "+debian
			return f
		}
	}
	return Finding{Level: OK, Name: f.Name, Text: "rootfs = \"" + r.Config.Rootfs + "\"; mkfs.erofs and mke2fs are there"}
}
