package engine

import (
	"errors"
	"fmt"
	"strings"
)

const containerdFile = "/etc/containerd/config.toml"

func containerd() Engine {
	return Engine{
		Name:   "containerd",
		Usage:  "containerd's config.toml",
		File:   containerdFile,
		Reload: "systemctl restart containerd",
		Use:    "crictl runp --runtime=" + Name + " POD.json (ctr run --runc-binary needs no configuration)",
		add:    addContainerd,
		remove: cutBlock,
	}
}

// cri is the same file: containerd's runtimes are the handlers of Kubernetes.
func cri() Engine {
	e := containerd()
	e.Name = "cri"
	e.Usage = "the handler of Kubernetes' RuntimeClass, in containerd's config.toml"
	e.Use = "a RuntimeClass with handler: " + Name
	return e
}

// addContainerd appends a table to the file. An import would not do: containerd
// 1.x lets an imported file replace all of a plugin's configuration.
func addContainerd(_, text, program string) (string, error) {
	rest, config, err := foreignTOML(text)
	if err != nil {
		return "", err
	}
	if disabled(config) {
		return "", errors.New(`"disabled_plugins" names cri, which reads the runtimes: take it out first`)
	}
	head, plugin, err := criPlugin(config)
	if err != nil {
		return "", err
	}
	runtimes := config.at("plugins", plugin, "containerd", "runtimes")
	if entry, ok := runtimes[Name]; ok {
		if runtimes.at(Name, "options")["BinaryName"] == program {
			return text, nil
		}
		return "", foreign(entry)
	}
	block := runtimeTable(plugin, Name, fmt.Sprintf("BinaryName = %q\n", program))
	if _, ok := runtimes["runc"]; !ok {
		// A file that names runtimes names all of them: without runc, its default,
		// containerd 1.x loads no CRI plugin.
		block = runtimeTable(plugin, "runc", "") + block
	}
	return appendBlock(rest, head+block)
}

// criPlugin returns the name of the plugin that has the runtimes, and the line
// that an empty file begins with.
func criPlugin(config table) (head, plugin string, err error) {
	if len(config) == 0 {
		// containerd 2.x reads version 2 as well.
		return "version = 2\n", "io.containerd.grpc.v1.cri", nil
	}
	version, _ := config["version"].(int64)
	switch {
	case version == 2:
		return "", "io.containerd.grpc.v1.cri", nil
	case version >= 3:
		return "", "io.containerd.cri.v1.runtime", nil
	}
	return "", "", errors.New("a configuration of version 1, or without a version: write it anew with `containerd config migrate`, or add version = 2")
}

func disabled(config table) bool {
	plugins, _ := config["disabled_plugins"].([]any)
	for _, p := range plugins {
		if name, _ := p.(string); name == "cri" || strings.HasPrefix(name, "io.containerd.grpc.v1.cri") || strings.HasPrefix(name, "io.containerd.cri.v1.") {
			return true
		}
	}
	return false
}

func runtimeTable(plugin, name, options string) string {
	key := fmt.Sprintf("plugins.%q.containerd.runtimes.%s", plugin, name)
	text := "[" + key + "]\nruntime_type = \"io.containerd.runc.v2\"\n"
	if options != "" {
		text += "[" + key + ".options]\n" + options
	}
	return text
}
