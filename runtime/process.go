package runtime

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// processStart is when a process started, in clock ticks since the boot: with
// the pid it names the process for good. A zombie has ended.
func processStart(pid int) (uint64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may contain anything; field 3 follows it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("process %d: unexpected stat", pid)
	}
	if state := fields[0]; state == "Z" || state == "X" {
		return 0, os.ErrProcessDone
	}
	return strconv.ParseUint(fields[22-3], 10, 64)
}

// alive tells whether the shim of the record still runs.
func (r record) alive() bool {
	if r.PID == 0 {
		return false
	}
	start, err := processStart(r.PID)
	return err == nil && start == r.PIDStart
}

// awaitEnd waits until the shim has ended, or ctx has.
func (r record) awaitEnd(ctx context.Context) {
	for r.alive() && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
}

// writePIDFile tells the pid to who asked for it: digits without a newline, and
// never half of them.
func writePIDFile(path string, pid int) error {
	if path == "" {
		return nil
	}
	if err := replaceFile(path, []byte(strconv.Itoa(pid)), 0o644); err != nil {
		return fmt.Errorf("pid file %s %s", path, reason(err))
	}
	return nil
}
