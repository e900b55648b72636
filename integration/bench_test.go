package integration

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// probeWord has the guest power off once its modules are loaded.
const probeWord = "vmruntime.probe"

// BenchmarkCold compares the run of true with what nobody can do without: the
// same kernel and initramfs, booted by QEMU alone, to power-off. The two take
// turns, so that a busy machine is as hard on one as on the other.
//
//	go test -tags libvirt_dlopen -run xxx -bench Cold ./integration
func BenchmarkCold(b *testing.B) {
	needVM(b)
	r := cold(b)
	bare := bareBoot(b, r)
	bundle := r.bundle(b)
	var runs, boots []time.Duration
	for range max(b.N, 10) {
		boots = append(boots, timed(b, exec.Command(bare[0], bare[1:]...)))
		cmd, _ := r.command(b, "run", "--bundle", bundle, r.newID(b))
		runs = append(runs, timed(b, cmd))
	}
	ratios := make([]float64, len(runs))
	for i := range runs {
		ratios[i] = runs[i].Seconds() / boots[i].Seconds()
	}
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(0, "ns/op")
	// Not b.Log, which stops after a few lines.
	fmt.Printf("\nrun of true   %s\n", spread(runs))
	fmt.Printf("bare QEMU     %s\n", spread(boots))
	fmt.Printf("ratio         median %.2f, %.2f to %.2f; at most 1.5 is the aim\n", median(ratios), slices.Min(ratios), slices.Max(ratios))
}

// bareBoot is the QEMU command that boots what a container's machine boots, with
// as much memory and as many CPUs, and nothing else. It also warms the caches.
func bareBoot(b *testing.B, r runtime) []string {
	b.Helper()
	c := r.create(b, r.bundle(b, idle), options{})
	machine := commandLine(qemuOf(b, c))
	c.end(b)
	command := []string{"qemu-system-x86_64", "-machine", "q35", "-nodefaults", "-no-user-config", "-no-reboot",
		"-display", "none", "-serial", "null"}
	for _, option := range []string{"-accel", "-cpu", "-m", "-smp", "-kernel", "-initrd", "-append"} {
		i := slices.Index(machine, option)
		if i < 0 {
			b.Fatalf("the machine has no %s: %q", option, machine)
		}
		value := machine[i+1]
		if option == "-append" {
			value += " " + probeWord
		}
		command = append(command, option, value)
	}
	b.Logf("$ %s", shellLine(command[0], command[1:]))
	return command
}

func timed(b *testing.B, cmd *exec.Cmd) time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", shellLine(cmd.Path, cmd.Args[1:]), err, out)
	}
	return time.Since(begin)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func spread(times []time.Duration) string {
	seconds := make([]float64, len(times))
	for i, t := range times {
		seconds[i] = t.Seconds()
	}
	return fmt.Sprintf("median %.2f s, %.2f to %.2f s, %d times", median(seconds), slices.Min(seconds), slices.Max(seconds), len(times))
}
