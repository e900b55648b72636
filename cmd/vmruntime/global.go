package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/internal/trace"
	"github.com/vmruntime/vmruntime/internal/version"
	"github.com/vmruntime/vmruntime/runtime"
	"github.com/vmruntime/vmruntime/vm/guest"
)

const defaultRoot = "/run/vmruntime"

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "root", Value: defaultRoot, Usage: "directory of the containers' state, on a tmpfs", Local: true},
		&cli.StringFlag{Name: "log", Usage: "file that errors are appended to", Local: true},
		&cli.StringFlag{Name: "log-format", Value: "text", Usage: "text or json", Local: true},
		&cli.BoolFlag{Name: "debug", Usage: "log more", Local: true},
		&cli.StringFlag{Name: "config", Value: runtime.DefaultConfig, Usage: "configuration of the runtime", Sources: cli.EnvVars("VMRUNTIME_CONFIG"), Local: true},
		&cli.BoolFlag{Name: "systemd-cgroup", Usage: "have systemd make cgroups: cgroupsPath is slice:prefix:name", Local: true},
		&cli.StringFlag{Name: "rootless", Usage: "accepted for compatibility with runc", Local: true},
		&cli.StringFlag{Name: "criu", Usage: "accepted for compatibility with runc", Local: true},
	}
}

// setUp is for all commands.
func setUp(ctx context.Context, c *cli.Command) (context.Context, error) {
	return ctx, setLog(c.String("log"), c.String("log-format"), c.Bool("debug"))
}

// newRuntime is what a command on containers works with. It has no configuration:
// a mistake there must keep nobody from looking after what runs.
func newRuntime(c *cli.Command) (runtime.Runtime, error) {
	root, err := filepath.Abs(c.String("root"))
	if err != nil {
		return runtime.Runtime{}, fmt.Errorf("--root: %w", err)
	}
	if root == "/" {
		return runtime.Runtime{}, errors.New("--root must not be /")
	}
	exe, err := os.Executable()
	if err != nil {
		return runtime.Runtime{}, fmt.Errorf("this program: %w", err)
	}
	return runtime.Runtime{Root: root, Exe: exe, Build: version.Build(), Shim: guest.DefaultShim(exe)}, nil
}

// configured is what a command works with that makes machines.
func configured(c *cli.Command) (runtime.Runtime, error) {
	r, err := newRuntime(c)
	if err != nil {
		return runtime.Runtime{}, err
	}
	r.SystemdCgroup = c.Bool("systemd-cgroup")
	r.Config, err = runtime.LoadConfig(c.String("config"), r.Exe)
	return r, err
}

// An action is what a command does on a container.
type action func(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) error

// onContainer is the action of a command whose first argument is an id and that
// takes most more.
func onContainer(most int, do action) cli.ActionFunc { return withID(newRuntime, most, do) }

// onNewContainer is the same for a command that makes the container.
func onNewContainer(do action) cli.ActionFunc { return withID(configured, 0, do) }

func withID(prepare func(*cli.Command) (runtime.Runtime, error), most int, do action) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		if err := checkArgs(c, 1, most+1); err != nil {
			return err
		}
		r, err := prepare(c)
		if err != nil {
			return err
		}
		ctx, recorder := trace.With(ctx, c.Root().Name)
		err = do(ctx, c, r, c.Args().First())
		if c.Bool("timing") {
			err = errors.Join(err, recorder.WriteTable(os.Stderr))
		}
		return err
	}
}

// unlimited is any number of arguments.
const unlimited = 1 << 20

func checkArgs(c *cli.Command, least, most int) error {
	n := c.NArg()
	switch {
	case least == most && n != least:
		return fmt.Errorf("%q requires exactly %d argument(s)", c.Name, least)
	case n < least:
		return fmt.Errorf("%q requires a minimum of %d argument(s)", c.Name, least)
	case n > most:
		return fmt.Errorf("%q requires a maximum of %d argument(s)", c.Name, most)
	}
	return nil
}

// accepted are flags of runc that mean nothing for a VM.
func accepted(names ...string) []cli.Flag {
	var flags []cli.Flag
	for _, name := range names {
		flags = append(flags, &cli.BoolFlag{Name: name, Usage: "accepted for compatibility with runc", Hidden: true})
	}
	return flags
}

// stopAfter stops the parsing of flags after n arguments: the rest is somebody
// else's command line.
func stopAfter(n int) *int { return &n }

// refuseFDs is about what a caller of runc may hand over.
func refuseFDs(c *cli.Command) error {
	if n := c.Int("preserve-fds"); n > 0 {
		return fmt.Errorf("--preserve-fds %d: descriptors of the host cannot cross into a VM: remove it", n)
	}
	if c.String("pidfd-socket") != "" {
		return errors.New("--pidfd-socket: not supported yet: remove it")
	}
	return nil
}

func bundleFlag() cli.Flag {
	return &cli.StringFlag{Name: "bundle", Aliases: []string{"b"}, Usage: "directory of the bundle (default: the current one)"}
}

// createFlags are those of create and run.
func createFlags() []cli.Flag {
	return append(append(accepted("no-pivot", "no-new-keyring", "no-subreaper"), bundleFlag(), timingFlag()), processFlags()...)
}

// processFlags are those of every command that starts a process.
func processFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "console-socket", Usage: "socket that receives the master of the terminal"},
		&cli.StringFlag{Name: "pid-file", Usage: "file that receives the pid"},
		&cli.IntFlag{Name: "preserve-fds", Usage: "refused: descriptors cannot cross into a VM"},
		&cli.StringFlag{Name: "pidfd-socket", Hidden: true},
	}
}

// timingFlag is for the commands that people wait for.
func timingFlag() cli.Flag {
	return &cli.BoolFlag{Name: "timing", Usage: "tell on stderr how long each phase took"}
}

// newCreate is what create and run have in common.
func newCreate(c *cli.Command, id string) (runtime.Create, error) {
	return runtime.Create{
		ID: id, Bundle: c.String("bundle"), ConsoleSocket: c.String("console-socket"), PIDFile: c.String("pid-file"),
	}, refuseFDs(c)
}
