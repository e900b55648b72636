package engine

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write the golden files")

const program = "/usr/local/bin/vmruntime"

// TestGolden reads testdata/ENGINE-CASE.txtar: "before" is the file as it was,
// "added" and "removed" what becomes of it, or "refused" why nothing does.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { golden(t, file) })
	}
}

func golden(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(filepath.Base(file), "-")
	before := section(archive, "before")
	got := []txtar.File{{Name: "before", Data: []byte(before)}}
	if added, err := add(t, name, before); err != nil {
		got = append(got, txtar.File{Name: "refused", Data: []byte(err.Error() + "\n")})
	} else {
		removed, err := named(t, name).remove(added)
		if err != nil {
			t.Error(err)
		}
		got = append(got, txtar.File{Name: "added", Data: []byte(added)}, txtar.File{Name: "removed", Data: []byte(removed)})
	}
	text := txtar.Format(&txtar.Archive{Comment: archive.Comment, Files: got})
	if *update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Errorf("want -, got +; go test ./engine -update writes it\n%s", diff)
	}
}

// add registers the program and sees to it that doing so again changes nothing.
func add(t *testing.T, name, before string) (string, error) {
	t.Helper()
	e := named(t, name)
	file := filepath.Join(t.TempDir(), "conf.d", "vmruntime.conf")
	added, err := e.add(file, before, program)
	if err != nil {
		return "", err
	}
	if again, err := e.add(file, added, program); err != nil || again != added {
		t.Errorf("again: %v\n%s", err, cmp.Diff(added, again))
	}
	return added, nil
}

func named(t *testing.T, name string) Engine {
	t.Helper()
	for _, e := range Engines() {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("no engine %s", name)
	return Engine{}
}

func section(archive *txtar.Archive, name string) string {
	for _, f := range archive.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// TestMoved: an entry of ours follows the program, with what was added to it.
func TestMoved(t *testing.T) {
	for _, e := range Engines() {
		file := filepath.Join(t.TempDir(), e.Name)
		old, err := e.add(file, "", "/opt/vmruntime")
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := e.add(file, "", program)
		if err != nil {
			t.Fatal(err)
		}
		if moved, err := e.add(file, old, program); err != nil || moved != fresh {
			t.Errorf("%s: %v\n%s", e.Name, err, cmp.Diff(fresh, moved))
		}
	}
}

// TestSpeakJSON: the list of runtimes replaces the one of the files before, so it
// has to begin with it.
func TestSpeakJSON(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := Write(filepath.Join(dir, name), text); err != nil {
			t.Fatal(err)
		}
	}
	write("containers.conf", "[engine]\nruntime_supports_json = [\"first\"]\n")
	write("containers.conf.d/a.conf", "[engine]\nruntime_supports_json = [\"mine\"]\n")
	write("containers.conf.d/z.conf", "[engine]\nruntime_supports_json = [\"later\"]\n")
	text, _, err := named(t, "podman").Add(filepath.Join(dir, "containers.conf.d/vmruntime.conf"), program)
	if err != nil || !strings.Contains(text, `runtime_supports_json = ["mine", "vmruntime"]`) {
		t.Errorf("%v\n%s", err, text)
	}
	write("containers.conf.d/a.conf", "[engine\n")
	if _, _, err := named(t, "podman").Add(filepath.Join(dir, "containers.conf.d/vmruntime.conf"), program); err == nil || !strings.Contains(err.Error(), "a.conf: not valid TOML") {
		t.Errorf("a broken file before it: %v", err)
	}
}

// TestWrite: the file's mode and a link to it stay, and nothing lies beside it.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "etc", "link")
	if err := os.Mkdir(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := Write(link, "new\n"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(target)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if text, err := os.ReadFile(link); string(text) != "new\n" {
		t.Errorf("%q %v", text, err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("%v %v", entries, err)
	}
	if err := Write(target, ""); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(target); !os.IsNotExist(err) {
		t.Errorf("an empty file stays: %v", err)
	}
}
