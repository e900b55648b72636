package cloud

import (
	"bytes"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// noCloud is the part of meta-data that is heeded
// (https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html).
type noCloud struct {
	Hostname   string  `yaml:"local-hostname"`
	Other      string  `yaml:"hostname"`
	PublicKeys keyList `yaml:"public-keys"`
}

// keyList are keys as clouds write them: one, a list, or a table by name.
type keyList []string

// UnmarshalYAML implements [yaml.Unmarshaler].
func (k *keyList) UnmarshalYAML(node *yaml.Node) error {
	switch node.Kind {
	case yaml.ScalarNode:
		*k = append(*k, node.Value)
	case yaml.SequenceNode:
		for _, key := range node.Content {
			*k = append(*k, key.Value)
		}
	case yaml.MappingNode:
		for i := 1; i < len(node.Content); i += 2 {
			*k = append(*k, node.Content[i].Value)
		}
	default:
		return errors.New("public keys are neither a list nor a table")
	}
	return nil
}

func parseNoCloud(read reader) (*data, error) {
	files, err := collect(read, "meta-data", "user-data", "vendor-data", "network-config")
	d := &data{seed: "nocloud", files: files}
	if err != nil {
		return d, err
	}
	var meta noCloud
	if err := decodeYAML(files["meta-data"], &meta); err != nil {
		return d, fmt.Errorf("meta-data: %w", err)
	}
	if d.hostname = validHostname(meta.Hostname); d.hostname == "" {
		d.hostname = validHostname(meta.Other)
	}
	d.keys = validKeys(meta.PublicKeys)
	if text := files["network-config"]; len(text) > 0 {
		if d.network, err = parseNetworkConfig(text); err != nil {
			return d, fmt.Errorf("network-config: %w", err)
		}
	}
	err = d.heed(files["user-data"])
	return d, err
}

// userData is the part of a #cloud-config that is heeded
// (https://docs.cloud-init.io/en/latest/reference/modules.html).
type userData struct {
	Hostname string   `yaml:"hostname"`
	FQDN     string   `yaml:"fqdn"`
	Keys     []string `yaml:"ssh_authorized_keys"`
}

// heed takes a host name and keys from user data that is a #cloud-config: tools
// like virt-install put them there. All else is the container's to read.
func (d *data) heed(text []byte) error {
	header, _, _ := bytes.Cut(text, []byte("\n"))
	if string(bytes.TrimSpace(header)) != "#cloud-config" {
		return nil
	}
	var u userData
	if err := decodeYAML(text, &u); err != nil {
		return fmt.Errorf("user-data: %w", err)
	}
	for _, name := range []string{u.FQDN, u.Hostname} {
		if name := validHostname(name); name != "" {
			d.hostname = name
		}
	}
	d.keys = append(d.keys, validKeys(u.Keys)...)
	return nil
}

// decodeYAML is for text of at most maxFile bytes. Anchors that blow up are
// refused by the library.
func decodeYAML(text []byte, into any) error {
	if err := yaml.Unmarshal(text, into); err != nil {
		return fmt.Errorf("no YAML of the expected form: %w", err)
	}
	return nil
}
