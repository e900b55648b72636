// Command vmruntime is an OCI runtime with runc's command line that runs every
// container as a libvirt virtual machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"regexp"

	"github.com/urfave/cli/v3"
	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/version"
	"github.com/vmruntime/vmruntime/shim"
)

func main() {
	// Engines leave descriptors open that no child of ours may inherit.
	_ = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if len(os.Args) > 1 && os.Args[1] == shim.ProxyWord {
		shim.ProxyMain()
	}
	os.Exit(run(os.Args))
}

func run(args []string) int {
	// Who interrupts a command gets everything undone.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	setDefaultLog()
	err := newApp().Run(ctx, args)
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	var status exitStatus
	if errors.As(err, &status) {
		if status.err != nil {
			fail(status.err)
		}
		return status.code
	}
	if err != nil {
		fail(err)
		return 1
	}
	return 0
}

// An exitStatus is a command's end that is not simply 0 or 1: the exit status of
// a container's process, or of a failure that has its own.
type exitStatus struct {
	code int
	err  error
}

func (e exitStatus) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

// exitWith is what a command returns that ends as a container's process did.
func exitWith(code int, err error) error {
	if err != nil || code == 0 {
		return err
	}
	return exitStatus{code: code}
}

func newApp() *cli.Command {
	app := &cli.Command{
		Name:    "vmruntime",
		Usage:   "run OCI containers as libvirt virtual machines",
		Version: version.Text(),
		Flags:   globalFlags(),
		Before:  setUp,
		Commands: []*cli.Command{
			createCommand(), startCommand(), stateCommand(), killCommand(), deleteCommand(), listCommand(), imageCommand(),
			runCommand(), execCommand(), psCommand(), pauseCommand(), resumeCommand(), updateCommand(), eventsCommand(), specCommand(),
			featuresCommand(), checkCommand(), installCommand(), guestCommand(), templateCommand(),
			unsupported("checkpoint"), unsupported("restore"),
		},
		Action:                    unknownCommand,
		DisableSliceFlagSeparator: true,
		HideHelpCommand:           true,
	}
	quiet(app)
	return app
}

// notNumber finds flag and value where the library says that it must be a number.
func notNumber(err error) []string {
	text := regexp.MustCompile(`^invalid value (".*") for flag -(\S+): strconv\.Parse(?:Int|Uint|Float): .*invalid syntax$`)
	return text.FindStringSubmatch(err.Error())
}

// quiet leaves it to main to report errors and to exit.
func quiet(c *cli.Command) {
	c.ExitErrHandler = func(context.Context, *cli.Command, error) {}
	c.OnUsageError = func(_ context.Context, c *cli.Command, err error, _ bool) error {
		// The flags of the command are read before setUp is called.
		if _, err := setUp(context.Background(), c.Root()); err != nil {
			return err
		}
		if flag := notNumber(err); flag != nil {
			return fmt.Errorf("%s: --%s: %s is not a number", c.Name, flag[2], flag[1])
		}
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	c.DisableSliceFlagSeparator = true
	for _, sub := range c.Commands {
		quiet(sub)
	}
}

func unknownCommand(ctx context.Context, c *cli.Command) error {
	name := c.Args().First()
	if name == "help" {
		if name = c.Args().Get(1); c.Command(name) != nil {
			return cli.ShowCommandHelp(ctx, c, name)
		}
	}
	if name != "" {
		return fmt.Errorf("unknown command %q: see %s --help", name, c.Name)
	}
	return cli.ShowRootCommandHelp(c)
}
