package driver

// #include <malloc.h>
import "C"

import "runtime/debug"

// Trim gives memory back to the host that Go and libvirt hold on to after a start,
// which takes several times what a machine that runs needs.
func Trim() {
	debug.FreeOSMemory()
	C.malloc_trim(0)
}
