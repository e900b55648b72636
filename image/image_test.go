package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// needRoot skips what only root can do: owners, device nodes, trusted attributes.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func newStore(t testing.TB, limits Limits) *Store {
	t.Helper()
	needRoot(t)
	s, err := Open(filepath.Join(t.TempDir(), "store"), limits)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An entry of a tar, a file if it has no type.
type entry struct {
	tar.Header
	text string
}

func file(name, text string) entry { return entry{tar.Header{Name: name, Mode: 0o644}, text} }
func dir(name string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}
func symlink(name, to string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}, ""}
}
func hardlink(name, to string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}, ""}
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.text))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func configOf(t testing.TB, layers ...[]byte) string {
	t.Helper()
	c := v1.Image{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}}
	c.Config = v1.ImageConfig{Entrypoint: []string{"/run"}, Cmd: []string{"it"}}
	c.RootFS.Type = "layers"
	for _, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest.FromBytes(l))
	}
	return mustJSON(t, c)
}

// saved is what docker save makes of layers.
func saved(t testing.TB, layers ...[]byte) []byte {
	return savedWith(t, configOf(t, layers...), layers...)
}

func savedWith(t testing.TB, config string, layers ...[]byte) []byte {
	t.Helper()
	name := digest.FromString(config).Encoded() + ".json"
	entries := []entry{file(name, config)}
	var names []string
	for _, l := range layers {
		layer := digest.FromBytes(l).Encoded() + "/layer.tar"
		names = append(names, layer)
		entries = append(entries, file(layer, string(l)))
	}
	manifest := []map[string]any{{"Config": name, "RepoTags": []string{"x:1"}, "Layers": names}}
	return tarOf(t, append(entries, file("manifest.json", mustJSON(t, manifest)))...)
}

func archiveIn(t testing.TB, text []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func mustImport(t testing.TB, s *Store, name string, text []byte) Image {
	t.Helper()
	i, err := s.Import(t.Context(), name, archiveIn(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// count is how many entries a directory of the store has.
func count(t testing.TB, s *Store, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(s.path(dir))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestImport(t *testing.T) {
	s := newStore(t, DefaultLimits)
	base := tarOf(t, dir("./"), dir("etc/"), file("etc/keep", "1"), file("etc/gone", "2"), dir("old/"), file("old/x", "3"),
		entry{tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777, Uid: 7}, ""})
	app := tarOf(t, file("etc/.wh.gone", ""), file("tmp/new", "4"), dir("old"), file("old/.wh..wh..opq", ""))
	i := mustImport(t, s, "a:1", saved(t, base, app))
	if i.Size != 4 || len(i.Layers) != 2 {
		t.Errorf("size %d, layers %v", i.Size, i.Layers)
	}
	top := s.trees(i.chain())[0]
	var stat unix.Stat_t
	if err := unix.Lstat(filepath.Join(top, "etc/gone"), &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFCHR || stat.Rdev != 0 {
		t.Errorf("whiteout: %v, mode %o, device %d", err, stat.Mode, stat.Rdev)
	}
	value := make([]byte, 8)
	if n, err := unix.Lgetxattr(filepath.Join(top, "old"), overlayOpaque, value); err != nil || string(value[:n]) != "y" {
		t.Errorf("opaque: %v, %q", err, value[:max(n, 0)])
	}
	// A directory that a layer does not hold itself is as below.
	if err := unix.Lstat(filepath.Join(top, "tmp"), &stat); err != nil || stat.Mode&0o7777 != 0o1777 || stat.Uid != 7 {
		t.Errorf("tmp: %v, mode %o, uid %d", err, stat.Mode, stat.Uid)
	}
	if found, err := s.Find("a:1"); err != nil || found.ID != i.ID {
		t.Errorf("Find: %v, %v", found.ID, err)
	}
	if n := count(t, s, tmpDir); n != 0 {
		t.Errorf("%d files are left over", n)
	}
}

// A directory that a layer puts in the place of another hides what that held,
// whichever comes first in the tar.
func TestReplacedDirectory(t *testing.T) {
	s := newStore(t, DefaultLimits)
	base := tarOf(t, dir("a"), file("a/old", ""))
	for _, layer := range [][]byte{
		tarOf(t, file(".wh.a", ""), dir("a"), file("a/new", "")),
		tarOf(t, dir("a"), file("a/new", ""), file(".wh.a", "")),
	} {
		i := mustImport(t, s, "a", saved(t, base, layer))
		value := make([]byte, 8)
		if _, err := unix.Lgetxattr(filepath.Join(s.trees(i.chain())[0], "a"), overlayOpaque, value); err != nil {
			t.Error(err)
		}
	}
}

func TestHostileLayers(t *testing.T) {
	sparse := entry{tar.Header{Name: "big", Mode: 0o644}, ""}
	device := entry{tar.Header{Name: "sda", Typeflag: tar.TypeBlock, Devmajor: 8}, ""}
	hidden := entry{tar.Header{Name: "x", Typeflag: tar.TypeChar}, ""}
	long := strings.Repeat("n", maxNameLength+1)
	for name, c := range map[string]struct {
		layer []byte
		want  string
	}{
		"dots":               {tarOf(t, file("a/../../escaped", "x")), `entry "../escaped": its path leads out of the layer`},
		"absolute dots":      {tarOf(t, file("/../escaped", "x"), file("/../../escaped", "x")), "image "},
		"absolute symlink":   {tarOf(t, symlink("a", "/etc"), file("a/escaped", "x")), `entry "a/escaped": it is below the symbolic link "a", which leads out`},
		"climbing symlink":   {tarOf(t, symlink("a", "../.."), file("a/escaped", "x")), `below the symbolic link "a"`},
		"chained symlinks":   {tarOf(t, symlink("a", "b"), symlink("b", "c/d"), dir("c"), symlink("c/d", "../../etc"), file("a/escaped", "x")), `below the symbolic link "c/d"`},
		"symlinks in a loop": {tarOf(t, symlink("a", "b"), symlink("b", "a"), file("a/escaped", "x")), "below the symbolic link"},
		"hard link out":      {tarOf(t, hardlink("a", "../../etc/passwd")), `entry "a": a hard link to "../../etc/passwd" leads out of the layer`},
		"hard link through":  {tarOf(t, symlink("a", "/etc"), hardlink("b", "a/passwd")), "below the symbolic link"},
		"hard link nowhere":  {tarOf(t, hardlink("a", "/etc/passwd")), `entry "a": `},
		"device":             {tarOf(t, device), `entry "sda": a device node (8:0): say --devices`},
		"whiteout device":    {tarOf(t, hidden), `entry "x": a device 0:0`},
		"whiteout of dots":   {tarOf(t, file(".wh...", "")), `entry ".wh...": `},
		"whiteout of none":   {tarOf(t, file(".wh.", "")), `entry ".wh.": `},
		"long name":          {tarOf(t, file(long, "")), "a part of its path has more than 255 bytes"},
		"long path":          {tarOf(t, file(strings.Repeat("n/", maxPath)+"x", "")), "its path has more than 4095 bytes"},
		"truncated":          {tarOf(t, file("a", strings.Repeat("x", 4096)))[:2048], `entry "a": unexpected EOF`},
		"garbage":            {bytes.Repeat([]byte("garbage "), 512), "invalid tar header"},
		"large":              {tarOf(t, file("a", strings.Repeat("x", 5000))), `entry "a": the image has more than 4096 bytes`},
		"sparse":             {sparseTar(t, sparse.Name, 10<<30), `entry "big": the image has more than 4096 bytes`},
		"many":               {tarOf(t, dir("a"), dir("b"), dir("c"), dir("d"), dir("e"), dir("f"), dir("g"), dir("h"), dir("i")), `entry "i": the image has more than 8 files`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, Limits{Size: 4096, Entries: 8})
			refuses(t, s, saved(t, c.layer), c.want)
		})
	}
}

// refuses tries an archive that must change nothing and fail with a text.
func refuses(t *testing.T, s *Store, text []byte, want string) {
	t.Helper()
	name := archiveIn(t, text)
	before := listing(t, filepath.Dir(s.dir))
	_, err := s.Import(t.Context(), "hostile", name)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v\ndoes not say %s", err, want)
	}
	t.Log(err)
	for _, d := range []string{layersDir, imagesDir, namesDir, tmpDir} {
		if n := count(t, s, d); n != 0 {
			t.Errorf("%d entries are left in %s", n, d)
		}
	}
	if after := listing(t, filepath.Dir(s.dir)); after != before {
		t.Errorf("outside the store: %s\nwas: %s", after, before)
	}
}

// listing is all around the store.
func listing(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(p string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() && e.Name() == "store" {
			return filepath.SkipDir
		}
		b.WriteString(p + "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// sparseTar has one file that is a hole, in GNU's format 1.0.
func sparseTar(t *testing.T, name string, size int64) []byte {
	t.Helper()
	body := make([]byte, 512)
	copy(body, "0\n")
	header := func(typeflag byte, name, text string) []byte {
		b := make([]byte, 512)
		copy(b, name)
		copy(b[100:], "0000644\x000000000\x000000000\x00")
		copy(b[124:], octal(int64(len(text))))
		copy(b[136:], octal(0))
		b[156] = typeflag
		copy(b[257:], "ustar\x0000")
		copy(b[148:], "        ")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		copy(b[148:], octal(int64(sum))[5:]+"\x00")
		return append(b, append([]byte(text), make([]byte, (512-len(text)%512)%512)...)...)
	}
	records := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", name) +
		record("GNU.sparse.realsize", decimal(size))
	text := header('x', "PaxHeaders/x", records)
	text = append(text, header('0', "GNUSparseFile/x", string(body))...)
	return append(text, make([]byte, 1024)...)
}

func octal(n int64) string {
	s := ""
	for range 11 {
		s = string(rune('0'+n%8)) + s
		n /= 8
	}
	return s
}

func decimal(n int64) string { return string(mustDecimal(n)) }

func mustDecimal(n int64) []byte {
	text, _ := json.Marshal(n)
	return text
}

// record is one of PAX: its length counts itself.
func record(key, value string) string {
	body := " " + key + "=" + value + "\n"
	n := len(body) + 2
	if n < 10 {
		n--
	}
	if n > 99 {
		n++
	}
	return decimal(int64(n)) + body
}

func TestHostileArchives(t *testing.T) {
	good := tarOf(t, file("a", "x"))
	config := configOf(t, good)
	name := digest.FromString(config).Encoded() + ".json"
	manifest := func(config, layer string) entry {
		return file("manifest.json", mustJSON(t, []map[string]any{{"Config": config, "Layers": []string{layer}}}))
	}
	for title, c := range map[string]struct {
		text []byte
		want string
	}{
		"broken digest":      {savedWith(t, config, tarOf(t, file("a", "y"))), "layer " + string(digest.FromBytes(good)) + ": what it holds has another digest"},
		"broken config":      {tarOf(t, file(name, config+" "), manifest(name, "l"), file("l", string(good))), "does not have the digest that it is named by"},
		"missing layer":      {tarOf(t, file(name, config), manifest(name, "none/layer.tar")), `layer "none/layer.tar" is missing from the archive`},
		"missing config":     {tarOf(t, manifest("none.json", "l")), `"none.json" is missing`},
		"linked out":         {tarOf(t, symlink(name, "../../../etc/passwd"), manifest(name, "l")), "is missing"},
		"links in a loop":    {tarOf(t, symlink("x", "y"), symlink("y", "x"), manifest("x", "l")), "is missing"},
		"truncated":          {saved(t, good)[:700], "not a sound tar: unexpected EOF"},
		"empty":              {nil, "neither manifest.json nor index.json"},
		"no manifest":        {good, "neither manifest.json nor index.json"},
		"garbage":            {bytes.Repeat([]byte("garbage "), 512), "not a sound tar"},
		"not JSON":           {tarOf(t, file("manifest.json", "{")), `archive: "manifest.json": `},
		"two images":         {tarOf(t, file("manifest.json", "[{},{}]")), "2 images are in it"},
		"no layers":          {savedWith(t, configOf(t)), "an image must have a layer"},
		"more layers":        {savedWith(t, configOf(t, good), good, good), "it names 2 layers, the configuration 1"},
		"digest with path":   {savedWith(t, strings.Replace(config, "sha256:", "sha256:../", 1), good), "is not a sha256 digest"},
		"another system":     {savedWith(t, strings.Replace(config, "linux", "plan9", 1), good), "only images for linux"},
		"a large manifest":   {tarOf(t, file("manifest.json", strings.Repeat(" ", maxJSON+1))), "are the most"},
		"layout, no digest":  {tarOf(t, file("index.json", `{"manifests":[{"digest":"../../etc/passwd"}]}`)), "is not a sha256 digest"},
		"layout, other blob": {tarOf(t, file("index.json", `{"manifests":[{"digest":"`+string(digest.FromString("x"))+`"}]}`), file("blobs/sha256/"+digest.FromString("x").Encoded(), "y")), "the archive is damaged"},
	} {
		t.Run(title, func(t *testing.T) { refuses(t, newStore(t, DefaultLimits), c.text, c.want) })
	}
}
