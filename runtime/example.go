package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/vmruntime/vmruntime/internal/basespec"
)

// WriteExample writes a config.json to begin with into dir, where there is none.
func WriteExample(dir string) error {
	path := filepath.Join(dir, specFile)
	text, err := json.MarshalIndent(example(), "", "\t")
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("File %s exists. Remove it first", path) //nolint:staticcheck // runc's text.
	}
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}

// example is the container that `runc spec` describes.
func example() *specs.Spec {
	capabilities := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	spec := basespec.New()
	spec.Root.Readonly = true
	spec.Hostname = "vmruntime"
	spec.Process = &specs.Process{
		Terminal:        true,
		Args:            []string{"sh"},
		Env:             []string{basespec.DefaultPath, "TERM=xterm"},
		Cwd:             "/",
		NoNewPrivileges: true,
		Capabilities:    &specs.LinuxCapabilities{Bounding: capabilities, Effective: capabilities, Permitted: capabilities},
		Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}},
	}
	return spec
}
