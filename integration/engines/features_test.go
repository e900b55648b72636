package engines

import (
	"slices"
	"strings"
	"testing"
)

// A feature is one row of the README's table.
type feature struct {
	name string
	try  func(t *testing.T, e engine)
	// except are the columns where it is not as the row says, by engine and runtime,
	// such as docker/runc, or by one of the two.
	except map[string]exception
}

// An exception says why a feature is not there.
type exception struct {
	// why is for the reader of the table.
	why string
	// line is what is refused then, options, image and command, and refusal how the
	// engine's error reads. Without them nothing is tried.
	line    []string
	refusal string
	// verb is the engine's command for line, and run if it is empty.
	verb string
}

// theBox stands for the shared container's name in such a line.
const theBox = "THE-BOX"

func (f feature) exceptionOf(e engine) (exception, bool) {
	for _, key := range []string{e.column(), e.name, e.runtime} {
		if x, ok := f.except[key]; ok {
			return x, true
		}
	}
	return exception{}, false
}

// column is where the table has the engine with this runtime.
func (e engine) column() string { return e.name + "/" + e.runtime }

func clientRows() []feature {
	return slices.Concat(networkRows, stdioRows, execRows, fileRows, processRows, limitRows, lifeRows)
}

// TestFeatures runs what people do with docker and podman, with runc beside it.
func TestFeatures(t *testing.T) {
	rows := clientRows()
	table := newTable(rows, "docker/runc", "docker/vmruntime", "podman/runc", "podman/vmruntime")
	t.Run("with", func(t *testing.T) {
		for _, name := range []string{"docker", "podman"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for _, runtime := range []string{"runc", "vmruntime"} {
					t.Run(runtime, func(t *testing.T) {
						e := engine{name: name, runtime: runtime}
						e.box = e.idle(t)
						e.logsHave(t, e.box, "ready")
						column(t, e, rows, table)
					})
				}
			})
		}
	})
	table.compare(t, "features")
}

// column tries all rows with one engine and runtime.
func column(t *testing.T, e engine, rows []feature, table *table) {
	for _, f := range rows {
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
			x, excepted := f.exceptionOf(e)
			defer func() { table.enter(f.name, e.column(), cell{done: !t.Failed(), excepted: excepted, why: x.why}) }()
			switch {
			case !excepted:
				f.try(t, e)
			case x.refusal != "":
				e.refuses(t, x)
			}
		})
	}
}

// refuses tries what has to fail with one sentence.
func (e engine) refuses(t *testing.T, x exception) {
	line := slices.Clone(x.line)
	for i := range line {
		line[i] = strings.ReplaceAll(line[i], theBox, e.box)
	}
	var r result
	if x.verb == "" {
		r = e.try(t, line...)
	} else {
		r = e.call(t, append(strings.Fields(x.verb), line...)...)
	}
	if r.Code == 0 {
		t.Errorf("it succeeded: %s", r)
	}
	contains(t, "the error", r.Err, x.refusal)
}
