package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/disk"
	"github.com/vmruntime/vmruntime/image"
	"github.com/vmruntime/vmruntime/vm/guest"
)

// diskSpace is what a container can write on a disk that nobody has given a size.
const diskSpace = 1 << 30

func imageDiskCommand() *cli.Command {
	return &cli.Command{
		Name:         "disk",
		Usage:        "make a disk that boots by itself and runs the image, on QEMU, libvirt and clouds, with BIOS or UEFI",
		ArgsUsage:    "NAME|FILE.tar [argument...]",
		StopOnNthArg: stopAfter(1),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Required: true, Usage: "the disk's `FILE`; one that is there is replaced"},
			&cli.StringFlag{Name: "format", Usage: "raw or qcow2 (default: qcow2 for a file that is named so, else raw)"},
			&cli.StringFlag{Name: "size", Usage: "`BYTES` that the container can write, such as 10G (default 1G); they grow with the disk"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if err := checkArgs(c, 1, unlimited); err != nil {
				return err
			}
			return makeDisk(ctx, c)
		},
	}
}

func makeDisk(ctx context.Context, c *cli.Command) error {
	request, err := diskRequest(c)
	if err != nil {
		return err
	}
	r, err := configured(c)
	if err != nil {
		return err
	}
	kernel, err := guest.Open(r.Config.Guest)
	if err != nil {
		return err
	}
	if err := kernel.CheckDisk(); err != nil {
		return err
	}
	request.Kernel, request.Initramfs = kernel.Vmlinuz, kernel.DiskInitramfs
	store, err := openStore(r.Config, false)
	if err != nil {
		return err
	}
	name := c.Args().First()
	return store.Use(ctx, name, archiveFile(name), func(u image.Unpacked) error { return disk.OfImage(ctx, request, u) })
}

func diskRequest(c *cli.Command) (disk.Request, error) {
	r := disk.Request{Size: diskSpace, Args: commandLine(c)}
	var err error
	if r.Format, err = diskFormat(c); err != nil {
		return r, err
	}
	if c.IsSet("size") {
		if r.Size, err = sizeOf(c); err != nil {
			return r, err
		}
	}
	if r.Size < disk.MinSize || r.Size > disk.MaxSize {
		return r, fmt.Errorf("--size: must be from %s to %s", units.BytesSize(disk.MinSize), units.BytesSize(disk.MaxSize))
	}
	if r.Output, err = filepath.Abs(c.String("output")); err != nil {
		return r, err
	}
	if _, err := os.Stat(filepath.Dir(r.Output)); err != nil {
		return r, fmt.Errorf("--output: %w", err)
	}
	return r, nil
}

func diskFormat(c *cli.Command) (disk.Format, error) {
	switch f := disk.Format(c.String("format")); f {
	case "":
		if filepath.Ext(c.String("output")) == ".qcow2" {
			return disk.QCOW2, nil
		}
		return disk.Raw, nil
	case disk.Raw, disk.QCOW2:
		return f, nil
	default:
		return "", fmt.Errorf("--format: must be raw or qcow2, not %q", f)
	}
}
