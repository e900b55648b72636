package fsimage

import (
	"context"
	"fmt"
)

// uuid is that of every image: nobody looks for one by it, and what is the same in
// them stays the same.
const uuid = "766d7275-6e74-496d-8000-65726f667300"

// Erofs writes the directory dir, with all that is mounted below it, to file as an
// erofs: owners, modes, times, hard links, device nodes and extended attributes are
// those of the files. A hole takes as much space as its length. But for the time of
// the making, equal trees give equal bytes. The files must not change meanwhile.
func Erofs(ctx context.Context, file, dir string) error {
	err := makeFile(file, 0, func(fresh string) error {
		return run(ctx, "erofs-utils", "mkfs.erofs", "--quiet", "-U", uuid, fresh, dir)
	})
	if err != nil {
		return fmt.Errorf("erofs image of %s: %w", dir, err)
	}
	return nil
}
