/* SPDX-License-Identifier: Apache-2.0 */
#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_TRIES = 3 };

static uint64_t
nanoseconds(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000000000U + (uint64_t)t->tv_nsec;
}

static struct file_identity
identity_of(const struct stat *s)
{
	return (struct file_identity){
		.device = s->st_dev,
		.inode = s->st_ino,
		.size = (uint64_t)s->st_size,
		.modified_ns = nanoseconds(&s->st_mtim),
		.changed_ns = nanoseconds(&s->st_ctim),
	};
}

struct file_identity
file_look(const char *path)
{
	struct stat s;

	return stat(path, &s) == 0 ? identity_of(&s) : (struct file_identity){ 0 };
}

bool
file_identity_eq(const struct file_identity *a, const struct file_identity *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

/* The bytes of an open file, or NULL with errno; EBUSY where it was not what it was before. */
static char *
read_open(int fd, size_t size_max, size_t *size, struct file_identity *identity)
{
	struct stat before, after;
	size_t done = 0;

	if (fstat(fd, &before) != 0)
		return NULL;
	if (!S_ISREG(before.st_mode) || (uint64_t)before.st_size > size_max) {
		errno = S_ISREG(before.st_mode) ? EFBIG : EINVAL;
		return NULL;
	}
	*size = (size_t)before.st_size;
	*identity = identity_of(&before);
	char *data = malloc(*size + 1);
	while (data != NULL && done < *size) {
		ssize_t n = read(fd, data + done, *size - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (data != NULL && done == *size && fstat(fd, &after) == 0) {
		struct file_identity now = identity_of(&after);
		if (file_identity_eq(&now, identity))
			return data;
		errno = EBUSY;
	} else if (data != NULL && done < *size && errno == 0) {
		errno = EBUSY; /* it became shorter */
	}
	free(data);
	return NULL;
}

char *
file_read(const char *path, size_t size_max, size_t *size, struct file_identity *identity)
{
	char *data = NULL;

	for (unsigned i = 0; i < READ_TRIES && data == NULL; i++) {
		/* Without O_NONBLOCK a pipe would stop the thread before it is seen to be one. */
		int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0)
			return NULL;
		errno = 0;
		data = read_open(fd, size_max, size, identity);
		int error = errno;
		close(fd);
		errno = error;
		if (data == NULL && error != EBUSY)
			return NULL;
	}
	return data;
}

static bool
write_all(int fd, struct span bytes)
{
	while (bytes.size > 0) {
		ssize_t n = write(fd, bytes.data, bytes.size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		bytes = span_after(bytes, (size_t)n);
	}
	return fsync(fd) == 0;
}

static bool
sync_directory_of(const char *path)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int size = slash == NULL ? 0 : (int)(slash - path) + 1;

	snprintf(directory, sizeof directory, "%.*s.", size, path);
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool good = fsync(fd) == 0;
	close(fd);
	return good;
}

bool
file_replace(const char *path, struct span bytes)
{
	char beside[PATH_MAX];

	if (snprintf(beside, sizeof beside, "%s.new", path) >= (int)sizeof beside) {
		errno = ENAMETOOLONG;
		return false;
	}
	int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	bool good = write_all(fd, bytes);
	good = close(fd) == 0 && good;
	if (good && rename(beside, path) == 0)
		return sync_directory_of(path);
	int error = errno;
	unlink(beside);
	errno = error;
	return false;
}

bool
file_is_private(const char *path, struct buf *why)
{
	struct stat s;

	if (stat(path, &s) != 0 || (s.st_mode & (S_IRWXG | S_IRWXO)) == 0)
		return true;
	buf_printf(why, "%s: others than its owner may read or write it (mode %03o): chmod 600 %s",
		   path, (unsigned)s.st_mode & 07777, path);
	return false;
}
