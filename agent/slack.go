package agent

import (
	"fmt"
	"os"
	"slices"
	"strconv"
)

// What PR_SET_TIMERSLACK of prctl(2) speaks of: how much later than asked for the kernel may
// wake a thread that sleeps, in nanoseconds. What a process forks has the same.
const (
	// defaultSlack is that of a process which asks for nothing else.
	defaultSlack = 50_000
	// monitorSlack is two ticks of the kernel.
	monitorSlack = 8_000_000
)

// slowMonitor lets the thread that watches over Go's scheduler (sysmon) sleep for a tick or two
// where it asks for 20 microseconds. It does so hundreds of times for one exec, and without
// KVM each is as long as a turn to the host. A thread that it starts gets the same slack,
// so every process of a container is given the default one. Where it fails, all takes longer.
func slowMonitor() {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	var threads []int
	for _, task := range tasks {
		if tid, err := strconv.Atoi(task.Name()); err == nil {
			threads = append(threads, tid)
		}
	}
	if len(threads) < 2 {
		return
	}
	// The runtime starts it next to the main thread, before any other.
	slices.Sort(threads)
	_ = writeFile(fmt.Sprintf("/proc/%d/timerslack_ns", threads[1]), strconv.Itoa(monitorSlack))
}
