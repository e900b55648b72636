package vm

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.yaml.in/yaml/v3"

	"github.com/vmruntime/vmruntime/protocol"
)

// awkward holds what YAML, JSON and their decoders see differently.
const awkward = "plain 'single' \"double\" \\ # : - {a: b} & * ! | > % @ ` \t\n\r\n \x01\x1b\x7f\u0085\u00a0\u0093\u2028\u2029\ufeff\ufffe\uffff é 漢 😀 <>"

func testSeed() Seed {
	return Seed{
		InstanceID: "8a3c5e0a-6a0c-5c8e-9a53-0242ac120002",
		Container: protocol.Container{
			ID: "c1",
			Spec: &specs.Spec{
				Version: "1.3.0",
				Root:    &specs.Root{Path: protocol.ShareDir + "/c1.rootfs"},
				Process: &specs.Process{
					Args: []string{"/bin/sh", "-c", "echo it's \"$HOME\" # {not: yaml}\n"},
					Env:  []string{"AWKWARD=" + awkward},
					Cwd:  "/",
				},
			},
			Seccomp: []byte{6, 0, 0, 0, 0, 0, 0xff, 0x7f},
		},
	}
}

func TestSeedFilesGolden(t *testing.T) {
	files, err := seedFiles(testSeed())
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range files {
		golden(t, filepath.Join("testdata", "seed", name), string(got))
	}
}

// Every YAML decoder gives back the bytes that went in.
func TestSeedCarriesContainerExactly(t *testing.T) {
	seed := testSeed()
	files, err := seedFiles(seed)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(seed.Container)
	if err != nil {
		t.Fatal(err)
	}
	decoders := map[string]func(*testing.T, []byte) string{"go": decodeGo, "json": decodeJSON, "python": decodePython}
	for name, decode := range decoders {
		t.Run(name, func(t *testing.T) {
			got := decode(t, files["user-data"])
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("content (-want +got):\n%s", diff)
			}
			var back protocol.Container
			if err := json.Unmarshal([]byte(got), &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(seed.Container, back); diff != "" {
				t.Errorf("container (-want +got):\n%s", diff)
			}
		})
	}
}

func decodeGo(t *testing.T, text []byte) string {
	var config struct {
		WriteFiles []struct{ Content string } `yaml:"write_files"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	return config.WriteFiles[0].Content
}

func decodeJSON(t *testing.T, text []byte) string {
	_, body, _ := strings.Cut(string(text), "\n")
	var config userData
	if err := json.Unmarshal([]byte(body), &config); err != nil {
		t.Fatal(err)
	}
	return config.WriteFiles[0].Content
}

// decodePython reads as cloud-init does.
func decodePython(t *testing.T, text []byte) string {
	if err := exec.Command("python3", "-c", "import yaml").Run(); err != nil {
		t.Skip("python3 has no yaml module: install cloud-init")
	}
	cmd := exec.Command("python3", "-c", `import sys, yaml
sys.stdout.buffer.write(yaml.safe_load(sys.stdin.buffer.read())["write_files"][0]["content"].encode())`)
	cmd.Stdin = strings.NewReader(string(text))
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		t.Fatalf("%v: %s", err, exit.Stderr)
	}
	return string(out)
}

func TestSeedPassesCloudInitSchema(t *testing.T) {
	if _, err := exec.LookPath("cloud-init"); err != nil {
		t.Skip("cloud-init is not installed")
	}
	files, err := seedFiles(testSeed())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(path, files["user-data"], 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("cloud-init", "schema", "--config-file", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Valid") {
		t.Errorf("cloud-init schema --config-file: %v\n%s", err, out)
	}
}

func TestWriteSeed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seed.iso")
	seed := testSeed()
	for range 2 { // the second one replaces the first
		if err := WriteSeed(path, seed); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != SeedSize || info.Mode() != 0o600 {
		t.Errorf("size %d, mode %v; want %d, %v", info.Size(), info.Mode(), SeedSize, os.FileMode(0o600))
	}
	if names, _ := filepath.Glob(filepath.Join(dir, ".*")); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
	files, err := seedFiles(seed)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got := output(t, "isoinfo", "-R", "-i", path, "-x", "/"+name)
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s in the ISO (-want +got):\n%s", name, diff)
		}
	}
	if got := output(t, "blkid", "-o", "value", "-s", "LABEL", path); got != "cidata\n" {
		t.Errorf("blkid finds label %q", got)
	}
}

func TestWriteSeedLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seed.iso")
	seed := testSeed()
	seed.Container.Spec.Process.Env = append(seed.Container.Spec.Process.Env, "X="+strings.Repeat("x", SeedSize))
	if err := WriteSeed(path, seed); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() <= SeedSize || info.Size()%seedBlock != 0 {
		t.Errorf("size %d is not above %d and whole sectors", info.Size(), SeedSize)
	}
	files, err := seedFiles(seed)
	if err != nil {
		t.Fatal(err)
	}
	if got := output(t, "isoinfo", "-R", "-i", path, "-x", "/user-data"); got != string(files["user-data"]) {
		t.Error("user-data in the ISO differs")
	}
}

// A full disk is an error and leaves no half of a seed.
func TestWriteSeedDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer func() { _ = syscall.Unmount(dir, 0) }()
	err := WriteSeed(filepath.Join(dir, "seed.iso"), testSeed())
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error is %v, want %v", err, syscall.ENOSPC)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return string(out)
}

func BenchmarkWriteSeed(b *testing.B) {
	path := filepath.Join(b.TempDir(), "seed.iso")
	seed := testSeed()
	for b.Loop() {
		if err := WriteSeed(path, seed); err != nil {
			b.Fatal(err)
		}
	}
}
