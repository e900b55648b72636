package fsimage

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/google/uuid"
)

// Erofs writes the directory dir, with all that is mounted below it, to file as an
// erofs: owners, modes, times, hard links, device nodes and extended attributes are
// those of the files. A hole takes as much space as its length. The files must not
// change meanwhile.
//
// The UUID is that of the base name of file: an overlay takes layers of one UUID for
// the same, now and in what it has noted in its upper. But for the time of the
// making, equal trees and names give equal bytes.
func Erofs(ctx context.Context, file, dir string) error {
	id := uuid.NewSHA1(uuid.NameSpaceURL, []byte(filepath.Base(file)))
	err := makeFile(file, 0, func(fresh string) error {
		return run(ctx, "erofs-utils", "mkfs.erofs", "--quiet", "-U", id.String(), fresh, dir)
	})
	if err != nil {
		return fmt.Errorf("erofs image of %s: %w", dir, err)
	}
	return nil
}
