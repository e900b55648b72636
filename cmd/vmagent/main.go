// Command vmagent is vmruntime inside the VM: PID 1 of its guest, or a service
// of another guest's init.
package main

import (
	"os"
	"runtime"

	"github.com/vmruntime/vmruntime/agent"
)

// build is what the host is told. It is no version: equal sources give an equal
// agent, which the sum in guest.json identifies.
const build = "devel"

func init() {
	if agent.IsStage() {
		runtime.LockOSThread()
	}
}

func main() {
	os.Exit(agent.Main(build))
}
