package vm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	diskfile "github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	"github.com/vmruntime/vmruntime/protocol"
)

const (
	// SeedSize is what seeds are padded to in bytes, so that one can take
	// another's place in a machine that has already booted.
	SeedSize = 512 << 10
	// seedBlock is ISO9660's sector in bytes.
	seedBlock = 2 << 10
)

// shareOptions are the mount options of the share. The client checks
// permissions and sends requests as the user that makes them, which gives new
// files their owner; cache=mmap keeps what the host changes visible.
const shareOptions = "trans=virtio,version=9p2000.L,msize=512000,cache=mmap,access=client"

// Seed is the content of a NoCloud seed
// (https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html).
type Seed struct {
	// InstanceID tells cloud-init that this is a first boot: it differs from
	// every other machine's.
	InstanceID string
	Container  protocol.Container
	// Transport is the machine's.
	Transport Transport
}

type metaData struct {
	InstanceID string `json:"instance-id"`
}

// networkConfig leaves a guest's NICs alone: they stand for the container's interfaces,
// and the agent moves them into its network namespace.
type networkConfig struct {
	Config string `json:"config"`
}

type userData struct {
	WriteFiles []writtenFile `json:"write_files"`
	RunCmd     [][]string    `json:"runcmd"`
}

type writtenFile struct {
	Path        string `json:"path"`
	Permissions string `json:"permissions"`
	Content     string `json:"content"`
}

// WriteSeed makes the seed ISO in file, mode 0600, in one step. It is
// SeedSize long, or longer if it has to.
func WriteSeed(file string, s Seed) error {
	if err := writeSeed(file, s); err != nil {
		return fmt.Errorf("seed %s: %w", file, err)
	}
	return nil
}

func writeSeed(file string, s Seed) (err error) {
	files, err := seedFiles(s)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(file), ".seed-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	image := filepath.Join(work, "iso")
	if err := writeISO(image, filepath.Join(work, "files"), files); err != nil {
		return err
	}
	return os.Rename(image, file)
}

// seedFiles gives the seed's files by name.
func seedFiles(s Seed) (map[string][]byte, error) {
	container, err := json.Marshal(s.Container)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", s.Container.ID, err)
	}
	meta, err := marshalYAML(metaData{s.InstanceID})
	if err != nil {
		return nil, err
	}
	user, err := marshalYAML(cloudConfig(container, s.Transport))
	if err != nil {
		return nil, err
	}
	network, err := marshalYAML(networkConfig{"disabled"})
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"meta-data":      meta,
		"network-config": network,
		"user-data":      append([]byte("#cloud-config\n"), user...),
	}, nil
}

// cloudConfig brings the container's description to its place and starts the
// agent on it.
func cloudConfig(container []byte, t Transport) userData {
	commands := append([][]string{{"mkdir", "-p", protocol.ShareDir}}, mountShare(t)...)
	return userData{
		WriteFiles: []writtenFile{{
			Path:        protocol.ContainerFile,
			Permissions: "0600",
			Content:     string(container),
		}},
		RunCmd: append(commands, []string{path.Join(protocol.ShareDir, protocol.AgentFile), "serve", protocol.ContainerFile}),
	}
}

// mountShare are the guest's commands.
func mountShare(t Transport) [][]string {
	if t == Virtiofs {
		return [][]string{
			{"modprobe", "virtiofs"},
			{"mount", "-t", "virtiofs", protocol.ShareTag, protocol.ShareDir},
		}
	}
	return [][]string{{"mount", "-t", "9p", "-o", shareOptions, protocol.ShareTag, protocol.ShareDir}}
}

// marshalYAML writes v as JSON that is YAML 1.1, too: our own guest reads it
// many times faster than other YAML.
func marshalYAML(v any) ([]byte, error) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, r := range string(body) {
		if notInYAML(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// notInYAML tells the characters that JSON strings may hold and YAML refuses
// or takes for a line break (https://yaml.org/spec/1.1/#id868524). JSON has
// escaped what is below the space, and U+2028 and U+2029.
func notInYAML(r rune) bool {
	return 0x7f <= r && r <= 0x9f || r == 0xfeff || r == 0xfffe || r == 0xffff
}

// writeISO packs files into a new image. The library packs a directory of the
// disk, workspace, and removes it.
func writeISO(image, workspace string, files map[string][]byte) (err error) {
	if err := os.Mkdir(workspace, 0o700); err != nil {
		return err
	}
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(workspace, name), body, 0o600); err != nil {
			return err
		}
	}
	out, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	checked := &checkedFile{File: out}
	iso, err := iso9660.Create(diskfile.New(checked, false), 0, 0, seedBlock, workspace)
	if err != nil {
		return err
	}
	err = iso.Finalize(iso9660.FinalizeOptions{RockRidge: true, VolumeIdentifier: protocol.SeedLabel})
	if checked.err != nil {
		return checked.err
	}
	if err != nil {
		return err
	}
	return pad(out)
}

// pad brings an image to SeedSize or, beyond it, to whole sectors.
func pad(image *os.File) error {
	info, err := image.Stat()
	if err != nil {
		return err
	}
	size := (info.Size() + seedBlock - 1) / seedBlock * seedBlock
	return image.Truncate(max(size, SeedSize))
}

// checkedFile remembers the first failed write: the library drops the errors
// of some, and a full disk would make a seed with holes.
type checkedFile struct {
	*os.File
	err error
}

func (f *checkedFile) WriteAt(data []byte, offset int64) (int, error) {
	n, err := f.File.WriteAt(data, offset)
	if f.err == nil {
		f.err = err
	}
	return n, err
}
