package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vmruntime/vmruntime/image"
	"github.com/vmruntime/vmruntime/image/fsimage"
	"github.com/vmruntime/vmruntime/protocol"
)

// A Request asks for a disk of an image.
type Request struct {
	// Output is the disk's file, which is replaced if it is there.
	Output string
	Format Format
	// Size is how much the container can write, in bytes: from [MinSize] to [MaxSize].
	Size int64
	// Args replace the image's command, if there are any.
	Args []string
	// Kernel and Initramfs are those of [Disk].
	Kernel    string
	Initramfs string
}

const (
	// MinSize is what a file system needs, in bytes.
	MinSize = fsimage.MinExt4
	// MaxSize leaves room for all else before the end of what an MBR can tell.
	MaxSize = 1<<41 - 1<<36
)

// containerID names the only container of a machine.
const containerID = "disk"

// OfImage makes a disk of an image that is unpacked.
func OfImage(ctx context.Context, r Request, u image.Unpacked) (err error) {
	// Before the work that takes long.
	if err := checkTools(r.Format); err != nil {
		return err
	}
	machine, err := u.Image.Machine(r.Args)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	work, err := os.MkdirTemp(filepath.Dir(r.Output), "."+filepath.Base(r.Output)+"-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	d := Disk{Kernel: r.Kernel, Initramfs: r.Initramfs, Upper: filepath.Join(work, "upper")}
	for i, tree := range u.Trees {
		layer := filepath.Join(work, fmt.Sprintf("layer%d", i))
		if err := fsimage.Erofs(ctx, layer, tree); err != nil {
			return err
		}
		d.Layers = append(d.Layers, layer)
	}
	if err := fsimage.Ext4(ctx, d.Upper, r.Size); err != nil {
		return err
	}
	d.Guest = protocol.BootDisk{
		User: machine.User, Volumes: machine.Volumes,
		Container: protocol.Container{ID: containerID, Spec: machine.Spec},
	}
	return d.make(ctx, r.Output, r.Format, work)
}
