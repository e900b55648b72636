package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// What the agent does to its own threads stays with it.
func testTimerSlack(t *testing.T, g *guest) {
	config := g.config(shell("cat /proc/self/timerslack_ns; read -r end"))
	init := g.container(config)
	g.start(config.ID)
	further := g.exec(config.ID, "further", shell("cat /proc/self/timerslack_ns"))
	if code := further.end(); code != 0 || further.stdout.String() != "50000\n" {
		t.Errorf("exec: code %d, slack %q", code, &further.stdout)
	}
	init.stdin.Close()
	init.end()
	if init.stdout.String() != "50000\n" {
		t.Errorf("init: slack %q", &init.stdout)
	}
}

func TestSlowMonitor(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("no CAP_SYS_NICE: run it as root")
	}
	slowMonitor()
	tasks, err := os.ReadDir("/proc/self/task")
	must(t, err)
	var slow []string
	for _, task := range tasks {
		if text, err := os.ReadFile("/proc/" + task.Name() + "/timerslack_ns"); err == nil && strings.TrimSpace(string(text)) == fmt.Sprint(monitorSlack) {
			slow = append(slow, task.Name())
		}
	}
	// One that the monitor has started may be as slow.
	if len(slow) == 0 || len(slow) == len(tasks) {
		t.Errorf("of %d threads these are slow: %v", len(tasks), slow)
	}
}
