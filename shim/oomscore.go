package shim

import (
	"fmt"
	"os"
	"strconv"
)

// scoreOOM has the host's OOM killer judge a process as the container's own is
// judged: without that it would be spared as the engine is that has started it. A
// host that does not let us spare it is obeyed.
func (p Plan) scoreOOM(pid int) {
	if adj := p.Container.Spec.Process.OOMScoreAdj; adj != nil {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(*adj)), 0)
	}
}

// spareSelf leaves nobody who is killed rather than the victim.
func spareSelf() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("0"), 0) }
