package agent

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// personalities are the execution domains of the specification by their PER_* of
// linux/personality.h.
var personalities = map[specs.LinuxPersonalityDomain]uintptr{specs.PerLinux: 0x0000, specs.PerLinux32: 0x0008}

// setPersonality sets linux.personality for the calling thread.
func setPersonality(p *specs.LinuxPersonality) error {
	if p == nil {
		return nil
	}
	domain, ok := personalities[p.Domain]
	if !ok {
		return fmt.Errorf("linux.personality.domain: %q is unknown", p.Domain)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, domain, 0, 0); errno != 0 {
		return fmt.Errorf("linux.personality: %w", errno)
	}
	return nil
}
