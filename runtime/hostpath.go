package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// resolve follows the symlinks of a path on the host.
func resolve(path string) (string, fs.FileInfo, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", nil, fmt.Errorf("%s %s", path, reason(err))
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return "", nil, fmt.Errorf("%s %s", path, reason(err))
	}
	return resolved, info, nil
}

// reason words why a path cannot be used without the texts that engines look
// for.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "does not exist on the host"
	case errors.Is(err, fs.ErrPermission):
		return "may not be read by this user"
	}
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return "cannot be used: " + pathError.Err.Error()
	}
	return "cannot be used: " + err.Error()
}

// foreign names what lives in the host's kernel, and is empty for a file or
// directory.
func foreign(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	case mode&fs.ModeDevice != 0:
		return "device"
	}
	return ""
}
