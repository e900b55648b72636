package main

// kinds are all rows, in the order of the page.
var kinds = []kind{
	{
		name: "start", title: "Start", measure: measureStart, picture: ofValues,
		about: `A container whose process is ` + "`true`" + `, from the start of the command to its exit. *Cold*: the machine boots; *warm*: it is
a clone of a template.

* **QEMU boot**: QEMU alone boots the same kernel and initramfs with the same firmware to power-off, without a container: the limit of a cold start.
* **QEMU boot and run**: QEMU alone, with all devices of the container, boots and runs it to the end of its process: what is left to QEMU and the guest.
* **QEMU boot, vmlinuz**: the same with the compressed kernel as Debian ships it.
* **QEMU clone**: QEMU alone clones the same template; seed and share are prepared before. The clock stops when the
  agent has told the exit of the container's process: the limit of a warm start.
* **libvirt clone**: a program that does the same through libvirt's embedded driver.`,
	},
	{
		name: "exec", title: "Exec", measure: measureExec, picture: ofValues,
		about: "`exec` of `true` in a running container, from the start of the command to its exit. Five per round.",
	},
	{
		name: "exit", title: "Exit and delete", measure: measureExit, picture: ofValues,
		about: `How long after a container's process has said its last words its end is known on the host: that is when the process exits whose
pid is in the pid file. Those words are its clock's time, a bash's $EPOCHREALTIME, and it exits at once. Before that it has told its time
twenty times: each was between the question and the answer, which bounds how far its clock can be ahead of the host's. The exit is counted
from the earliest moment that this allows, so the true time is shorter, by no more than the **uncertainty**. It has in it all that a process
does at its end: bash's own clean-up, and the kernel's, which gives back its memory and closes its files. ` + "`delete`" + ` follows at once.`,
	},
	{
		name: "density", title: "Density", measure: measureDensity, picture: ofStacks,
		about: `Memory of idle containers (` + "`sleep`" + `) on the host: the proportional set size (PSS) of QEMU and shim, from
` + "`/proc/PID/smaps_rollup`" + `. A page that several processes map counts for each by its part. *One more* is the slope
from 1 to 10 and from 10 to 50 containers. The guest's RAM is part of QEMU's; the spread is that of the containers, measured once.`,
	},
	{
		name: "stdio", title: "Streams", measure: measureStdio, picture: ofValues,
		about: "128 MiB through a container's `cat`, stdin to stdout, and 128 MiB from `head -c` out of one. **Raw copy**: a bare QEMU with the same\n" +
			"virtio-serial device, whose PID 1 does nothing but read and write between the port and the pipes of the same program from the same root\n" +
			"filesystem; outside, the port's socket is copied from and to pipes as the shim does it. It stays for all turns, each container is a new clone.",
	},
	{
		name: "files", title: "Files", measure: measureFiles, picture: ofRatios,
		about: `fio in the root filesystem and in a bind-mounted volume: three seconds each of sequential (1 MiB) and random (4 KiB) access to
16 MiB that are in the host's page cache, and 1000 small files created, asked for and removed; the jobs are in
[files.fio](../../bench/files.fio). **QEMU, same share**: a bare QEMU whose only program is fio, the same directory behind the same
9p device with the same mount options, queues served as QEMU does it when it is not told; **same share and queues**: served as the container's
are ([latency.md](../latency.md#what-qemu-does-for-each-question)). All stay, and take turns at each job.`,
	},
	{
		name: "ways", title: "Ways", measure: measureWays, picture: ofPanels,
		about: `The same container in every way that a machine can boot and reach its files: from the start of ` + "`run`" + ` of ` + "`true`" + ` to its exit; the
proportional set size (PSS) of all processes of an idle one; and fio's jobs, as above, in the root filesystem. *Warm* machines are clones of
a template, all others boot. **Base image** boots Debian's own system with cloud-init ([base-image.md](../base-image.md)); **block** is a
root filesystem on disks that are there already ([block.md](../block.md)); the **self-booting disk** is a plain QEMU without vmruntime, from
its start to power-off ([disk.md](../disk.md)).`,
	},
	{
		name: "network", title: "Network", measure: measureNetwork, picture: ofValues,
		about: `One TCP connection between the host and an iperf3 in the container, over a veth pair, three seconds each way. **QEMU, same tap**:
a bare QEMU with the same kernel and virtio-net device whose only program is iperf3; its tap is in a network namespace, connected with the
veth pair as vmruntime connects its own.`,
	},
	{
		name: "engines", title: "Engines", measure: measureEngines, picture: ofValues,
		about: "`docker run --rm busybox true` and `podman run --rm busybox true`, from the start of the command to its exit, with runc and with\n" +
			"vmruntime, whose machines are clones of a template. The engines are those of [hack/engines.sh](../../hack/engines.sh).",
	},
}
