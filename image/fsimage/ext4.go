package fsimage

import (
	"context"
	"fmt"
)

// MinExt4 is the smallest ext4 that has room for a journal and for files, in bytes.
const MinExt4 = 16 << 20

// Ext4 writes an empty ext4 of size bytes to file, which is sparse: it takes what is
// written to it. Nothing is reserved for root.
func Ext4(ctx context.Context, file string, size int64) error {
	if size < MinExt4 {
		return fmt.Errorf("ext4 image %s: %d bytes are less than the %d that a file system needs", file, size, MinExt4)
	}
	err := makeFile(file, size, func(fresh string) error {
		// A new file holds nothing but zeros: neither the tool nor the guest's kernel
		// need write those of journal and inode tables.
		return run(ctx, "e2fsprogs", "mke2fs", "-q", "-F", "-t", "ext4", "-m", "0",
			"-E", "lazy_journal_init=1,discard", fresh)
	})
	if err != nil {
		return fmt.Errorf("ext4 image %s: %w", file, err)
	}
	return nil
}
