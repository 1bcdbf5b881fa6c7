/* SPDX-License-Identifier: Apache-2.0
 *
 * The real disk behind disk.h. All calls are the plain, blocking ones.
 */
#include "core/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/base/assert.h"

enum { PIECE_MAX = 1 << 30 }; /* the kernel moves at most 2 GiB less a page in one call */

int
disk_open_directory(int directory, const char *path, bool create)
{
	if (create && mkdirat(directory, path, 0700) != 0 && errno != EEXIST)
		return -errno;
	int fd = openat(directory, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 ? fd : -errno;
}

int
disk_open(int directory, const char *path, int flags, mode_t mode, bool *direct)
{
	int fd = -1;

	flags |= O_CLOEXEC;
	if (*direct) {
		fd = openat(directory, path, flags | O_DIRECT, mode);
		if (fd >= 0 || errno != EINVAL)
			return fd >= 0 ? fd : -errno;
		/* The file system has no O_DIRECT. The failed call may have created the file, so
		 * O_EXCL must not be asked for again. */
		*direct = false;
		flags &= ~O_EXCL;
	}
	fd = openat(directory, path, flags, mode);
	return fd >= 0 ? fd : -errno;
}

void
disk_close(int fd)
{
	int failed = close(fd);
	ASSERT(failed == 0 || errno != EBADF);
}

bool
disk_lock(int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

enum err
disk_list(int directory, disk_name_fn on_name, void *context)
{
	/* A descriptor of its own: closedir closes it, and it has a position of its own. */
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (d == NULL) {
		enum err e = err_of_errno(errno);
		if (fd >= 0)
			close(fd);
		return e;
	}
	errno = 0;
	while ((entry = readdir(d)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			on_name(context, entry->d_name);
		errno = 0; /* at the end of the list it tells the end from an error */
	}
	enum err e = err_of_errno(errno);
	closedir(d);
	return e;
}

int64_t
disk_size(int fd)
{
	struct stat about;
	return fstat(fd, &about) == 0 ? (int64_t)about.st_size : -errno;
}

enum err
disk_read(int fd, void *data, size_t size, uint64_t offset)
{
	uint8_t *to = data;

	while (size > 0) {
		ssize_t n = pread(fd, to, size < PIECE_MAX ? size : PIECE_MAX, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_of_errno(errno);
		if (n == 0)
			return ERR_CORRUPT;
		to += n;
		size -= (size_t)n;
		offset += (size_t)n;
	}
	return ERR_OK;
}

enum err
disk_write_durable(int fd, const void *data, size_t size, uint64_t offset)
{
	const uint8_t *from = data;

	while (size > 0) {
		struct iovec piece = { (void *)(uintptr_t)from,
				       size < PIECE_MAX ? size : PIECE_MAX };
		ssize_t n = pwritev2(fd, &piece, 1, (off_t)offset, RWF_DSYNC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? err_of_errno(errno) : ERR_STORAGE;
		from += n;
		size -= (size_t)n;
		offset += (size_t)n;
	}
	return ERR_OK;
}

static enum err
err_of_call(int result)
{
	return result == 0 ? ERR_OK : err_of_errno(errno);
}

enum err
disk_unlink(int directory, const char *path)
{
	return err_of_call(unlinkat(directory, path, 0));
}

enum err
disk_rename(int from_directory, const char *from, int to_directory, const char *to)
{
	return err_of_call(renameat(from_directory, from, to_directory, to));
}

enum err
disk_sync_directory(int directory)
{
	return err_of_call(fsync(directory));
}

enum err
disk_space(int directory, uint64_t *free_bytes, uint64_t *total_bytes)
{
	struct statvfs about;

	if (fstatvfs(directory, &about) != 0)
		return err_of_errno(errno);
	*free_bytes = (uint64_t)about.f_bavail * about.f_frsize;
	*total_bytes = (uint64_t)about.f_blocks * about.f_frsize;
	return ERR_OK;
}

bool
disk_is_volatile(int directory)
{
	struct statfs about;

	if (fstatfs(directory, &about) != 0)
		return false;
	switch (about.f_type) {
	case TMPFS_MAGIC:
	case RAMFS_MAGIC:
	case OVERLAYFS_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}
