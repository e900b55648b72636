package protocol

// DiskFile is where the initramfs of a self-booting disk has its [BootDisk].
const DiskFile = "/disk.json"

// Partitions of a self-booting disk, whose table is an MBR.
const (
	// BootPartition has the boot loaders, the kernel and the initramfs.
	BootPartition = 1
	// LayersPartition has the layers of the image one after the other.
	LayersPartition = 2
	// UpperPartition is an ext4 with what the container writes. It is the last one
	// and grows with the disk.
	UpperPartition = 3
)

// BootDisk describes a disk that boots by itself and the container on it.
type BootDisk struct {
	// ID is the disk signature in the MBR, by which the guest finds the disk.
	ID uint32 `json:"id"`
	// Layers are erofs file systems, the lowest first.
	Layers []Extent `json:"layers"`
	// User is that of the image's configuration, to be looked up in its files.
	User string `json:"user,omitempty"`
	// Volumes are directories that the container has, whatever the layers hold.
	Volumes   []string  `json:"volumes,omitempty"`
	Container Container `json:"container"`
}

// Extent is a part of a disk, in bytes.
type Extent struct {
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
}
