package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// enginesWord has the program be the one that measures beside engines.
	enginesWord = "engines"
	// inEngines is there while hack/engines.sh runs.
	inEngines = "/run/engines"
)

// engines are those that run containers, and how they are told the runtime.
var engines = []struct {
	name string
	line func(runtime string) []string
	aim  Aim
}{
	{"docker", func(runtime string) []string { return []string{"docker", "run", "--runtime", runtime} }, Aim{AtMost: 4}},
	{"podman", func(runtime string) []string { return []string{"podman", "--runtime", runtime, "run"} }, Aim{}},
}

// measureEngines measures containers of true that engines run, in hack/engines.sh:
// this program again, under another word.
func measureEngines(ctx context.Context, l *lab) ([]Figure, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	// /run is another one there.
	dir, err := os.MkdirTemp(l.share(), "engines-")
	if err != nil {
		return nil, err
	}
	l.later(func() error { return os.RemoveAll(dir) })
	path := filepath.Join(dir, "figures.json")
	cmd := exec.CommandContext(ctx, filepath.Join(l.checkout, "hack/engines.sh"), self, enginesWord, strconv.Itoa(l.rounds), path)
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.checkout, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("hack/engines.sh: %w", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var figures []Figure
	if err := json.Unmarshal(text, &figures); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return figures, nil
}

// besideEngines is that program's main function: it writes the figures to path.
func besideEngines(rounds, path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if _, err := os.Stat(inEngines); err != nil {
		return fmt.Errorf("there are no engines: %w", err)
	}
	turns, err := strconv.Atoi(rounds)
	if err != nil {
		return err
	}
	if err := prepareTemplate(ctx); err != nil {
		return err
	}
	contenders := []contender{throughEngines("runc"), throughEngines("vmruntime")}
	if err := warmUp(ctx, contenders); err != nil {
		return err
	}
	figures, err := takeTurns(ctx, turns, engineFigures(), contenders)
	if err != nil {
		return err
	}
	text, err := json.Marshal(figures)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// prepareTemplate is for every container: /etc is not the machine's here.
func prepareTemplate(ctx context.Context) error {
	const dir = "/etc/vmruntime"
	err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/config.toml", []byte("templates = \"built\"\n"), 0o600))
	if err != nil {
		return err
	}
	_, _, err = timed(exec.CommandContext(ctx, "bin/vmruntime", "template", "build"))
	return err
}

func engineFigures() []Figure {
	var figures []Figure
	for _, e := range engines {
		figures = append(figures, Figure{Name: e.name, Unit: "s", Ratios: []Ratio{{"vmruntime", "runc", e.aim}}})
	}
	return figures
}

// throughEngines has each engine run a container with the runtime.
func throughEngines(runtime string) contender {
	return contender{runtime, func(ctx context.Context) ([]float64, error) {
		var values []float64
		for _, e := range engines {
			took, err := runThrough(ctx, e.line(runtime))
			if err != nil {
				return nil, err
			}
			values = append(values, took.Seconds())
		}
		return values, nil
	}}
}

func runThrough(ctx context.Context, line []string) (time.Duration, error) {
	_, took, err := timed(exec.CommandContext(ctx, line[0], append(line[1:], "--rm", "busybox", "true")...))
	return took, err
}
