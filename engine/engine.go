// Package engine registers the runtime with container engines: it edits their
// configuration files, and nothing in them that is somebody else's.
package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/atomicwriter"
)

// Name is what users of an engine call the runtime.
const Name = "vmruntime"

// An Engine is one whose configuration can name the runtime.
type Engine struct {
	// Name is docker, containerd, podman or cri.
	Name string
	// Usage tells what is configured.
	Usage string
	// File is where the engine looks for its configuration.
	File string
	// Reload makes a running engine read it, empty if nothing has to. It leaves
	// containers running.
	Reload string
	// Use tells how a container gets the runtime then.
	Use string

	// add returns the text of the file with the runtime in it, remove without.
	add    func(file, text, program string) (string, error)
	remove func(text string) (string, error)
}

// Engines are those that Debian and Kubernetes have.
func Engines() []Engine {
	return []Engine{docker(), containerd(), cri(), podman()}
}

// Add registers the program, an absolute path. It returns the text of the
// configuration and whether that differs from what file holds.
func (e Engine) Add(file, program string) (text string, changed bool, err error) {
	return edit(file, func(text string) (string, error) { return e.add(file, text, program) })
}

// Remove takes out what Add has put in.
func (e Engine) Remove(file string) (text string, changed bool, err error) {
	return edit(file, e.remove)
}

func edit(file string, change func(string) (string, error)) (text string, changed bool, err error) {
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	text, err = change(string(old))
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", file, err)
	}
	return text, text != string(old), nil
}

// Write puts the text in the place of the file's, at once. A file that nothing is
// left of goes: engines do without.
func Write(file, text string) error {
	if text == "" {
		return os.Remove(file)
	}
	// The link stays, whoever made it.
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(file); err == nil {
		mode = info.Mode().Perm()
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return atomicwriter.WriteFile(file, []byte(text), mode)
}
