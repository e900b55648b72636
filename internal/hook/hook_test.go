package hook

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func shell(script string) specs.Hook {
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin", "X=y"}}
}

func TestHooks(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOOK_TEST", "ours")
	state := specs.State{Version: "1.3.0", ID: "c", Pid: 42, Bundle: dir, Status: specs.StateCreating}
	one := 1
	late := shell("sleep 60 & sleep 60")
	late.Timeout = &one
	tests := map[string]struct {
		hooks []specs.Hook
		want  string
	}{
		"good":      {[]specs.Hook{shell(`cat > state; echo $X > env; pwd > cwd`)}, ""},
		"failing":   {[]specs.Hook{shell("true"), shell("echo out; echo err >&2; exit 3")}, `error running prestart hook #1: /bin/sh: exit status 3, output: "out\nerr"`},
		"missing":   {[]specs.Hook{{Path: "/nowhere"}}, "error running prestart hook #0: /nowhere does not exist"},
		"late":      {[]specs.Hook{late}, "error running prestart hook #0: /bin/sh did not end within 1s"},
		"inherited": {[]specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `test "$HOOK_TEST" = ours`}}}, ""},
		"empty":     {[]specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `test -z "$HOOK_TEST"`}, Env: []string{}}}, ""},
		// What stays in the background must not hold up the container.
		"daemon": {[]specs.Hook{shell("sleep 60 &")}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			err := List{"prestart", test.hooks}.Run(t.Context(), dir, state)
			if time.Since(begin) > 20*time.Second {
				t.Error("waited too long")
			}
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || err.Error() != test.want):
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	for file, want := range map[string]string{"state": `"pid":42`, "env": "y", "cwd": dir} {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %q %v", file, text, err)
		}
	}
}
