// Command bench measures vmruntime beside bare QEMU, libvirt, runc and crun, alone
// and beside engines, and publishes what it finds.
//
//	bench [-rows NAME,...] [-rounds N] -out DIR    measures, then as with -page
//	bench -page -out DIR                           draws what DIR has been measured
//
// It runs below a subreaper that reaps at once, as engines do: see the Makefile.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	goruntime "runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/internal/version"
)

// A kind is a row that can be measured.
type kind struct {
	name    string
	title   string
	about   string
	picture picture
	measure func(ctx context.Context, l *lab) ([]Figure, error)
}

// The machines that dieWithUs ends go by the thread that starts them.
func init() { goruntime.LockOSThread() }

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == libvirtWord:
		exitWith(libvirtClone(os.Args[2]))
	case len(os.Args) == 4 && os.Args[1] == enginesWord:
		exitWith(besideEngines(os.Args[2], os.Args[3]))
	}
	rows := flag.String("rows", "", "comma-separated `names` of rows (default: all)")
	rounds := flag.Int("rounds", 5, "how often everything is measured")
	out := flag.String("out", "", "`directory` of the data, the pictures and the page")
	only := flag.Bool("page", false, "measure nothing")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if !*only {
		if err := bench(*rows, *rounds, *out); err != nil {
			exitWith(err)
		}
	}
	exitWith(publish(*out))
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// bench measures and keeps the report.
func bench(names string, rounds int, out string) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	checkout, err := os.Getwd()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	report := Report{Date: time.Now().UTC(), Commit: version.Commit(), Rounds: rounds}
	if report.Machine, err = thisMachine(ctx, checkout+"/build/guest"); err != nil {
		return err
	}
	for _, k := range chosen {
		begin := time.Now()
		progress("== %s", k.name)
		figures, err := measureRow(ctx, k, checkout, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		progress("== %s took %.0f s", k.name, time.Since(begin).Seconds())
		report.Rows = append(report.Rows, Row{Name: k.name, Figures: figures})
	}
	return report.write(out)
}

// measureRow leaves nothing of the row behind.
func measureRow(ctx context.Context, k kind, checkout string, rounds int) (figures []Figure, err error) {
	l, err := newLab(checkout, rounds)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	return k.measure(ctx, l)
}

// choose finds rows by their names.
func choose(names string) ([]kind, error) {
	if names == "" {
		return kinds, nil
	}
	var chosen []kind
	for name := range strings.SplitSeq(names, ",") {
		k, err := kindOf(name)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, k)
	}
	return chosen, nil
}

func kindOf(name string) (kind, error) {
	var known []string
	for _, k := range kinds {
		if k.name == name {
			return k, nil
		}
		known = append(known, k.name)
	}
	return kind{}, fmt.Errorf("there is no row %q: choose from %s", name, strings.Join(known, ", "))
}
