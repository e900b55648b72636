// Package cloud gives a machine that boots from a disk of its own what the cloud
// around it has to say: a host name, keys, user data, and its network.
//
// The sources are cloud-init's, looked for in this order: a NoCloud volume, a
// configuration drive of OpenStack, OpenStack's metadata service. Whatever they
// say is read with bounds, and what is wrong with them costs the machine what
// they say, never its boot.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/vmruntime/vmruntime/agent"
)

const (
	// maxFile is the largest file of a source in bytes, OpenStack's limit of user
	// data a few times.
	maxFile = 1 << 20
	// maxKeys is how many keys are taken.
	maxKeys = 256
	// patience is how long a metadata service may take.
	patience = 60 * time.Second
)

// data is what a source says.
type data struct {
	// seed is the directory that cloud-init keeps such files in, below
	// /var/lib/cloud/seed.
	seed     string
	files    map[string][]byte
	hostname string
	keys     []string
	network  *network
}

// reader reads a file of a source by its name; fs.ErrNotExist says that there is
// none.
type reader func(name string) ([]byte, error)

// SetUp finds the machine's metadata and brings its network up. The error is what
// went wrong on the way; what is known in spite of it is valid.
func SetUp(ctx context.Context) (agent.Identity, error) {
	found, err := fromVolume()
	if found == nil {
		found = &data{}
	}
	up, netErr := bringUp(ctx, found.network)
	err = errors.Join(err, netErr)
	if found.seed == "" && isOpenStack() {
		waiting, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		service, serviceErr := fromService(waiting, serviceURL)
		if serviceErr != nil {
			err = errors.Join(err, fmt.Errorf("metadata service: %w", serviceErr))
		}
		if service != nil {
			found = service
		}
	}
	if found.hostname == "" {
		found.hostname = up.hostname
	}
	return agent.Identity{Hostname: found.hostname, Keys: found.keys, Seed: found.seed, Files: found.files}, err
}

// volumeSources are the sources that are volumes, by their labels, in the order in
// which they count.
var volumeSources = []struct {
	label string
	parse func(reader) (*data, error)
}{{"cidata", parseNoCloud}, {"config-2", parseOpenStack}}

// fromVolume reads the first volume that is a source.
func fromVolume() (*data, error) {
	if err := wakeChannels("/sys"); err != nil {
		return nil, fmt.Errorf("IDE controller: %w", err)
	}
	var v *volume
	var parse func(reader) (*data, error)
	awaitDrives("/sys", func() bool {
		for _, source := range volumeSources {
			if v = findVolume(source.label); v != nil {
				parse = source.parse
				return true
			}
		}
		return false
	})
	if v == nil {
		return nil, nil
	}
	var found *data
	err := v.read(func(read reader) error {
		var err error
		found, err = parse(read)
		return err
	})
	if err != nil {
		return found, fmt.Errorf("metadata on %s: %w", v.device, err)
	}
	return found, nil
}

// collect reads the files of a source that there are.
func collect(read reader, names ...string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range names {
		text, err := read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return files, fmt.Errorf("%s: %w", name, err)
		}
		files[name] = text
	}
	return files, nil
}

// validKeys are lines of authorized_keys, one each.
func validKeys(keys []string) []string {
	var valid []string
	for _, key := range keys {
		key = strings.TrimSpace(key)
		if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(valid) == maxKeys {
			continue
		}
		valid = append(valid, key)
	}
	return valid
}

// validHostname is the first label of a host's name, or nothing where it is none
// (RFC 1123, 2.1).
func validHostname(name string) string {
	name, _, _ = strings.Cut(strings.TrimSpace(name), ".")
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
	if len(name) > 63 || strings.HasPrefix(name, "-") || strings.Trim(name, letters) != "" {
		return ""
	}
	return name
}
