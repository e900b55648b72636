package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Templates is where templates are kept, one directory each.
const Templates = "/var/cache/vmruntime/templates"

// The files of a template.
const (
	memoryFile   = "memory"
	stateFile    = "state"
	templateFile = "template.json"
)

// A Template is a machine that has booted up to where its agent waits for the
// seed, saved: its RAM in a file that clones map privately, and the rest of it in
// QEMU's migration stream.
type Template struct {
	// Dir holds the template; its base is the template's name.
	Dir string `json:"-"`
	// Key stands for everything on the host that a clone depends on.
	Key string `json:"key"`
	// Machine is what boots to become the template.
	Machine Config    `json:"machine"`
	Built   time.Time `json:"built"`
	// Memory is the memory file as it was saved, State the SHA-256 of the state.
	Memory FileID `json:"memory"`
	State  string `json:"state"`
}

// FileID tells whether a file is still the one that it was. Nobody can set the
// time of its last change of any kind.
type FileID struct {
	Inode   uint64 `json:"inode"`
	Size    int64  `json:"size"`
	Changed int64  `json:"changed"`
}

// Why a template is not used.
var (
	// ErrNoTemplate is for one that is not there.
	ErrNoTemplate = errors.New("there is no template")
	// ErrStale is for one that something has changed since.
	ErrStale = errors.New("the template was saved on other terms")
	// ErrDamaged is for one that is not as it was saved.
	ErrDamaged = errors.New("the template is damaged")
)

// TemplateName names the template of machines like c: equal names mean equal
// devices, sizes and paths.
func TemplateName(c Config) (string, error) {
	text, err := DomainXML(Blank(c))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(text))
	return fmt.Sprintf("%dM-%dcpu-%s", c.Memory>>20, c.VCPUs, hex.EncodeToString(sum[:6])), nil
}

// Blank is c without what makes it one container's.
func Blank(c Config) Config {
	c.Name, c.UUID, c.Title, c.Metadata = "", "", "", Metadata{}
	c.EmulatorEnv = nil
	c.MemoryFile, c.Clone = "", false
	c.TapsMade, c.Disks = false, nil
	c.Taps = slices.Clone(c.Taps)
	for i := range c.Taps {
		c.Taps[i] = ""
	}
	c.Share, c.Seed, c.AgentSocket, c.ConsoleSocket = "", "", "", ""
	return c
}

// OpenTemplate returns the template in dir together with its state, read from the
// beginning, if it was saved under key and nobody has touched it since. The error
// is one of those above.
func OpenTemplate(dir, key string) (Template, *os.File, error) {
	t, err := readTemplate(dir)
	if err != nil {
		return Template{}, nil, err
	}
	if t.Key != key {
		return Template{}, nil, fmt.Errorf("%w: %s", ErrStale, dir)
	}
	if err := t.CheckMemory(); err != nil {
		return Template{}, nil, err
	}
	state, sum, err := openState(filepath.Join(dir, stateFile))
	if err == nil && sum != t.State {
		err = errors.Join(errors.New("its state has another sum"), state.Close())
	}
	if err != nil {
		return Template{}, nil, fmt.Errorf("%w: %s: %w", ErrDamaged, dir, err)
	}
	return t, state, nil
}

// readTemplate trusts nothing that others than root could have put there.
func readTemplate(dir string) (Template, error) {
	t := Template{Dir: dir}
	var stat unix.Stat_t
	err := unix.Lstat(dir, &stat)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t, fmt.Errorf("%w: %s", ErrNoTemplate, dir)
	case err != nil:
		return t, fmt.Errorf("%w: %s: %w", ErrDamaged, dir, err)
	case stat.Mode != unix.S_IFDIR|0o700 || stat.Uid != uint32(os.Geteuid()):
		return t, fmt.Errorf("%w: %s is not a directory of ours alone", ErrDamaged, dir)
	}
	text, err := os.ReadFile(filepath.Join(dir, templateFile))
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	if err != nil {
		return t, fmt.Errorf("%w: %s: %w", ErrDamaged, dir, err)
	}
	return t, nil
}

// Name is what TemplateName gives for its machines.
func (t Template) Name() string { return filepath.Base(t.Dir) }

// CheckMemory tells whether the memory file is as it was saved.
func (t Template) CheckMemory() error {
	id, err := fileID(t.MemoryFile())
	if err == nil && id != t.Memory {
		err = errors.New("its memory has changed")
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, t.Dir, err)
	}
	return nil
}

// MemoryFile is the guest's RAM.
func (t Template) MemoryFile() string { return filepath.Join(t.Dir, memoryFile) }

// StateFile is everything else of the machine.
func (t Template) StateFile() string { return filepath.Join(t.Dir, stateFile) }

// Used is how many bytes the template takes on the disk.
func (t Template) Used() (int64, error) {
	var sum int64
	for _, file := range []string{t.MemoryFile(), t.StateFile()} {
		var stat unix.Stat_t
		if err := unix.Lstat(file, &stat); err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		const block = 512
		sum += stat.Blocks * block
	}
	return sum, nil
}

// openState opens a state once its sum is known. It is half a megabyte.
func openState(path string) (*os.File, string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	hash := sha256.New()
	_, err = io.Copy(hash, file)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, "", errors.Join(err, file.Close())
	}
	return file, hex.EncodeToString(hash.Sum(nil)), nil
}

func fileID(path string) (FileID, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return FileID{}, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return FileID{}, fmt.Errorf("%s is no regular file", path)
	}
	return FileID{Inode: stat.Ino, Size: stat.Size, Changed: stat.Ctim.Nano()}, nil
}

// ListTemplates returns the templates below root that can be read, by name.
func ListTemplates(root string) ([]Template, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("templates: %w", err)
	}
	var templates []Template
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		// One that is damaged is listed as well: it takes space.
		t, _ := readTemplate(filepath.Join(root, e.Name()))
		templates = append(templates, t)
	}
	return templates, nil
}

// RemoveTemplate removes the named template below root. Machines that run from it
// keep what they have mapped.
func RemoveTemplate(root, name string) error {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return fmt.Errorf("template %q: no name of a template", name)
	}
	dir := filepath.Join(root, name)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("template %s: %w", name, fs.ErrNotExist)
	}
	// Out of the way in one step: half a template is never seen.
	trash := filepath.Join(root, "."+name+".removed")
	if err := errors.Join(os.RemoveAll(trash), os.Rename(dir, trash), os.RemoveAll(trash)); err != nil {
		return fmt.Errorf("template %s: %w", name, err)
	}
	return nil
}
