// Command vmruntime-shim is the process that stands for a container on the host;
// see package shim. It is a program of its own because libvirt's binding loads
// libvirt wherever it is linked, 20 ms that no short-lived command should pay.
//
//	vmruntime-shim run DIR ID        started by vmruntime create and run
//	vmruntime-shim template          started by vmruntime to build a template
//	vmruntime-shim oom               started by a shim to be killed
//	vmruntime-shim probe EMULATOR    has libvirt learn what the emulator can do
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vmruntime/vmruntime/internal/version"
	"github.com/vmruntime/vmruntime/shim"
	"github.com/vmruntime/vmruntime/vm"
	"github.com/vmruntime/vmruntime/vm/driver"
)

// A shim's first thread becomes its leader, and main must be on it.
func init() { runtime.LockOSThread() }

func main() {
	switch {
	case len(os.Args) == 4 && os.Args[1] == shim.ShimWord:
		shim.Main(version.Build(), libvirt{})
	case len(os.Args) >= 2 && os.Args[1] == shim.TemplateWord:
		os.Exit(shim.BuildTemplate(libvirt{}))
	case len(os.Args) == 2 && os.Args[1] == shim.OOMWord:
		os.Exit(shim.Victim())
	case len(os.Args) == 3 && os.Args[1] == "probe":
		if err := driver.Probe(os.Args[2], vm.TCG); err != nil {
			fmt.Fprintln(os.Stderr, "vmruntime-shim:", err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "vmruntime-shim is started by vmruntime")
		os.Exit(2)
	}
}

// libvirt is the driver that shims use.
type libvirt struct{}

func (libvirt) Version() (uint32, error) { return driver.Version() }

func (libvirt) Trim() { driver.Trim() }

// Boot keeps a nil *driver.Machine from becoming a shim.Machine that is not nil.
func (libvirt) Boot(uri, root string, c vm.Config) (shim.Machine, error) {
	m, err := driver.Boot(uri, root, c)
	if err != nil {
		return nil, err
	}
	return m, nil
}
