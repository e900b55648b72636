package agent

import (
	"strings"
	"testing"
)

// A stage that is gone without a word most often had too little memory.
func TestStageIsGone(t *testing.T) {
	p := &process{exited: make(chan struct{}), code: 253}
	theirs, err := p.openControl()
	must(t, err)
	defer p.control.Close()
	must(t, theirs.Close())
	close(p.exited)
	if err := p.prepare(stageConfig{}); err == nil || !strings.HasSuffix(err.Error(), "status 253: is linux.resources.memory.limit too low?") {
		t.Error(err)
	}
}
