package runtime

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write what the tests compare with")

// compare compares with a file of the source tree, or writes it with -update.
func compare(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: go test ./runtime -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (go test ./runtime -update):\n%s", path, diff)
	}
}

// TestFieldsAreComplete walks the specification: every field of config.json has
// its place in the table, and the table has no other.
func TestFieldsAreComplete(t *testing.T) {
	var leaves []string
	walk(reflect.TypeFor[specs.Spec](), "", func(name string) { leaves = append(leaves, name) })
	for _, leaf := range leaves {
		if fieldOf(leaf) == nil {
			t.Errorf("%s is not in the table", leaf)
		}
	}
	for _, f := range fields {
		used := false
		for _, leaf := range leaves {
			used = used || covers(f.name, leaf)
		}
		if !used {
			t.Errorf("%s is no field of config.json", f.name)
		}
	}
}

func walk(t reflect.Type, name string, leaf func(string)) {
	switch t.Kind() {
	case reflect.Pointer:
		walk(t.Elem(), name, leaf)
	case reflect.Slice:
		walk(t.Elem(), name+"[]", leaf)
	case reflect.Struct:
		for i := range t.NumField() {
			walk(t.Field(i).Type, strings.TrimPrefix(name+"."+jsonName(t.Field(i)), "."), leaf)
		}
	default:
		leaf(name)
	}
}

// fieldOf is the entry of the longest name that covers a leaf.
func fieldOf(leaf string) *field {
	var best *field
	for i, f := range fields {
		if covers(f.name, leaf) && (best == nil || len(f.name) > len(best.name)) {
			best = &fields[i]
		}
	}
	return best
}

func covers(name, leaf string) bool {
	rest, ok := strings.CutPrefix(leaf, name)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

var testedField = regexp.MustCompile(`\bfield:\s+"([^"]+)"`)

// Every supported field has a row in the table of the integration tests, which has
// no other.
func TestFieldsAreTested(t *testing.T) {
	table, err := os.ReadFile("../integration/fieldtable_test.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, match := range testedField.FindAllSubmatch(table, -1) {
		rows[string(match[1])] = true
	}
	for _, f := range fields {
		if f.support == supported && !rows[f.name] {
			t.Errorf("%s has no test: add it to fieldGroups in integration/fieldtable_test.go", f.name)
		}
		if f.support == supported {
			delete(rows, f.name)
		}
	}
	for row := range rows {
		t.Errorf("%s has a row in integration/fieldtable_test.go, and is no supported field", row)
	}
}

func TestDocumentation(t *testing.T) {
	var page bytes.Buffer
	page.WriteString(`# config.json

What becomes of each field of a bundle's ` + "`config.json`" + ` (runtime-spec ` + specs.Version + `, Linux). A field
stands for those below it that have no line of their own.

* **supported**: done, inside the VM where the remark says nothing else.
* **refused**: ` + "`create`" + ` fails with one sentence that names the field, and leaves nothing behind.
* **ignored**: without effect, for the reason given.

Fields that the specification does not know are ignored, as it demands. This page is made from the table in
` + "`runtime/fields.go`" + ` (` + "`go test ./runtime -update`" + `), which is what the code checks against.

| field | | remark |
|---|---|---|
`)
	for _, f := range fields {
		fmt.Fprintf(&page, "| `%s` | %s | %s |\n", f.name, f.support, strings.ReplaceAll(f.remark, "|", `\|`))
	}
	compare(t, "../docs/config-json.md", page.Bytes())
}
