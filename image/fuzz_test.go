package image

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// What is fuzzed is what is in the tars: bytes that change within one end at its
// checksums, which archive/tar has fuzzers of its own for.

// FuzzArchive reads manifests and indexes as they come, of an archive with one layer.
func FuzzArchive(f *testing.F) {
	layer := tarOf(f, file("a", "x"))
	config := configOf(f, layer)
	name := digest.FromBytes(layer).Encoded()
	f.Add(`[{"Config":"config.json","RepoTags":["x:1"],"Layers":["`+name+`"]}]`, "", config)
	f.Add(`[{"Config":"../config.json","Layers":["manifest.json","/","index.json"]}]`, "", "{}")
	f.Add("", `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:`+name+`"}]}`, config)
	f.Add("", `{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"`+string(digest.FromString("{}"))+`"}]}`, "{}")
	f.Fuzz(func(t *testing.T, manifest, index, config string) {
		entries := []entry{file(name, string(layer)), file("config.json", config),
			file("blobs/sha256/"+name, string(layer)), file("blobs/sha256/"+digest.FromString(config).Encoded(), config)}
		for name, text := range map[string]string{"manifest.json": manifest, "index.json": index} {
			if text != "" {
				entries = append(entries, file(name, text))
			}
		}
		text := tarOf(t, entries...)
		a, err := readArchive(memorySource{bytes.NewReader(text)})
		if err != nil {
			return
		}
		c, err := a.contents()
		if err == nil && len(c.blobs) != len(c.image.RootFS.DiffIDs) {
			t.Errorf("%d layers for %d", len(c.blobs), len(c.image.RootFS.DiffIDs))
		}
	})
}

type memorySource struct{ *bytes.Reader }

func (m memorySource) Stream(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(m, off, n)), nil
}

// FuzzLayer unpacks entries in any order, and looks whether anything is outside. Of
// an entry three bytes tell the type, the path, and where it links to.
func FuzzLayer(f *testing.F) {
	needRoot(f)
	const file, dir, symlink, hardlink = 0, 1, 2, 3
	// a/b, a second name of it, a whiteout, an opaque directory.
	f.Add([]byte{dir, 0, 0, file, 8, 0, hardlink, 1, 8, file, 4, 0, file, 5 + 3*49, 0})
	// A link out, and a file below it; the same in a chain; hard links to what is outside.
	f.Add([]byte{symlink, 0, 2, file, 3 + 3*49, 0})
	f.Add([]byte{symlink, 0, 1, symlink, 1, 2, file, 3 + 3*49, 0})
	f.Add([]byte{hardlink, 0, 3 + 2*49, file, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		around := t.TempDir()
		canary := filepath.Join(around, "canary")
		tree := filepath.Join(around, "tree")
		if err := os.WriteFile(canary, []byte("alive"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(tree, 0o755); err != nil {
			t.Fatal(err)
		}
		text := tarOf(t, scripted(script)...)
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

func scripted(script []byte) []entry {
	types := []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo}
	var entries []entry
	for ; len(script) >= 3; script = script[3:] {
		e := entry{tar.Header{Typeflag: types[int(script[0])%len(types)], Name: scriptedPath(script[1]), Mode: 0o755}, ""}
		switch e.Typeflag {
		case tar.TypeReg:
			e.text = "dead"
		case tar.TypeSymlink, tar.TypeLink:
			e.Linkname = scriptedPath(script[2])
		}
		entries = append(entries, e)
	}
	return entries
}

// scriptedPath has three parts, of few kinds so that entries meet.
func scriptedPath(b byte) string {
	parts := []string{"a", "b", "..", "canary", ".wh.a", ".wh..wh..opq", "."}
	n := int(b)
	path := parts[n%7]
	if n /= 7; n%7 > 0 {
		path = parts[n%7] + "/" + path
	}
	if n /= 7; n > 0 {
		path = []string{"", "/", "../", "a/", "a/../../", "tree/"}[n] + path
	}
	return path
}
