package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

func docker() Engine {
	return Engine{
		Name:   "docker",
		Usage:  "Docker's daemon.json",
		File:   "/etc/docker/daemon.json",
		Reload: "systemctl reload docker",
		Use:    "docker run --runtime=" + Name + " IMAGE",
		add:    addDocker,
		remove: removeDocker,
	}
}

// dockerRuntime is the part of an entry of "runtimes" in daemon.json that tells
// whose it is; "runtimeArgs" is the administrator's.
type dockerRuntime struct {
	Path string `json:"path"`
	Type string `json:"runtimeType"`
}

// of says that the entry is the program's, here or where it was before.
func (r dockerRuntime) of(program string) bool {
	return r.Type == "" && (r.Path == program || filepath.Base(r.Path) == Name)
}

func addDocker(_, text, program string) (string, error) {
	config, runtimes, err := decodeDocker(text)
	if err != nil {
		return "", err
	}
	entry, err := dockerEntry(runtimes, program)
	if err != nil {
		return "", err
	}
	if decodeRuntime(entry).Path == program {
		return text, nil
	}
	if entry == nil {
		entry = map[string]json.RawMessage{}
	}
	if entry["path"], err = encodeJSON(program); err != nil {
		return "", err
	}
	if runtimes[Name], err = encodeJSON(entry); err != nil {
		return "", err
	}
	if config["runtimes"], err = encodeJSON(runtimes); err != nil {
		return "", err
	}
	return indentJSON(config)
}

func removeDocker(text string) (string, error) {
	config, runtimes, err := decodeDocker(text)
	if err != nil {
		return "", err
	}
	if _, ok := runtimes[Name]; !ok {
		return text, nil
	}
	if _, err := dockerEntry(runtimes, ""); err != nil {
		return "", err
	}
	if bytes.Equal(bytes.TrimSpace(config["default-runtime"]), []byte(`"`+Name+`"`)) {
		return "", errors.New(`"default-runtime" is "` + Name + `": choose another one first`)
	}
	// The empty object stays: dockerd that reads a file without one keeps what it had.
	delete(runtimes, Name)
	if config["runtimes"], err = encodeJSON(runtimes); err != nil {
		return "", err
	}
	return indentJSON(config)
}

// decodeDocker returns daemon.json and its "runtimes"; values are kept as they
// are written.
func decodeDocker(text string) (config, runtimes map[string]json.RawMessage, err error) {
	config, runtimes = map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if strings.TrimSpace(text) == "" {
		return config, runtimes, nil
	}
	if err := decodeObject(text, &config); err != nil {
		return nil, nil, fmt.Errorf("not a JSON object: %w: mend it first", err)
	}
	if raw, ok := config["runtimes"]; ok {
		if err := decodeObject(string(raw), &runtimes); err != nil {
			return nil, nil, fmt.Errorf(`"runtimes": not a JSON object: %w: mend it first`, err)
		}
	}
	return config, runtimes, nil
}

func decodeObject(text string, into *map[string]json.RawMessage) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	if *into == nil {
		return errors.New("it is null")
	}
	return nil
}

// dockerEntry is the program's entry, nil if there is none.
func dockerEntry(runtimes map[string]json.RawMessage, program string) (map[string]json.RawMessage, error) {
	raw, ok := runtimes[Name]
	if !ok {
		return nil, nil
	}
	var entry map[string]json.RawMessage
	if err := decodeObject(string(raw), &entry); err == nil && decodeRuntime(entry).of(program) {
		return entry, nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return nil, err
	}
	return nil, foreign(line.String())
}

func decodeRuntime(entry map[string]json.RawMessage) dockerRuntime {
	var r dockerRuntime
	// What has another type is not ours.
	_ = json.Unmarshal(entry["path"], &r.Path)
	_ = json.Unmarshal(entry["runtimeType"], &r.Type)
	return r
}

func indentJSON(config map[string]json.RawMessage) (string, error) {
	raw, err := encodeJSON(config)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = json.Indent(&out, raw, "", "  ")
	return out.String() + "\n", err
}

// encodeJSON leaves <, > and & as they are.
func encodeJSON(value any) (json.RawMessage, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSpace(out.Bytes()), err
}
