package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	diskfile "github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

// isoVolume is what the host's library makes of the files.
func isoVolume(t *testing.T, label string, files map[string]string) []byte {
	t.Helper()
	dir := t.TempDir()
	workspace := filepath.Join(dir, "files")
	must(t, os.Mkdir(workspace, 0o700))
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(workspace, name), []byte(text), 0o600))
	}
	image, err := os.Create(filepath.Join(dir, "iso"))
	must(t, err)
	defer image.Close()
	volume, err := iso9660.Create(diskfile.New(image, false), 0, 0, isoSector, workspace)
	must(t, err)
	must(t, volume.Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: label}))
	text, err := os.ReadFile(image.Name())
	must(t, err)
	return text
}

func TestISOFile(t *testing.T) {
	long := strings.Repeat("0123456789", 1000)
	files := map[string]string{"meta-data": "m", "user-data": long, "network-config": "", "vendor-data": "v"}
	// A directory of more than one sector.
	for c := 'a'; c <= 'z'; c++ {
		files["a file with a name that is not short "+string(c)] = "x"
	}
	image := isoVolume(t, "cidata", files)
	volume := bytes.NewReader(image)
	if label := isoVolumeLabel(volume); !strings.EqualFold(label, "cidata") {
		t.Errorf("label %q", label)
	}
	for name, want := range files {
		if text, err := isoFile(volume, name, maxSeed); err != nil || string(text) != want {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
	for name, limit := range map[string]int64{"user-dat": maxSeed, "USER_DAT.;1": maxSeed, "": maxSeed, "user-data": int64(len(long)) - 1} {
		if text, err := isoFile(volume, name, limit); err == nil {
			t.Errorf("%q with limit %d: %d bytes", name, limit, len(text))
		}
	}
	for _, n := range []int{0, isoLabel, isoRoot, isoRoot + 10, isoRoot + isoRootLength, len(image) / 2} {
		if _, err := isoFile(bytes.NewReader(image[:n]), "user-data", maxSeed); err == nil {
			t.Errorf("of a volume of %d bytes the file is read", n)
		}
	}
}

func FuzzISOFind(f *testing.F) {
	f.Add([]byte{34, 0, 0, 0}, "x")
	f.Add(append([]byte{44, 32: 1, 33: 'X'}, "NM\x09\x01\x00user"...), "user")
	f.Fuzz(func(t *testing.T, directory []byte, name string) {
		if record := isoFind(directory, name); record != nil && rockRidgeName(record) != name {
			t.Errorf("%q is found in %q", name, record)
		}
	})
}
