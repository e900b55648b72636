package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Overlays holds what the guests of base images have written, one file per machine
// until it is deleted. It is on a disk: a guest must not fill the host's /run.
const Overlays = "/var/lib/vmruntime/overlays"

// BaseImageMemory is what the system of a base image may take beside a container, in
// bytes.
const BaseImageMemory = 512 << 20

// A BootDisk is what a machine boots from in place of our own guest: a qcow2 overlay on
// an image that stays as it is.
type BootDisk struct {
	// Base is the image, BaseFormat qcow2 or raw.
	Base       string `json:"base"`
	BaseFormat string `json:"baseFormat"`
	Overlay    string `json:"overlay"`
}

// The formats of base images.
const (
	formatQcow2 = "qcow2"
	formatRaw   = "raw"
)

// imageTimeout bounds a call of qemu-img, which reads or writes no more than an
// image's header.
const imageTimeout = 30 * time.Second

// OverlayPath is the overlay of the machine whose directory is dir.
func OverlayPath(dir string) string {
	return filepath.Join(Overlays, filepath.Base(dir)+".qcow2")
}

// OpenBaseImage looks at the disk image at path. It refuses what is none, and what leads
// to other files of the host: a backing file or an external data file.
func OpenBaseImage(ctx context.Context, path string) (BootDisk, error) {
	// QEMU sees the file itself only.
	real, err := filepath.EvalSymlinks(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return BootDisk{}, fmt.Errorf("%s does not exist", path)
	case err != nil:
		return BootDisk{}, err
	}
	if info, err := os.Stat(real); err != nil || !info.Mode().IsRegular() {
		return BootDisk{}, fmt.Errorf("%s is not a file", path)
	}
	format, err := imageFormat(ctx, real)
	if err != nil {
		return BootDisk{}, fmt.Errorf("%s %w", path, err)
	}
	return BootDisk{Base: real, BaseFormat: format}, nil
}

// imageInfo is of what `qemu-img info --output=json` says.
type imageInfo struct {
	Format    string `json:"format"`
	Backing   string `json:"backing-filename"`
	Encrypted bool   `json:"encrypted"`
	Specific  struct {
		Data struct {
			DataFile string `json:"data-file"`
		} `json:"data"`
	} `json:"format-specific"`
}

func imageFormat(ctx context.Context, path string) (string, error) {
	text, err := qemuImg(ctx, "info", "--force-share", "--output=json", path)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	var info imageInfo
	if err := json.Unmarshal(text, &info); err != nil {
		return "", fmt.Errorf("cannot be read: qemu-img info: %w", err)
	}
	return info.Format, info.check(path)
}

func (i imageInfo) check(path string) error {
	switch {
	case i.Format == formatRaw:
		return checkBootSector(path)
	case i.Format != formatQcow2:
		return fmt.Errorf("is an image of the format %s: qemu-img convert -O qcow2 makes one that can be used", i.Format)
	case i.Backing != "":
		return fmt.Errorf("has a backing file, %s: qemu-img convert -O qcow2 makes an image without", i.Backing)
	case i.Specific.Data.DataFile != "":
		return fmt.Errorf("has its data in another file, %s: qemu-img convert -O qcow2 makes an image that has not", i.Specific.Data.DataFile)
	case i.Encrypted:
		return errors.New("is encrypted, and nobody gives the key: qemu-img convert makes an image that is not")
	}
	return nil
}

// checkBootSector tells a raw disk from any other file, which QEMU takes for one, too.
// A disk for BIOS or UEFI has this signature.
func checkBootSector(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	sector := make([]byte, 512)
	if _, err := io.ReadFull(file, sector); err != nil || !bytes.HasSuffix(sector, []byte{0x55, 0xaa}) {
		return errors.New("is neither a qcow2 image nor a raw disk with a boot sector")
	}
	return nil
}

// MakeOverlay makes the disk's overlay, mode 0600, in the place of one that is left of
// an earlier machine.
func MakeOverlay(ctx context.Context, d BootDisk) error {
	if err := os.MkdirAll(filepath.Dir(d.Overlay), 0o700); err != nil {
		return fmt.Errorf("overlay of %s: %w", d.Base, err)
	}
	if err := RemoveOverlay(d.Overlay); err != nil {
		return err
	}
	// qemu-img keeps the mode of a file that is there.
	if err := os.WriteFile(d.Overlay, nil, 0o600); err != nil {
		return fmt.Errorf("overlay of %s: %w", d.Base, err)
	}
	if _, err := qemuImg(ctx, "create", "-q", "-f", formatQcow2, "-F", d.BaseFormat, "-b", d.Base, d.Overlay); err != nil {
		return fmt.Errorf("overlay of %s: %w", d.Base, err)
	}
	return nil
}

// RemoveOverlay removes an overlay, if there is one.
func RemoveOverlay(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func qemuImg(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-img", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("qemu-img is not installed: apt install qemu-utils")
	}
	if err != nil {
		return nil, fmt.Errorf("qemu-img %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
