// Package fsimage makes file system images with the tools of erofs-utils and
// e2fsprogs, without mounting anything. A file appears complete or not at all.
package fsimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// makeFile has fill write a new file of the given length, which then takes the place of
// file. It has mode 0600 and is on the disk: a crash leaves no half of it.
func makeFile(file string, size int64, fill func(fresh string) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := fill(f.Name()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

// run runs a tool; what it says is in the error.
func run(ctx context.Context, debian, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", name, ctx.Err())
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%s is not installed: install Debian's %s", name, debian)
	}
	return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
}
