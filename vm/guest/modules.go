package guest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// required are the modules without which no container starts; optional ones
// are taken where the kernel has them.
var (
	required = []string{
		"virtio_pci",
		"virtio_console", // agent channel
		"virtio_blk",     // seed
		"9p",             // share
		"9pnet_virtio",
	}
	optional = []string{"virtio_net", "virtio_rng", "virtio_balloon", "overlay"}
	// onDemand are optional, and loaded where the seed or a container's device asks
	// for them.
	onDemand = []string{"virtiofs", "fuse", "tun"}
	// layers are optional, and loaded for a container whose root is on disks. ext4
	// and erofs ask the kernel for a crc32c by name.
	layers = []string{"crc32c_intel", "crc32c_generic", "erofs", "ext4", "overlay"}
)

// The lists of the initramfs: those that load at boot, and those that are asked for.
const (
	listOrder    = "order"
	listOnDemand = "on-demand"
	listLayers   = "layers"
)

// module is a kernel module as the guest loads it: unpacked.
type module struct {
	file string // NAME.ko
	body []byte
	// list is the one that it is in.
	list string
}

// tree is the modules directory of one kernel release. Dependencies are read
// from the modules themselves, so that it needs no depmod.
type tree struct {
	files   map[string]string // by module name
	builtin map[string]bool
}

func openTree(dir string) (tree, error) {
	t := tree{files: map[string]string{}, builtin: map[string]bool{}}
	err := filepath.WalkDir(filepath.Join(dir, "kernel"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && strings.Contains(entry.Name(), ".ko") {
			t.files[moduleName(path)] = path
		}
		return err
	})
	if err != nil {
		return tree{}, fmt.Errorf("kernel modules: %w", err)
	}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return tree{}, fmt.Errorf("kernel modules: %w", err)
	}
	for path := range strings.FieldsSeq(string(list)) {
		t.builtin[moduleName(path)] = true
	}
	return t, nil
}

// moduleName is the name by which modules refer to each other: without
// directory and suffix, and with underscores.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// wanted are the names of modules by the list that loads them. Those of listOrder
// may be missing only if they are optional.
type wanted struct{ required, optional, onDemand, layers []string }

// resolve gives the wanted modules and all that they need, dependencies first. What
// several lists need is in the first of them; those of onDemand and layers, which may
// load without each other, have nothing in common.
func (t tree) resolve(w wanted) ([]module, error) {
	r := resolver{tree: t, seen: map[string]bool{}}
	for _, name := range w.required {
		if err := r.add(name); err != nil {
			return nil, err
		}
	}
	for _, l := range []struct {
		name  string
		names []string
	}{{listOrder, w.optional}, {listOnDemand, w.onDemand}, {listLayers, w.layers}} {
		if err := r.addFound(l.names); err != nil {
			return nil, err
		}
		for i := range r.order {
			if r.order[i].list == "" {
				r.order[i].list = l.name
			}
		}
	}
	return r.order, nil
}

type resolver struct {
	tree
	seen  map[string]bool
	order []module
}

// addFound adds those that the kernel has.
func (r *resolver) addFound(names []string) error {
	for _, name := range names {
		if err := r.add(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (r *resolver) add(name string) error {
	name = moduleName(name)
	if r.seen[name] || r.builtin[name] {
		return nil
	}
	path, ok := r.files[name]
	if !ok {
		return fmt.Errorf("kernel module %s: %w", name, fs.ErrNotExist)
	}
	body, err := readModule(path)
	if err != nil {
		return fmt.Errorf("kernel module %s: %w", name, err)
	}
	r.seen[name] = true
	needs, err := dependencies(body)
	if err != nil {
		return fmt.Errorf("kernel module %s: %w", name, err)
	}
	for _, need := range needs {
		if err := r.add(need); err != nil {
			return fmt.Errorf("%w, needed by %s", err, name)
		}
	}
	file, _, _ := strings.Cut(filepath.Base(path), ".ko")
	r.order = append(r.order, module{file: file + ".ko", body: unsigned(body)})
	return nil
}

// readModule unpacks a .ko, .ko.xz, .ko.zst or .ko.gz.
func readModule(path string) ([]byte, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return decompress(body)
}

const (
	// signatureMark ends a signed module; before it stand the signature and a
	// struct module_signature, whose last field is the signature's length
	// (include/linux/module_signature.h).
	signatureMark   = "~Module signature appended~\n"
	signatureHeader = 12
)

// unsigned is a module without its signature. Checking it costs the guest 5 ms a
// module under emulation, at every boot; the modules are as trustworthy as the
// kernel beside them, which nobody checks either.
func unsigned(body []byte) []byte {
	rest, signed := bytes.CutSuffix(body, []byte(signatureMark))
	if !signed || len(rest) < signatureHeader {
		return body
	}
	length := uint64(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	if length > uint64(len(rest)-signatureHeader) {
		return body
	}
	return rest[:len(rest)-signatureHeader-int(length)]
}

// dependencies are the names in a module's .modinfo.
func dependencies(module []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(line, "depends="); ok && list != "" {
			return strings.Split(list, ","), nil
		}
	}
	return nil, nil
}
