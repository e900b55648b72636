package image

import "fmt"

// Limits bound what one image may cost.
type Limits struct {
	// Size is the most bytes that all files of an image have together; a hole
	// counts like what is written.
	Size int64
	// Entries is the most files, directories and links.
	Entries int
	// Devices lets images hold device nodes.
	Devices bool
}

// DefaultLimits are generous for what people run, and far from filling a disk.
var DefaultLimits = Limits{Size: 8 << 30, Entries: 1 << 20}

const (
	// maxPath is the longest path of an entry in bytes, the kernel's PATH_MAX.
	maxPath = 4095
	// maxNameLength is the longest part of a path in bytes, the kernel's NAME_MAX.
	maxNameLength = 255
	// maxJSON is the largest manifest or configuration in bytes.
	maxJSON = 4 << 20
	// maxArchiveEntries is the most files of the archive around the layers.
	maxArchiveEntries = 8192
)

// A budget is what is left of the limits while an image is read.
type budget struct {
	limits  Limits
	size    int64
	entries int
}

func (b *budget) take(size int64, entries int) error {
	// Compared this way no sum can overflow.
	if size < 0 || size > b.limits.Size-b.size {
		return fmt.Errorf("the image has more than %d bytes, which is the limit: raise image_limit in config.toml if you trust it", b.limits.Size)
	}
	if entries > b.limits.Entries-b.entries {
		return fmt.Errorf("the image has more than %d files, which is the limit", b.limits.Entries)
	}
	b.size += size
	b.entries += entries
	return nil
}
