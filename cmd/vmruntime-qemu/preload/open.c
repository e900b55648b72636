/*
 * For clones. QEMU before 9.0 opens the file behind the
 * guest's memory for writing even where it maps it privately, which the read-only
 * mount that it sees the file through refuses. Here it is opened for reading.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static int flags_for(const char *path, int flags)
{
	const char *memory = getenv("VMRUNTIME_MEMORY");

	if (memory && strcmp(path, memory) == 0)
		return (flags & ~O_ACCMODE) | O_RDONLY;
	return flags;
}

int open64(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode = 0;

	if (__OPEN_NEEDS_MODE(flags)) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	return openat64(AT_FDCWD, path, flags_for(path, flags), mode);
}

/* What open64 with two arguments is in a fortified program. */
int __open64_2(const char *path, int flags)
{
	return openat64(AT_FDCWD, path, flags_for(path, flags));
}

int open(const char *path, int flags, ...) __attribute__((alias("open64")));
int __open_2(const char *path, int flags) __attribute__((alias("__open64_2")));
