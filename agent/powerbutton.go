package agent

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// stopSignal is the image's, among the annotations of its specification's
	// conversion.md.
	stopSignal = "org.opencontainers.image.stopSignal"
	// stopTimeout is how long a container has after the power button.
	stopTimeout = 30 * time.Second

	// Of linux/input-event-codes.h: type, code and value of a press.
	evKey, keyPower, pressed = 1, 116, 1
	// inputEvent is the size of struct input_event in bytes.
	inputEvent = 24
)

// heedPowerButton stops the container when somebody asks the machine to shut down,
// as virsh shutdown and openstack server stop do.
func (c *container) heedPowerButton(out *console) {
	button := powerButton("/sys/class/input")
	if button == "" {
		return
	}
	file, err := os.Open(button)
	if err != nil {
		return
	}
	defer file.Close()
	awaitPress(file)
	signal := signalOf(c.config.Spec.Annotations[stopSignal])
	out.say("shutting down: signal %d, SIGKILL in %v", int(signal), stopTimeout)
	_ = c.signal("", signal)
	time.Sleep(stopTimeout)
	_ = c.signal("", unix.SIGKILL)
}

// powerButton is the event device of ACPI's.
func powerButton(class string) string {
	names, _ := filepath.Glob(filepath.Join(class, "event*", "device", "name"))
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(text)) == "Power Button" {
			return "/dev/input/" + filepath.Base(filepath.Dir(filepath.Dir(name)))
		}
	}
	return ""
}

// awaitPress returns when the button was pressed; without one it never does.
func awaitPress(events io.Reader) {
	event := make([]byte, inputEvent)
	for {
		if _, err := io.ReadFull(events, event); err != nil {
			select {}
		}
		// Behind the time, 16 bytes.
		kind, code := binary.NativeEndian.Uint16(event[16:]), binary.NativeEndian.Uint16(event[18:])
		if kind == evKey && code == keyPower && binary.NativeEndian.Uint32(event[20:]) == pressed {
			return
		}
	}
}

// signalOf reads what an image says, such as SIGQUIT, QUIT or 3.
func signalOf(text string) unix.Signal {
	if n, err := strconv.Atoi(text); err == nil && 0 < n && n <= 64 {
		return unix.Signal(n)
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return n
	}
	return unix.SIGTERM
}
