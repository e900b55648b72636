package guest

import (
	"bytes"

	"github.com/klauspost/compress/zstd"
)

// A disk boots on machines that others make: it brings the drivers of the disks,
// drives and network cards that they have. Nothing of it is in the other
// initramfs, which every container's start unpacks.
var (
	diskRequired = []string{
		"virtio_pci", "virtio_blk",
		// What sums blocks up looks for it without saying so.
		"crc32c_generic",
		"erofs", // layers of the image
		"ext4",  // what the container writes
		"overlay",
		"isofs", // NoCloud, ConfigDrive
	}
	diskOptional = []string{
		"virtio_scsi", "ahci", "ata_piix", "nvme", "sd_mod", "sr_mod",
		"virtio_net", "e1000", "e1000e", "8139cp",
		"virtio_rng", "virtio_balloon",
		"vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1",
		"button", "evdev", // the power button
	}
	diskOnDemand = []string{"fuse", "tun"}
)

// packDiskInitramfs makes the initramfs of disks. It is compressed: firmware reads
// it, slowly, and Linux of any distribution unpacks zstd.
func packDiskInitramfs(t tree, agentPath string) ([]byte, error) {
	agent, err := readAgent(agentPath)
	if err != nil {
		return nil, err
	}
	modules, err := t.resolve(wanted{required: diskRequired, optional: diskOptional, onDemand: diskOnDemand})
	if err != nil {
		return nil, err
	}
	var initramfs bytes.Buffer
	if err := writeInitramfs(&initramfs, agent, modules); err != nil {
		return nil, err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return encoder.EncodeAll(initramfs.Bytes(), nil), nil
}
