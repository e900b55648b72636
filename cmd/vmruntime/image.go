package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/image"
	"github.com/vmruntime/vmruntime/rootdisk"
	"github.com/vmruntime/vmruntime/runtime"
)

func imageCommand() *cli.Command {
	return &cli.Command{
		Name:  "image",
		Usage: "keep container images, and make bundles of them",
		Commands: []*cli.Command{
			imagePullCommand(), imageImportCommand(),
			{Name: "list", Usage: "list the images that have names", Action: withStore(0, 0, listImages), Flags: []cli.Flag{
				&cli.StringFlag{Name: "format", Aliases: []string{"f"}, Value: "table", Usage: "table or json"},
			}},
			{Name: "inspect", Usage: "print the configuration and layers of an image", ArgsUsage: "NAME", Action: withStore(1, 1, inspectImage)},
			{Name: "remove", Usage: "forget the name of an image; image gc removes what nobody names", ArgsUsage: "NAME", Action: withStore(1, 1, removeImage)},
			imageCollectCommand(), imageBundleCommand(),
			{Name: "unbundle", Usage: "unmount a bundle and remove what image bundle has made", ArgsUsage: "DIR", Action: withStore(1, 1, unbundle), Flags: []cli.Flag{
				&cli.BoolFlag{Name: "keep", Usage: "unmount only: image bundle mounts it again"},
			}},
			imageCommitCommand(), imageDiskCommand(),
		},
	}
}

func imagePullCommand() *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "take an image from a docker-save or OCI-layout tar on a server: only what is missing is transferred",
		ArgsUsage: "URL",
		Flags: []cli.Flag{nameFlag(), devicesFlag(),
			&cli.StringFlag{Name: "header-file", Usage: "`FILE` with headers of the requests, such as X-Auth-Token: SECRET, one per line"}},
		Action: withStore(1, 1, pullImage),
	}
}

func pullImage(ctx context.Context, c *cli.Command, s *image.Store) error {
	var header http.Header
	if file := c.String("header-file"); file != "" {
		var err error
		if header, err = image.ReadHeader(file); err != nil {
			return fmt.Errorf("--header-file: %w", err)
		}
	}
	i, err := s.Pull(ctx, c.String("name"), c.Args().First(), header)
	if err != nil {
		return err
	}
	return printJSON(c, summary{Name: c.String("name"), ID: i.ID, Layers: i.Layers, Transferred: i.Transferred, Size: i.Size})
}

func imageCollectCommand() *cli.Command {
	return &cli.Command{
		Name:   "gc",
		Usage:  "remove images and layers that nobody names or mounts, and what was left half done",
		Flags:  []cli.Flag{&cli.DurationFlag{Name: "older-than", Usage: "keep what is younger than `DURATION`, such as 24h"}},
		Action: withStore(0, 0, collectImages),
	}
}

// A collected tells what gc has removed.
type collected struct {
	image.Freed
	// Disks are of root file systems that are gone.
	Disks rootdisk.Freed `json:"disks"`
}

func collectImages(ctx context.Context, c *cli.Command, s *image.Store) error {
	r, err := configured(c)
	if err != nil {
		return err
	}
	var freed collected
	var failed [2]error
	freed.Freed, failed[0] = s.Collect(ctx, c.Duration("older-than"))
	// Programs iterate over them: a list, also where it is empty.
	freed.Images, freed.Layers = append([]digest.Digest{}, freed.Images...), append([]digest.Digest{}, freed.Layers...)
	freed.Disks, failed[1] = rootdisk.Open(r.Config.RootfsStore).Collect(ctx)
	return errors.Join(printJSON(c, freed), failed[0], failed[1])
}

func imageCommitCommand() *cli.Command {
	return &cli.Command{
		Name:      "commit",
		Usage:     "write a bundle's image, with what its container has written as one more layer, as a docker-save tar",
		ArgsUsage: "DIR",
		Flags:     []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Required: true, Usage: "the tar `FILE`"}},
		Action: withStore(1, 1, func(ctx context.Context, c *cli.Command, s *image.Store) error {
			dir, err := filepath.Abs(c.Args().First())
			if err != nil {
				return err
			}
			return s.Commit(ctx, dir, c.String("output"))
		}),
	}
}

func imageImportCommand() *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "take an image from a docker-save or OCI-layout tar",
		ArgsUsage: "FILE",
		Flags:     []cli.Flag{nameFlag(), devicesFlag()},
		Action: withStore(1, 1, func(ctx context.Context, c *cli.Command, s *image.Store) error {
			i, err := s.Import(ctx, c.String("name"), c.Args().First())
			if err != nil {
				return err
			}
			return printJSON(c, summary{Name: c.String("name"), ID: i.ID, Layers: i.Layers, Size: i.Size})
		}),
	}
}

func imageBundleCommand() *cli.Command {
	return &cli.Command{
		Name:         "bundle",
		Usage:        "make an OCI bundle of an image, or mount one again",
		ArgsUsage:    "DIR [argument...]",
		StopOnNthArg: stopAfter(1),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "image", Required: true, Usage: "`NAME` of the image"},
			sizeFlag(),
		},
		Action: withStore(1, unlimited, func(ctx context.Context, c *cli.Command, s *image.Store) error {
			dir, err := filepath.Abs(c.Args().First())
			if err != nil {
				return err
			}
			size, err := sizeOf(c)
			if err != nil {
				return err
			}
			return s.Bundle(ctx, image.Request{Dir: dir, Image: c.String("image"), Size: size, Args: commandLine(c)})
		}),
	}
}

func nameFlag() cli.Flag {
	return &cli.StringFlag{Name: "name", Required: true, Usage: "`NAME` to give the image; another image loses it"}
}

func devicesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "devices", Usage: "accept device nodes in the image"}
}

func sizeFlag() cli.Flag {
	return &cli.StringFlag{Name: "size", Usage: "most `BYTES` that the container may write, such as 10G"}
}

// sizeOf is --size in bytes; 0 is no limit.
func sizeOf(c *cli.Command) (int64, error) {
	if !c.IsSet("size") {
		return 0, nil
	}
	size, err := units.RAMInBytes(c.String("size"))
	if err != nil {
		return 0, fmt.Errorf("--size: %q is not a number of bytes, such as 10G", c.String("size"))
	}
	if size <= 0 {
		return 0, errors.New("--size: must be above 0")
	}
	return size, nil
}

// commandLine is what follows the first argument.
func commandLine(c *cli.Command) []string {
	args := c.Args().Tail()
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	return args
}

// withStore is the action of a command on the images.
func withStore(least, most int, do func(context.Context, *cli.Command, *image.Store) error) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		if err := checkArgs(c, least, most); err != nil {
			return err
		}
		r, err := configured(c)
		if err != nil {
			return err
		}
		s, err := openStore(r.Config, c.Bool("devices"))
		if err != nil {
			return err
		}
		return do(ctx, c, s)
	}
}

func openStore(config runtime.Config, devices bool) (*image.Store, error) {
	limits := image.DefaultLimits
	limits.Devices = devices
	var err error
	if limits.Size, err = units.RAMInBytes(config.ImageLimit); err != nil || limits.Size <= 0 {
		return nil, fmt.Errorf("config.toml: image_limit: %q is not a number of bytes, such as 8GiB", config.ImageLimit)
	}
	return image.Open(config.ImageStore, limits)
}

// A summary is what import and pull print.
type summary struct {
	Name   string          `json:"name"`
	ID     digest.Digest   `json:"id"`
	Layers []digest.Digest `json:"layers"`
	// Transferred and Size are bytes.
	Transferred int64 `json:"transferred"`
	Size        int64 `json:"size"`
}

func printJSON(c *cli.Command, v any) error { return json.NewEncoder(c.Root().Writer).Encode(v) }

// A listed image is one row of image list.
type listed struct {
	image.Name
	Layers []digest.Digest `json:"layers"`
	Size   int64           `json:"size"`
}

func listImages(_ context.Context, c *cli.Command, s *image.Store) error {
	names, err := s.Names()
	if err != nil {
		return err
	}
	rows := []listed{}
	for _, n := range names {
		i, err := s.Find(n.Name)
		if errors.Is(err, image.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		rows = append(rows, listed{n, i.Layers, i.Size})
	}
	switch c.String("format") {
	case "json":
		return printJSON(c, rows)
	case "table":
		return printImages(c.Root().Writer, rows)
	}
	return fmt.Errorf("--format: must be table or json, not %q", c.String("format"))
}

func printImages(w io.Writer, rows []listed) error {
	table := tabwriter.NewWriter(w, 12, 1, 3, ' ', 0)
	fmt.Fprintln(table, "NAME\tID\tLAYERS\tSIZE\tGIVEN")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%.12s\t%d\t%s\t%s\n", r.Name.Name, r.ID.Encoded(), len(r.Layers), units.BytesSize(float64(r.Size)), r.Given.Format(time.RFC3339))
	}
	return table.Flush()
}

func inspectImage(_ context.Context, c *cli.Command, s *image.Store) error {
	i, err := s.Find(c.Args().First())
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(c.Root().Writer)
	encoder.SetIndent("", "  ")
	return encoder.Encode(i)
}

func removeImage(_ context.Context, c *cli.Command, s *image.Store) error {
	return s.Remove(c.Args().First())
}

func unbundle(ctx context.Context, c *cli.Command, s *image.Store) error {
	dir, err := filepath.Abs(c.Args().First())
	if err != nil {
		return err
	}
	r, err := newRuntime(c)
	if err != nil {
		return err
	}
	if err := expectUnused(ctx, r, dir); err != nil {
		return err
	}
	return s.Unbundle(ctx, dir, c.Bool("keep"))
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// expectUnused refuses the bundle of a container that has not ended: what it has
// written would be gone under its feet. Those of other roots are not known here.
func expectUnused(ctx context.Context, r runtime.Runtime, dir string) error {
	all, err := r.List(ctx)
	if err != nil {
		return err
	}
	for _, state := range all {
		if state.Status != specs.StateStopped && sameFile(state.Bundle, dir) {
			return fmt.Errorf("bundle %s: container %s is %s: vmruntime delete --force %s first", dir, state.ID, state.Status, state.ID)
		}
	}
	return nil
}
