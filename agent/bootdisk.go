package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

const (
	sector = 512
	// Offsets in an MBR (UEFI specification, 5.2.1).
	mbrSignature, mbrTable, mbrEntry, mbrMark = 440, 446, 16, 510
	// Offsets in an entry of its table, little endian.
	entryStart, entrySize = 8, 12
	// maxSectors is the largest partition that a table can tell.
	maxSectors = 1<<32 - 1
)

// A bootDisk is the disk that this machine has booted from.
type bootDisk struct {
	path string
	file *os.File
	mbr  [sector]byte
}

// mountDisk mounts the root of the disk's container.
func mountDisk(description protocol.BootDisk) error {
	d, err := findBootDisk(description.ID)
	if err != nil {
		return err
	}
	defer d.file.Close()
	lowers, err := d.split(description.Layers)
	if err != nil {
		return fmt.Errorf("layers of %s: %w", d.path, err)
	}
	if err := d.grow(); err != nil {
		return fmt.Errorf("partition %d of %s: %w", protocol.UpperPartition, d.path, err)
	}
	config := description.Container
	slices.Reverse(lowers)
	config.Layers = &protocol.Layers{Lower: lowers, Upper: d.partition(protocol.UpperPartition)}
	if err := mountLayers(&config); err != nil {
		return err
	}
	if err := growExt4(filepath.Join(filepath.Dir(protocol.LayeredRoot(config.ID)), "upper")); err != nil {
		return fmt.Errorf("file system of %s: %w", config.Layers.Upper, err)
	}
	return nil
}

// findBootDisk waits for the disk with that signature.
func findBootDisk(id uint32) (*bootDisk, error) {
	var found *bootDisk
	if await(diskTimeout, func() string {
		entries, _ := os.ReadDir("/sys/block")
		for _, entry := range entries {
			if found = openBootDisk("/dev/"+entry.Name(), id); found != nil {
				return found.path
			}
		}
		return ""
	}) == "" {
		return nil, fmt.Errorf("no disk has the signature %08x: the kernel may have no driver for its controller", id)
	}
	return found, nil
}

// openBootDisk gives nil where the device is another.
func openBootDisk(path string, id uint32) *bootDisk {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil
	}
	d := &bootDisk{path: path, file: file}
	if _, err := file.ReadAt(d.mbr[:], 0); err == nil && string(d.mbr[mbrMark:]) == "\x55\xaa" &&
		binary.LittleEndian.Uint32(d.mbr[mbrSignature:]) == id {
		// The kernel has read the table.
		if _, err := os.Stat(d.partition(protocol.UpperPartition)); err == nil {
			return d
		}
	}
	file.Close()
	return nil
}

// partition is the device of one.
func (d *bootDisk) partition(number int) string {
	if last := d.path[len(d.path)-1]; '0' <= last && last <= '9' {
		return fmt.Sprintf("%sp%d", d.path, number)
	}
	return fmt.Sprintf("%s%d", d.path, number)
}

// entry is that of a partition in the table.
func (d *bootDisk) entry(number int) []byte {
	at := mbrTable + (number-1)*mbrEntry
	return d.mbr[at : at+mbrEntry]
}

// extent is where a partition is, in bytes.
func (d *bootDisk) extent(number int) protocol.Extent {
	e := d.entry(number)
	return protocol.Extent{
		Offset: int64(binary.LittleEndian.Uint32(e[entryStart:])) * sector,
		Size:   int64(binary.LittleEndian.Uint32(e[entrySize:])) * sector,
	}
}

// split puts a partition for each layer in the place of the one that holds them
// all: a table has room for four. Only the kernel knows, nothing is written.
func (d *bootDisk) split(layers []protocol.Extent) ([]string, error) {
	whole := d.extent(protocol.LayersPartition)
	if err := d.tell(unix.BLKPG_DEL_PARTITION, protocol.LayersPartition, protocol.Extent{}); err != nil {
		return nil, err
	}
	var devices []string
	for i, layer := range layers {
		if layer.Offset < whole.Offset || layer.Size <= 0 || layer.Size > whole.Offset+whole.Size-layer.Offset {
			return nil, fmt.Errorf("layer %d is not in partition %d", i, protocol.LayersPartition)
		}
		number := protocol.UpperPartition + 1 + i
		if err := d.tell(unix.BLKPG_ADD_PARTITION, number, layer); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		devices = append(devices, d.partition(number))
	}
	return devices, nil
}

// tell changes what the kernel knows of a partition.
func (d *bootDisk) tell(operation int32, number int, where protocol.Extent) error {
	p := unix.BlkpgPartition{Start: where.Offset, Length: where.Size, Pno: int32(number)}
	arg := unix.BlkpgIoctlArg{Op: operation, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.file.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return os.NewSyscallError("ioctl BLKPG", errno)
	}
	return nil
}

// grow makes the last partition end with the disk.
func (d *bootDisk) grow() error {
	size, err := d.file.Seek(0, 2)
	if err != nil {
		return err
	}
	have := d.extent(protocol.UpperPartition)
	sectors := min((size-have.Offset)/sector, maxSectors)
	if sectors*sector <= have.Size {
		return nil
	}
	// One sector is written or not: there is no table in between.
	binary.LittleEndian.PutUint32(d.entry(protocol.UpperPartition)[entrySize:], uint32(sectors))
	if _, err := d.file.WriteAt(d.mbr[:], 0); err != nil {
		return err
	}
	return d.tell(unix.BLKPG_RESIZE_PARTITION, protocol.UpperPartition, d.extent(protocol.UpperPartition))
}

// ext4Resize is EXT4_IOC_RESIZE_FS of fs/ext4/ext4.h.
const ext4Resize = 0x40086610

// growExt4 makes a mounted ext4 as large as its device.
func growExt4(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer file.Close()
	var system unix.Statfs_t
	var stat unix.Stat_t
	if err := errors.Join(unix.Fstatfs(int(file.Fd()), &system), unix.Fstat(int(file.Fd()), &stat)); err != nil {
		return err
	}
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/size", unix.Major(stat.Dev), unix.Minor(stat.Dev)))
	if err != nil {
		return err
	}
	var sectors uint64
	if _, err := fmt.Sscan(string(text), &sectors); err != nil {
		return err
	}
	blocks := sectors * sector / uint64(system.Bsize)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), ext4Resize, uintptr(unsafe.Pointer(&blocks)))
	if errno != 0 {
		return os.NewSyscallError("ioctl EXT4_IOC_RESIZE_FS", errno)
	}
	return nil
}
