package agent

import (
	"os"
	"runtime"
	"testing"
)

// The tests' binary is its own stage.
func init() {
	if IsStage() {
		runtime.LockOSThread()
		os.Exit(stageMain())
	}
}

func TestMain(m *testing.M) {
	os.Exit(m.Run())
}
