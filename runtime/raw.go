package runtime

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// makeRaw makes a terminal pass every byte on unchanged, in both directions:
// the terminal inside the VM does the work. It returns what undoes it.
// console.SetRaw would leave the processing of output on.
func makeRaw(fd uintptr) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	// As cfmakeraw(3).
	raw := *before
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(fd), unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(int(fd), unix.TCSETS, before) }, nil
}
