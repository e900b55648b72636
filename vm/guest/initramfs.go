package guest

import (
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// writeInitramfs writes the guest's first root: the agent, the modules and the
// mount points. It is left uncompressed, for the guest's unpacking costs more
// than the host's reading. /dev/console comes from the archive that every
// kernel has built in. No times are recorded: equal input gives equal bytes.
func writeInitramfs(w io.Writer, agent []byte, modules []module) error {
	archive := cpio.NewWriter(w)
	a := appender{archive: archive}
	for _, dir := range []string{"dev", "proc", "sys", "run", "modules"} {
		a.add(dir, cpio.TypeDir|0o755, nil)
	}
	a.add("init", cpio.TypeReg|0o555, agent)
	lists := map[string]*strings.Builder{listOrder: {}, listOnDemand: {}, listLayers: {}}
	for _, m := range modules {
		a.add(path.Join("modules", m.file), cpio.TypeReg|0o444, m.body)
		fmt.Fprintln(lists[m.list], m.file)
	}
	for _, name := range []string{listOrder, listOnDemand, listLayers} {
		a.add("modules/"+name, cpio.TypeReg|0o444, []byte(lists[name].String()))
	}
	if a.err == nil {
		a.err = archive.Close()
	}
	if a.err != nil {
		return fmt.Errorf("write initramfs: %w", a.err)
	}
	return nil
}

type appender struct {
	archive *cpio.Writer
	inode   int64
	err     error
}

// add appends one entry. Each has an inode number of its own: the kernel takes
// entries of equal number for links of one file.
func (a *appender) add(name string, mode cpio.FileMode, body []byte) {
	if a.err != nil {
		return
	}
	a.inode++
	header := &cpio.Header{Name: name, Mode: mode, Size: int64(len(body)), Inode: a.inode, Links: 1}
	if a.err = a.archive.WriteHeader(header); a.err == nil {
		_, a.err = a.archive.Write(body)
	}
}
