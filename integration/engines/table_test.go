package engines

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vmruntime/vmruntime/internal/testutil"
)

var update = flag.Bool("update", false, "write the tables of README.md")

// A table is what a run has found out. Its columns are filled side by side.
type table struct {
	rows    []string
	columns []string

	mu    sync.Mutex
	cells map[[2]string]cell
}

// A cell is how a feature does in one column.
type cell struct {
	// done is that the test passed: of the feature, or of its refusal.
	done bool
	// excepted features are not there, and why says so.
	excepted bool
	why      string
}

func newTable(features []feature, columns ...string) *table {
	t := &table{columns: columns, cells: map[[2]string]cell{}}
	for _, f := range features {
		t.rows = append(t.rows, f.name)
	}
	return t
}

func (t *table) enter(row, column string, c cell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cells[[2]string{row, column}] = c
}

// compare holds a whole run against the README, or writes it there. What failed
// has been reported already.
func (t *table) compare(tb testing.TB, name string) {
	tb.Helper()
	if len(t.cells) < len(t.rows)*len(t.columns) {
		tb.Logf("%d of %d cells were tried: not compared with README.md", len(t.cells), len(t.rows)*len(t.columns))
		return
	}
	readme := filepath.Join(checkout(), "README.md")
	before, old, after := between(tb, testutil.ReadFile(tb, readme), name)
	text := t.markdown()
	switch {
	case text == old:
	case *update:
		if err := os.WriteFile(readme, []byte(before+text+after), 0o644); err != nil {
			tb.Fatal(err)
		}
	default:
		tb.Errorf("README.md says otherwise (make engines writes it):\n%s", cmp.Diff(strings.Split(old, "\n"), strings.Split(text, "\n")))
	}
}

// between cuts a text at the two marks around a table.
func between(tb testing.TB, text, name string) (before, inner, after string) {
	tb.Helper()
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
	before, rest, found := strings.Cut(text, begin)
	inner, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		tb.Fatalf("README.md lacks %q or %q", begin, end)
	}
	return before + begin, inner, end + after
}

func (t *table) markdown() string {
	var b strings.Builder
	var notes []string
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.ReplaceAll(strings.Join(t.columns, " | "), "/", " + "), strings.Repeat("---|", len(t.columns)))
	for _, row := range t.rows {
		fmt.Fprintf(&b, "| %s |", row)
		for _, column := range t.columns {
			c := t.cells[[2]string{row, column}]
			fmt.Fprintf(&b, " %s |", c.markdown(&notes))
		}
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	for i, note := range notes {
		fmt.Fprintf(&b, "%d. %s\n", i+1, note)
	}
	return b.String()
}

func (c cell) markdown(notes *[]string) string {
	switch {
	case !c.done:
		return "**fails**"
	case !c.excepted:
		return "yes"
	}
	i := slices.Index(*notes, c.why)
	if i < 0 {
		i = len(*notes)
		*notes = append(*notes, c.why)
	}
	return fmt.Sprintf("no [%d]", i+1)
}
