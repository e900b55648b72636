package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v3"

	"github.com/vmruntime/vmruntime/runtime"
)

// execFailure is the exit status of an exec that did not come about.
const execFailure = 255

func execCommand() *cli.Command {
	return &cli.Command{
		Name:         "exec",
		Usage:        "run a further process in a container",
		ArgsUsage:    "<container-id> <command> [argument...] | --process <file> <container-id>",
		StopOnNthArg: stopAfter(1),
		Flags: append(processFlags(),
			&cli.StringFlag{Name: "process", Aliases: []string{"p"}, Usage: "file with the process object"},
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "do not wait"},
			&cli.StringFlag{Name: "cwd", Usage: "working directory"},
			&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "add to the environment"},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "with a terminal"},
			&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "uid[:gid]"},
			&cli.Int64SliceFlag{Name: "additional-gids", Aliases: []string{"g"}, Usage: "further groups"},
			&cli.StringSliceFlag{Name: "cap", Aliases: []string{"c"}, Usage: "add a capability"},
			&cli.BoolFlag{Name: "no-new-privs", Usage: "set no_new_privs"},
			&cli.BoolFlag{Name: "ignore-paused", Usage: "allow it in a paused container"},
			&cli.StringSliceFlag{Name: "cgroup", Usage: "refused: there is one cgroup per container"},
			&cli.StringFlag{Name: "apparmor", Usage: "refused: the guest's kernel runs no AppArmor"},
			&cli.StringFlag{Name: "process-label", Usage: "refused: the guest's kernel runs no SELinux"}),
		Action: onContainer(unlimited, execProcess),
	}
}

func execProcess(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) error {
	code, err := execIn(ctx, c, r, id)
	if err != nil {
		return exitStatus{code: execFailure, err: fmt.Errorf("exec failed: %w", err)}
	}
	return exitWith(code, nil)
}

func execIn(ctx context.Context, c *cli.Command, r runtime.Runtime, id string) (int, error) {
	if err := refuseFDs(c); err != nil {
		return 0, err
	}
	if err := refuseConfinement(c); err != nil {
		return 0, err
	}
	var signals runtime.Signals
	if !c.Bool("detach") {
		signals = runtime.CatchSignals()
	}
	process, err := processOf(c, r, id)
	if err != nil {
		return 0, err
	}
	if c.IsSet("tty") {
		process.Terminal = c.Bool("tty")
	}
	return r.Exec(ctx, runtime.Exec{
		ID: id, Process: process, Detach: c.Bool("detach"), IgnorePaused: c.Bool("ignore-paused"),
		ConsoleSocket: c.String("console-socket"), PIDFile: c.String("pid-file"),
	}, signals)
}

// refuseConfinement is about what a VM does not have. Labels were asked for by hand:
// those of config.json, which engines write, are ignored with a warning.
func refuseConfinement(c *cli.Command) error {
	if len(c.StringSlice("cgroup")) > 0 {
		return errors.New("--cgroup: a container in a VM has one cgroup: remove it")
	}
	for flag, module := range map[string]string{"apparmor": "AppArmor", "process-label": "SELinux"} {
		if value := c.String(flag); value != "" {
			return fmt.Errorf("--%s %s: the guest's kernel runs no %s, the VM confines the container: remove it", flag, value, module)
		}
	}
	return nil
}

// processOf is what --process says, or the container's own process with what the
// flags change of it.
func processOf(c *cli.Command, r runtime.Runtime, id string) (*specs.Process, error) {
	if path := c.String("process"); path != "" {
		return runtime.LoadProcess(path)
	}
	p, err := r.BaseProcess(id)
	if err != nil {
		return nil, err
	}
	if c.NArg() < 2 {
		return nil, errors.New("exec args cannot be empty")
	}
	p.Args = c.Args().Tail()
	p.Env = append(p.Env, c.StringSlice("env")...)
	p.Terminal = false
	if cwd := c.String("cwd"); cwd != "" {
		p.Cwd = cwd
	}
	if c.IsSet("no-new-privs") {
		p.NoNewPrivileges = c.Bool("no-new-privs")
	}
	addCapabilities(p, c.StringSlice("cap"))
	if err := setGroups(p, c.Int64Slice("additional-gids")); err != nil {
		return nil, err
	}
	return p, setUser(p, c.String("user"))
}

// addCapabilities leaves alone what only inheritable capabilities make possible.
func addCapabilities(p *specs.Process, names []string) {
	if len(names) == 0 {
		return
	}
	if p.Capabilities == nil {
		p.Capabilities = &specs.LinuxCapabilities{}
	}
	sets := p.Capabilities
	sets.Bounding = append(sets.Bounding, names...)
	sets.Effective = append(sets.Effective, names...)
	sets.Permitted = append(sets.Permitted, names...)
	if sets.Inheritable != nil {
		sets.Ambient = append(sets.Ambient, names...)
	}
}

func setGroups(p *specs.Process, gids []int64) error {
	for _, gid := range gids {
		if gid < 0 || gid > 1<<32-1 {
			return fmt.Errorf("additional-gids must be a positive number %d", gid)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(gid))
	}
	return nil
}

func setUser(p *specs.Process, user string) error {
	if user == "" {
		return nil
	}
	uid, gid, hasGID := strings.Cut(user, ":")
	n, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return fmt.Errorf("--user %s: bad uid: it must be a number", user)
	}
	p.User.UID = uint32(n)
	if !hasGID {
		return nil
	}
	if n, err = strconv.ParseUint(gid, 10, 32); err != nil {
		return fmt.Errorf("--user %s: bad gid: it must be a number", user)
	}
	p.User.GID = uint32(n)
	return nil
}
