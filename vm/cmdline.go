package vm

import "strings"

// Cmdline is the guest kernel's command line, with further words at its end.
func Cmdline(a Accelerator, words ...string) string {
	line := []string{
		"console=ttyS0", "quiet",
		"panic=-1", // reset at once, which ends the machine
		"cgroup_no_v1=all",
		"cryptomgr.notests",                     // 0.35 s of self-tests under emulation
		"initcall_blacklist=crypto_kdf108_init", // nothing but another one
		"no_timer_check",                        // a loaded host misses the ticks that it counts
		"noreplace-smp",                         // 0.1 s of code patching for one CPU
		"rcupdate.rcu_expedited=1",              // mounts and namespaces do not wait for RCU
		"noautogroup",                           // sessions are no desktop's: containers have cgroups
		"random.trust_cpu=on",
		"8250.nr_uarts=1",
		"i8042.noaux", "i8042.nokbd", "i8042.nopnp", // no keyboard to look for
	}
	// What is no parameter of the kernel's gets into the environment of its first process. A
	// heap of huge pages is megabytes that each clone writes to, and keeps.
	godebug := "disablethp=1"
	if a == TCG {
		// The kernel compares it with ticks, which a loaded host delivers too few of, and
		// would take a clock for good that costs a system call and a turn to QEMU. With
		// KVM the host has judged its own.
		line = append(line, "tsc=reliable")
		// QEMU keeps what it has translated by address: at random ones it would translate
		// the dynamic loader and libc again for each program that starts.
		line = append(line, "norandmaps")
		// The agent's goroutines yield by themselves: a signal for it is much more to translate.
		godebug += ",asyncpreemptoff=1"
	}
	line = append(line, "GODEBUG="+godebug)
	return strings.Join(append(line, words...), " ")
}
