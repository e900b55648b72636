// Command init is the smallest guest: it loads the modules of its initramfs,
// says what it found on the console and powers off.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	defer func() { _ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) }()
	begin := time.Now()
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		fmt.Println("init:", err)
		return
	}
	for name := range strings.FieldsSeq(string(order)) {
		start := time.Now()
		if err := load("/modules/" + name); err != nil {
			fmt.Println("init:", name, err)
			return
		}
		if os.Getenv("TIMES") != "" {
			fmt.Println("init:", name, time.Since(start))
		}
	}
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	fmt.Println("init:", len(strings.Fields(string(order))), "modules loaded in", time.Since(begin), "uptime", time.Duration(up.Nano()))
}

func load(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return unix.FinitModule(int(file.Fd()), "", 0)
}
