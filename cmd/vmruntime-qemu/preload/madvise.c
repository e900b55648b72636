/*
 * QEMU asks for huge pages for each block of the guest's memory. The one for ACPI
 * tables has 2 MiB, and some KiB in it: a huge page would be kept for those, also where
 * the host gives them without being asked.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HUGE_PAGE (2 << 20)

int madvise(void *address, size_t length, int advice)
{
	if (advice == MADV_HUGEPAGE && length <= HUGE_PAGE)
		advice = MADV_NOHUGEPAGE;
	return syscall(SYS_madvise, address, length, advice);
}
