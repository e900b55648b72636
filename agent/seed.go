package agent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmruntime/vmruntime/protocol"
)

const (
	// maxSeed bounds the seed's user-data in bytes.
	maxSeed = 8 << 20
	// seedTimeout bounds the wait for the seed's device.
	seedTimeout = 30 * time.Second
)

// A seed is the part of a cloud-config that vmruntime's seeds consist of, see
// https://docs.cloud-init.io/en/latest/reference/modules.html.
type seed struct {
	WriteFiles []seedFile `json:"write_files"`
	RunCmd     [][]string `json:"runcmd"`
}

type seedFile struct {
	Path     string `json:"path"`
	Encoding string `json:"encoding"`
	Content  string `json:"content"`
}

// seed sets the first container up from what read gives, once the host has said
// hello: templates are saved before that, and a clone finds its own seed.
func (a *agent) seed(read func() (*protocol.Container, error)) {
	<-a.met
	config, err := read()
	if err != nil {
		a.seedErr = fmt.Errorf("seed: %w", err)
		close(a.seeded)
		return
	}
	c, err := a.add(config)
	a.seedErr = err
	close(a.seeded)
	if err == nil {
		_ = c.create()
	}
}

// readSeed does what the seed of this VM says, up to the container.
func readSeed() (*protocol.Container, error) {
	userData, err := readUserData()
	if err != nil {
		return nil, err
	}
	s, err := parseSeed(userData)
	if err != nil {
		return nil, err
	}
	return s.run()
}

// readUserData reads user-data from the volume labelled cidata.
func readUserData() ([]byte, error) {
	device := await(seedTimeout, seedDevice)
	if device == "" {
		return nil, fmt.Errorf("no volume is labelled %s", protocol.SeedLabel)
	}
	volume, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer volume.Close()
	return isoFile(volume, "user-data", maxSeed)
}

// seedDevice tries the names of disks, as the kernel gives them.
func seedDevice() string {
	for _, kind := range []string{"/dev/vd", "/dev/sd"} {
		for letter := 'a'; letter <= 'z'; letter++ {
			if device := kind + string(letter); hasLabel(device, protocol.SeedLabel) {
				return device
			}
		}
	}
	return ""
}

func hasLabel(device, label string) bool {
	volume, err := os.Open(device)
	if err != nil {
		return false
	}
	defer volume.Close()
	return strings.EqualFold(isoVolumeLabel(volume), label)
}

// parseSeed reads user-data. vmruntime writes cloud-configs whose YAML is JSON,
// and this guest reads no others: a YAML parser would cost every container tens
// of milliseconds under emulation.
func parseSeed(userData []byte) (seed, error) {
	header, body, _ := bytes.Cut(userData, []byte("\n"))
	if strings.TrimSpace(string(header)) != "#cloud-config" {
		return seed{}, errors.New("user-data is no #cloud-config")
	}
	var s seed
	if err := json.Unmarshal(body, &s); err != nil {
		return seed{}, fmt.Errorf("user-data is not written as JSON: %w", err)
	}
	return s, nil
}

// file is the content of one of write_files. Nothing is written: only the command that starts the
// agent reads what there is.
func (s seed) file(name string) ([]byte, error) {
	for _, f := range s.WriteFiles {
		if f.Path == name {
			return f.decode()
		}
	}
	return nil, fmt.Errorf("write_files has no %s", name)
}

func (f seedFile) decode() ([]byte, error) {
	switch f.Encoding {
	case "", "text/plain":
		return []byte(f.Content), nil
	case "b64", "base64":
		content, err := base64.StdEncoding.DecodeString(f.Content)
		if err != nil {
			return nil, fmt.Errorf("content of %s: %w", f.Path, err)
		}
		return content, nil
	}
	return nil, fmt.Errorf("encoding %q of %s is unknown", f.Encoding, f.Path)
}

// run does the commands of runcmd that the guest knows. The one that starts the
// agent means this process.
func (s seed) run() (*protocol.Container, error) {
	for _, argv := range s.RunCmd {
		if len(argv) == 3 && path.Base(argv[0]) == protocol.AgentFile && argv[1] == serveWord {
			text, err := s.file(argv[2])
			if err != nil {
				return nil, err
			}
			return parseContainer(text)
		}
		if err := runCommand(argv); err != nil {
			return nil, fmt.Errorf("runcmd %q: %w", argv, err)
		}
	}
	return nil, errors.New("runcmd starts no agent")
}

func runCommand(argv []string) error {
	if len(argv) == 0 {
		return errors.New("empty command")
	}
	switch path.Base(argv[0]) {
	case "mkdir":
		return makeDirs(argv[1:])
	case "mount":
		return mountCommand(argv[1:])
	case "modprobe":
		return loadModules("on-demand")
	}
	return errors.New("the command is unknown to this guest")
}

func makeDirs(args []string) error {
	for _, dir := range args {
		if strings.HasPrefix(dir, "-") {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// mountCommand is `mount -t TYPE -o OPTIONS SOURCE TARGET`.
func mountCommand(args []string) error {
	var kind, options string
	var rest []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-t" && i+1 < len(args):
			i++
			kind = args[i]
		case args[i] == "-o" && i+1 < len(args):
			i++
			options = args[i]
		default:
			rest = append(rest, args[i])
		}
	}
	if kind == "" || len(rest) != 2 {
		return errors.New("it must be mount -t TYPE [-o OPTIONS] SOURCE TARGET")
	}
	o := parseMountOptions(strings.Split(options, ","))
	return unix.Mount(rest[0], rest[1], kind, o.flags, strings.Join(o.data, ","))
}
