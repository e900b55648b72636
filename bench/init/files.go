package main

import "os"

// files runs fio in the root filesystem, the volume bound into it, as a container
// has both: for each section that the port names, what fio says goes back.
func files(port *os.File, options string) error {
	if err := mountRoot(options); err != nil {
		return err
	}
	if err := (mount{share + "/volume", "bind", root + "/volume", ""}).mount(); err != nil {
		return err
	}
	return inRoot(port, "/bin/sh", "-c", "while read section; do fio --output-format=json --section=$section /volume/files.fio; done")
}
