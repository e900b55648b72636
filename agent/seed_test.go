package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodSeed = `#cloud-config
{"write_files": [{"path": "/run/a/b", "permissions": "0640", "content": "x\n"},
                 {"path": "/run/c", "encoding": "b64", "content": "eQo="}],
 "runcmd": [["mkdir", "-p", "/run/d"]], "other": 1}
`

func TestSeed(t *testing.T) {
	s, err := parseSeed([]byte(goodSeed))
	must(t, err)
	for path, want := range map[string]string{"/run/a/b": "x\n", "/run/c": "y\n"} {
		if text, err := s.file(path); err != nil || string(text) != want {
			t.Errorf("%s is %q, %v", path, text, err)
		}
	}
	if _, err := s.run(); err == nil || !strings.Contains(err.Error(), "mkdir") && !strings.Contains(err.Error(), "no agent") {
		t.Errorf("a seed without an agent: %v", err)
	}
	_ = os.Remove("/run/d")
}

func TestSeedErrors(t *testing.T) {
	for _, text := range []string{"", "#cloud-config", "{}", "#!/bin/sh\n{}", "#cloud-config\nruncmd: []\n", "#cloud-config\n{\"runcmd\": [\"ls\"]}", "#cloud-config\n{} x"} {
		if _, err := parseSeed([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
	for _, file := range []seedFile{{Path: "x", Encoding: "gz"}, {Path: "x", Encoding: "b64", Content: "?"}, {Path: "other"}} {
		if _, err := (seed{WriteFiles: []seedFile{file}}).file("x"); err == nil {
			t.Errorf("%+v is read", file)
		}
	}
	for _, argv := range [][]string{{}, {"reboot"}, {"mount"}, {"mount", "-t"}, {"mount", "-t", "9p", "x"}} {
		if err := runCommand(argv); err == nil {
			t.Errorf("%q is run", argv)
		}
	}
}

func TestSeedLabel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "iso")
	image := make([]byte, isoLabel+32)
	copy(image[isoLabel:], "CIDATA                          ")
	must(t, os.WriteFile(file, image, 0o600))
	if !hasLabel(file, "cidata") || hasLabel(file, "other") || hasLabel(file+"x", "cidata") {
		t.Error("the label is not told")
	}
}

func FuzzSeed(f *testing.F) {
	f.Add([]byte(goodSeed))
	f.Add([]byte("#cloud-config\n{\"runcmd\":[[]]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseSeed(text)
		if err != nil {
			return
		}
		for _, file := range s.WriteFiles {
			_, _ = file.decode()
		}
	})
}
