package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/image"
	"github.com/vmruntime/vmruntime/runtime"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:         "run",
		Usage:        "create and start a container, and wait for its end",
		ArgsUsage:    "<container-id> [with --image: argument...]",
		StopOnNthArg: stopAfter(1),
		Flags: append(createFlags(),
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "do not wait"},
			&cli.BoolFlag{Name: "keep", Usage: "do not delete the container at its end"},
			&cli.StringFlag{Name: "image", Usage: "instead of a bundle, run the image of this `NAME`, or in this .tar file"},
			sizeFlag()),
		Action: withID(configured, unlimited, runContainer),
	}
}

func runContainer(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) error {
	if c.String("image") != "" {
		return runImage(ctx, c, r, id)
	}
	if err := checkArgs(c, 1, 1); err != nil {
		return err
	}
	if c.IsSet("size") {
		return errors.New("--size: it is for --image: a bundle brings its own root filesystem")
	}
	request, err := newCreate(c, id)
	if err != nil {
		return err
	}
	return exitWith(r.Run(ctx, request, c.Bool("detach"), c.Bool("keep")))
}

// runImage makes a bundle that ends with the container.
func runImage(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) error {
	for _, flag := range []string{"bundle", "detach", "keep"} {
		if c.IsSet(flag) {
			return fmt.Errorf("--%s: not together with --image: make a bundle with image bundle, and run that", flag)
		}
	}
	request, err := newCreate(c, id)
	if err != nil {
		return err
	}
	store, err := openStore(r.Config, false)
	if err != nil {
		return err
	}
	size, err := sizeOf(c)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.Root, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(r.Root, "~image.*")
	if err != nil {
		return err
	}
	ask := image.Request{Dir: dir, Image: c.String("image"), Size: size, Args: commandLine(c)}
	bundle, err := store.Temporary(ctx, ask, archiveFile(c.String("image")))
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	request.Bundle = dir
	code, err := r.Run(ctx, request, false, false)
	return exitWith(code, errors.Join(err, bundle.Close()))
}

// archiveFile is what --image names where that is no name of an image.
func archiveFile(name string) string {
	if strings.HasSuffix(name, ".tar") || filepath.IsAbs(name) {
		return name
	}
	return ""
}
