package main

import "os"

// files runs fio in the root filesystem, the volume bound into it, as a container
// has both, and writes what fio says to the port.
func files(port *os.File, options string) error {
	if err := mountRoot(options); err != nil {
		return err
	}
	if err := (mount{share + "/volume", "bind", root + "/volume", ""}).mount(); err != nil {
		return err
	}
	return inRoot(port, "/usr/bin/fio", "--output-format=json", "/volume/files.fio")
}
