package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// The drop-in is of a directory in the administrator's, beside the file of
	// distributions.
	podmanFile   = "/etc/containers/containers.conf.d/vmruntime.conf"
	podmanVendor = "/usr/share/containers/containers.conf"
)

func podman() Engine {
	return Engine{
		Name:   "podman",
		Usage:  "a drop-in of Podman's containers.conf",
		File:   podmanFile,
		Use:    "podman --runtime=" + Name + " run IMAGE",
		add:    addPodman,
		remove: cutBlock,
	}
}

func addPodman(file, text, program string) (string, error) {
	rest, config, err := foreignTOML(text)
	if err != nil {
		return "", err
	}
	if entry, ok := config.at("engine", "runtimes")[Name]; ok {
		return "", foreign(entry)
	}
	names, err := speakJSON(file)
	if err != nil {
		return "", err
	}
	return appendBlock(rest, fmt.Sprintf("[engine]\nruntime_supports_json = [%s]\n[engine.runtimes]\n%s = [%q]\n",
		quoted(names), Name, program))
}

// speakJSON are the runtimes whose errors Podman reads as JSON. A later file's
// list replaces an earlier one's, so ours repeats the one that counts without it,
// which is Podman's own where no file has any.
func speakJSON(file string) ([]string, error) {
	names := []string{"crun", "runc", "kata", "runsc", "youki", "krun"}
	for _, other := range podmanFiles(file) {
		text, err := os.ReadFile(other)
		if err != nil {
			continue
		}
		config, err := decodeTOML(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", other, err)
		}
		if list, ok := config.at("engine")["runtime_supports_json"].([]any); ok {
			names = texts(list)
		}
	}
	if !slices.Contains(names, Name) {
		names = append(names, Name)
	}
	return names, nil
}

// podmanFiles are the files that Podman reads before file, in its order.
func podmanFiles(file string) []string {
	dir := filepath.Dir(file)
	files := []string{podmanVendor, strings.TrimSuffix(dir, ".d")}
	dropIns, _ := filepath.Glob(filepath.Join(dir, "*.conf"))
	for _, d := range dropIns {
		if d < file {
			files = append(files, d)
		}
	}
	return files
}

func texts(list []any) []string {
	var out []string
	for _, item := range list {
		out = append(out, fmt.Sprint(item))
	}
	return out
}

func quoted(names []string) string {
	var out []string
	for _, name := range names {
		out = append(out, fmt.Sprintf("%q", name))
	}
	return strings.Join(out, ", ")
}
