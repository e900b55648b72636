package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"vmruntime": func() { os.Exit(run(os.Args)) },
	})
}

// TestScripts runs the scenarios of the command line that need no VM.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			// Engines give a runtime nothing but PATH.
			e.Vars = []string{"PATH=" + e.Getenv("PATH"), "WORK=" + e.WorkDir, "VMRUNTIME_CONFIG=" + e.WorkDir + "/config.toml"}
			return os.WriteFile(e.WorkDir+"/config.toml", []byte("guest = \"/nowhere\"\n"), 0o600)
		},
	})
}
