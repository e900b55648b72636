// Package disk makes disks that boot by themselves: a container image becomes a
// machine for plain QEMU, libvirt or a cloud, with BIOS or UEFI.
//
// Everything is made from files by programs that need no privileges: nothing is
// mounted and no loop device is used. A disk has an MBR and three partitions: one
// with FAT, syslinux, systemd-boot, kernel and initramfs; one with the layers, as
// erofs file systems one after the other; and an ext4 for what the container
// writes, which grows with the disk. What the guest needs to know is in its
// initramfs ([protocol.BootDisk]).
package disk

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/vmruntime/vmruntime/protocol"
)

// A Disk is what a disk is made of. All paths are of files.
type Disk struct {
	// Kernel is a bzImage with an EFI stub, Initramfs one whose agent is
	// vmagent-disk.
	Kernel    string
	Initramfs string
	// Layers are erofs file systems, the lowest first, and Upper is an ext4.
	Layers []string
	Upper  string
	// Guest is what the guest is told. The disk's ID and the places of the layers
	// are filled in.
	Guest protocol.BootDisk
}

// Format is that of a disk's file.
type Format string

// The formats.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
)

// make makes the disk in file, which appears complete or not at all. What is on the
// way is in work, on the same file system.
func (d Disk) make(ctx context.Context, file string, format Format, work string) error {
	made := filepath.Join(work, "raw")
	if err := d.write(ctx, made, work); err != nil {
		return err
	}
	if format == QCOW2 {
		converted := filepath.Join(work, "qcow2")
		if err := run(ctx, "qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", made, converted); err != nil {
			return err
		}
		made = converted
	}
	return os.Rename(made, file)
}

// alignment of partitions in bytes, and of layers in theirs.
const (
	alignment      = 1 << 20
	layerAlignment = 4 << 10
)

func align(offset, to int64) int64 { return (offset + to - 1) / to * to }

// write makes a raw disk, with work for what is on the way.
func (d Disk) write(ctx context.Context, file, work string) (err error) {
	out, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	description := d.Guest
	if description.ID, err = newID(); err != nil {
		return err
	}
	// The layers' places are known once it is known how much comes before them, and
	// that once the initramfs holds their places.
	bootSize, err := d.bootSize()
	if err != nil {
		return err
	}
	layers, err := d.placeLayers(alignment + bootSize)
	if err != nil {
		return err
	}
	description.Layers = layers
	boot := filepath.Join(work, "boot")
	if err := d.writeBoot(ctx, boot, work, bootSize, description); err != nil {
		return err
	}
	table, err := d.table(bootSize, layers)
	if err != nil {
		return err
	}
	return d.assemble(out, boot, description.ID, table)
}

// newID is a disk signature that is none of another disk.
func newID() (uint32, error) {
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(id) | 1, nil
}

// placeLayers puts the layers one after the other.
func (d Disk) placeLayers(at int64) ([]protocol.Extent, error) {
	var layers []protocol.Extent
	for _, file := range d.Layers {
		info, err := os.Stat(file)
		if err != nil {
			return nil, fmt.Errorf("layer: %w", err)
		}
		size := align(info.Size(), layerAlignment)
		layers = append(layers, protocol.Extent{Offset: at, Size: size})
		at += size
	}
	return layers, nil
}

// table are the three partitions.
func (d Disk) table(bootSize int64, layers []protocol.Extent) ([]partition, error) {
	if len(layers) == 0 {
		return nil, errors.New("the image has no layers")
	}
	upper, err := os.Stat(d.Upper)
	if err != nil {
		return nil, fmt.Errorf("upper: %w", err)
	}
	last := layers[len(layers)-1]
	begin := layers[0].Offset
	end := align(last.Offset+last.Size, alignment)
	return []partition{
		{kind: espType, active: true, Extent: protocol.Extent{Offset: alignment, Size: bootSize}},
		{kind: dataType, Extent: protocol.Extent{Offset: begin, Size: end - begin}},
		{kind: linuxType, Extent: protocol.Extent{Offset: end, Size: align(upper.Size(), alignment)}},
	}, nil
}

// assemble puts everything in its place.
func (d Disk) assemble(out *os.File, boot string, id uint32, table []partition) error {
	record, err := masterBootRecord(id, table)
	if err != nil {
		return err
	}
	if _, err := out.WriteAt(record, 0); err != nil {
		return err
	}
	if err := copyFile(out, boot, table[0].Offset); err != nil {
		return err
	}
	at := table[1].Offset
	for _, layer := range d.Layers {
		if err := copyFile(out, layer, at); err != nil {
			return err
		}
		info, err := os.Stat(layer)
		if err != nil {
			return err
		}
		at += align(info.Size(), layerAlignment)
	}
	if err := copyFile(out, d.Upper, table[2].Offset); err != nil {
		return err
	}
	return out.Truncate(table[2].Offset + table[2].Size)
}

// copyFile copies a file to an offset and leaves holes where it has only zeros.
func copyFile(out *os.File, file string, at int64) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	buffer := make([]byte, alignment)
	for {
		n, err := io.ReadFull(in, buffer)
		if n > 0 && !isZero(buffer[:n]) {
			if _, err := out.WriteAt(buffer[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func isZero(text []byte) bool {
	for _, b := range text {
		if b != 0 {
			return false
		}
	}
	return true
}
