// Command vmagent-disk is PID 1 of a disk that boots by itself: vmagent, for a
// machine without vmruntime around it. It is a program of its own because it brings
// what others have no use for, and every container's start would pay for.
package main

import (
	"os"
	"runtime"

	"github.com/vmruntime/vmruntime/agent"
	"github.com/vmruntime/vmruntime/agent/cloud"
)

// build is a constant as vmagent's is: equal sources give an equal agent.
const build = "devel"

func init() {
	if agent.IsStage() {
		runtime.LockOSThread()
	}
}

func main() {
	os.Exit(agent.DiskMain(build, cloud.SetUp))
}
