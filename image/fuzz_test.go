package image

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// FuzzArchive reads whatever comes as an image.
func FuzzArchive(f *testing.F) {
	layer := tarOf(f, file("a", "x"))
	f.Add(saved(f, layer))
	f.Add(tarOf(f, symlink("manifest.json", "index.json"), hardlink("index.json", "manifest.json")))
	f.Add(tarOf(f, file("index.json", `{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"`+string(digest.FromString("{}"))+`"}]}`),
		file("blobs/sha256/"+digest.FromString("{}").Encoded(), "{}")))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		name := filepath.Join(dir, "a")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		a, err := readArchive(fileSource{file, int64(len(text))})
		if err != nil {
			return
		}
		c, err := a.contents()
		if err == nil && len(c.blobs) != len(c.image.RootFS.DiffIDs) {
			t.Errorf("%d layers for %d", len(c.blobs), len(c.image.RootFS.DiffIDs))
		}
	})
}

// FuzzLayer unpacks whatever comes, and looks whether anything is outside.
func FuzzLayer(f *testing.F) {
	needRoot(f)
	f.Add(tarOf(f, dir("a"), file("a/b", "x"), hardlink("c", "a/b"), file("a/.wh..wh..opq", ""), file(".wh.d", "")))
	f.Add(tarOf(f, symlink("a", "../.."), file("a/escaped", "x")))
	f.Add(tarOf(f, symlink("a", "b"), symlink("b", "/"), file("a/escaped", "x")))
	f.Add(tarOf(f, hardlink("a", "../canary"), file("a", "x")))
	f.Fuzz(func(t *testing.T, text []byte) {
		around := t.TempDir()
		canary := filepath.Join(around, "canary")
		tree := filepath.Join(around, "tree")
		if err := os.WriteFile(canary, []byte("alive"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(tree, 0o755); err != nil {
			t.Fatal(err)
		}
		u := &unpacker{tree: tree, budget: &budget{limits: Limits{Size: 1 << 20, Entries: 100}}, links: map[string]string{}}
		var split bytes.Buffer
		_ = u.unpack(context.Background(), bytes.NewReader(text), digest.FromBytes(text), &split)
		if got, err := os.ReadFile(canary); err != nil || string(got) != "alive" {
			t.Errorf("the file outside: %q, %v", got, err)
		}
		if entries, err := os.ReadDir(around); err != nil || len(entries) != 2 {
			t.Errorf("outside: %v, %v", entries, err)
		}
	})
}
