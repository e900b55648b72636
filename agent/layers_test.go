package agent

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFindVolume(t *testing.T) {
	sys := t.TempDir()
	for file, text := range map[string]string{
		"block/vda/serial":        "vmruntime-lower-10\n",
		"block/vdb/serial":        "vmruntime-lower-1\n",
		"class/block/vdc1/uevent": "DEVTYPE=partition\nPARTN=1\nPARTNAME=root\n",
		"class/block/vdc2/uevent": "PARTNAME=root2\n",
	} {
		file = filepath.Join(sys, file)
		must(t, os.MkdirAll(filepath.Dir(file), 0o700))
		must(t, os.WriteFile(file, []byte(text), 0o600))
	}
	for name, want := range map[string]string{
		"vmruntime-lower-1": "vdb", "vmruntime-lower-10": "vda", "root": "vdc1", "root2": "vdc2", "oot": "", "vmruntime-lower-2": "",
	} {
		if got := findVolume(sys, name); got != want {
			t.Errorf("%q is found at %q, not %q", name, got, want)
		}
	}
}

// The root of an overlay has the mode of its upper's.
func TestMakeUpper(t *testing.T) {
	upper, lower := t.TempDir(), t.TempDir()
	must(t, os.Chmod(lower, os.ModeSticky|0o751))
	for range 2 {
		must(t, makeUpper(upper, lower))
		info, err := os.Stat(filepath.Join(upper, "fs"))
		must(t, err)
		if got := info.Mode(); got != os.ModeDir|os.ModeSticky|0o751 {
			t.Errorf("mode is %v", got)
		}
		must(t, os.Chmod(lower, 0o700))
	}
}
