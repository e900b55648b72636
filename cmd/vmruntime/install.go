package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/engine"
)

func installCommand() *cli.Command {
	c := &cli.Command{Name: "install", Usage: "register the runtime with a container engine"}
	for _, e := range engine.Engines() {
		c.Commands = append(c.Commands, installEngine(e))
	}
	return c
}

func installEngine(e engine.Engine) *cli.Command {
	return &cli.Command{
		Name:  e.Name,
		Usage: "edit " + e.Usage,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Value: e.File, Usage: "the engine's configuration `FILE`"},
			&cli.BoolFlag{Name: "print", Usage: "print the file as it would be, and write nothing"},
			&cli.BoolFlag{Name: "remove", Usage: "take the runtime out again"},
		},
		Action: func(_ context.Context, c *cli.Command) error { return install(c, e) },
	}
}

func install(c *cli.Command, e engine.Engine) error {
	if err := checkArgs(c, 0, 0); err != nil {
		return err
	}
	file, err := filepath.Abs(c.String("config"))
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	text, changed, err := edited(c, e, file)
	if err != nil {
		return err
	}
	out := c.Root().Writer
	switch {
	case c.Bool("print"):
		fmt.Fprint(out, text)
		return nil
	case !changed:
		fmt.Fprintln(out, file+": nothing to change")
		return nil
	}
	if err := engine.Write(file, text); err != nil {
		return err
	}
	fmt.Fprintln(out, file+": written")
	if e.Reload != "" {
		fmt.Fprintln(out, "next:   "+e.Reload)
	}
	if !c.Bool("remove") {
		fmt.Fprintln(out, "use it: "+e.Use)
	}
	return nil
}

func edited(c *cli.Command, e engine.Engine, file string) (text string, changed bool, err error) {
	if c.Bool("remove") {
		return e.Remove(file)
	}
	program, err := os.Executable()
	if err != nil {
		return "", false, fmt.Errorf("this program: %w", err)
	}
	return e.Add(file, program)
}
