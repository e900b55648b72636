package main

import (
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/internal/version"
)

func init() {
	cli.VersionPrinter = func(*cli.Command) { printVersion(os.Stdout) }
}

// printVersion has the form that docker reads of runc.
func printVersion(w io.Writer) {
	fmt.Fprintln(w, "vmruntime version", version.Text())
	if c := version.Commit(); c != "" {
		fmt.Fprintln(w, "commit:", c)
	}
	fmt.Fprintln(w, "spec:", specs.Version)
}
