package image

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// copyOwner gives a directory the owner and mode of another.
func copyOwner(dir string, like fs.FileInfo) error {
	stat := like.Sys().(*syscall.Stat_t)
	return errors.Join(os.Lchown(dir, int(stat.Uid), int(stat.Gid)), os.Chmod(dir, like.Mode()))
}
