package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmruntime/vmruntime/protocol"
)

// Whatever config.json says, there is a plan that fits into a message, or one
// sentence that no engine takes for another error.
func FuzzPlan(f *testing.F) {
	inputs, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, input := range inputs {
		text, err := os.ReadFile(input)
		if err != nil {
			f.Fatal(err)
		}
		if !strings.HasSuffix(input, ".plan.json") {
			f.Add(text)
		}
	}
	f.Add([]byte(validConfig))
	f.Add([]byte(linux(`"seccomp":{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`)))
	dir := f.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(filepath.Join(dir, specFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		size, err := planOf(dir)
		switch {
		case err != nil && engineText(err.Error()) && !engineText(string(text)):
			t.Errorf("an engine takes this for an error of the executable: %v", err)
		case size > protocol.MaxRequest:
			t.Errorf("the plan has %d bytes", size)
		}
	})
}

// planOf is the way of a create up to its plan, whose size it returns.
func planOf(dir string) (int, error) {
	b, err := LoadBundle(dir)
	if err != nil {
		return 0, err
	}
	if err := b.Validate(); err != nil {
		return 0, err
	}
	plan, err := Translate("fuzz", b, goldenConfig, goldenHost)
	if err != nil {
		return 0, err
	}
	text, err := json.Marshal(plan)
	return len(text), err
}

// engineText tells the texts by which engines recognise an executable that is
// missing or may not be run.
func engineText(message string) bool {
	return strings.Contains(message, "no such file or directory") || strings.Contains(message, "permission denied")
}
