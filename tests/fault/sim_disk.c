/* SPDX-License-Identifier: Apache-2.0
 *
 * Descriptors, and core/disk.h over the simulated files. Every change that recovery makes is a
 * point at which it may crash, too.
 */
#include "core/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_files.h"
#include "tests/fault/sim_machine.h"
#include "tests/fault/sim_net.h"

enum { FIRST_HANDLE = 1000 };

static struct sim_handle *handles;
static size_t handle_count;
static size_t handle_places;

int
sim_handle_new(struct sim_handle handle)
{
	if (handle_count == handle_places) {
		handle_places = handle_places == 0 ? 64 : 2 * handle_places;
		handles = realloc(handles, handle_places * sizeof *handles);
		ASSERT(handles != NULL);
	}
	if (handle.kind == SIM_HANDLE_FILE)
		sim_file_open(handle.file);
	handle.node = world->node;
	handles[handle_count] = handle;
	return (int)(FIRST_HANDLE + handle_count++);
}

struct sim_handle *
sim_handle(int fd)
{
	if (fd < FIRST_HANDLE || fd >= (int)(FIRST_HANDLE + handle_count) ||
	    handles[fd - FIRST_HANDLE].kind == SIM_HANDLE_CLOSED)
		sim_fail("use of descriptor %d, which is not open", fd);
	return &handles[fd - FIRST_HANDLE];
}

struct sim_file *
sim_handle_file(int fd)
{
	struct sim_handle *h = sim_handle(fd);

	if (h->kind != SIM_HANDLE_FILE)
		sim_fail("descriptor %d is no file", fd);
	return h->file;
}

void
sim_handle_close(int fd)
{
	struct sim_handle *h = sim_handle(fd);

	switch (h->kind) {
	case SIM_HANDLE_FILE:
		if (h->locked)
			sim_file_unlock(h->file);
		sim_file_close(h->file);
		break;
	case SIM_HANDLE_SOCKET:
		sim_socket_put(h->socket);
		break;
	case SIM_HANDLE_LISTENER:
		sim_listener_close(h->listener);
		break;
	case SIM_HANDLE_CLOSED:
		break;
	}
	h->kind = SIM_HANDLE_CLOSED;
}

void
sim_handles_kill(unsigned node)
{
	for (size_t i = 0; i < handle_count; i++)
		if (handles[i].kind != SIM_HANDLE_CLOSED && handles[i].node == node)
			sim_handle_close((int)(FIRST_HANDLE + i));
}

void
sim_handles_check_closed(void)
{
	for (size_t i = 0; i < handle_count; i++)
		if (handles[i].kind != SIM_HANDLE_CLOSED)
			sim_fail("descriptor %zu (kind %d) was not closed", FIRST_HANDLE + i,
				 (int)handles[i].kind);
}

static struct sim_file *
directory_of(int fd)
{
	struct sim_file *d = fd == AT_FDCWD ? sim_files_root(world->files) : sim_handle_file(fd);

	if (!sim_file_is_directory(d))
		sim_fail("descriptor %d is no directory", fd);
	return d;
}

static void
check_name(int directory, const char *path)
{
	if (directory != AT_FDCWD && strchr(path, '/') != NULL)
		sim_fail("a path below a directory has slashes: %s", path);
}

int
sim_open(int directory, const char *path, int flags)
{
	struct sim_file *d = directory_of(directory);
	struct sim_file *f = sim_name_find(d, path);

	check_name(directory, path);
	if (f == NULL && !(flags & O_CREAT))
		return -ENOENT;
	if (f != NULL && (flags & O_CREAT) && (flags & O_EXCL))
		return -EEXIST;
	if (f != NULL && !sim_file_is_directory(f) && (flags & O_DIRECTORY))
		return -ENOTDIR;
	if (f == NULL) {
		if (sim_files_free_pages(world->files) == 0)
			return -ENOSPC;
		f = sim_name_create(d, path, false);
	} else if (flags & O_TRUNC) {
		sim_file_truncate(f, 0);
	}
	return sim_handle_new((struct sim_handle){
		.kind = SIM_HANDLE_FILE,
		.file = f,
		.direct = (flags & O_DIRECT) != 0,
		.writable = (flags & O_ACCMODE) != O_RDONLY,
	});
}

/* ---- core/disk.h ---- */

int
disk_open_directory(int directory, const char *path, bool create)
{
	struct sim_file *d = directory_of(directory);
	struct sim_file *f = sim_name_find(d, path);

	check_name(directory, path);
	if (f == NULL && !create)
		return -ENOENT;
	if (f == NULL) {
		f = sim_name_create(d, path, true);
		sim_completed();
	}
	if (!sim_file_is_directory(f))
		return -ENOTDIR;
	return sim_handle_new((struct sim_handle){ .kind = SIM_HANDLE_FILE, .file = f });
}

int
disk_open(int directory, const char *path, int flags, mode_t mode, bool *direct)
{
	(void)mode;
	if (*direct)
		flags |= O_DIRECT;
	else
		flags &= ~O_DIRECT;
	int fd = sim_open(directory, path, flags);
	if (flags & (O_CREAT | O_TRUNC))
		sim_completed();
	return fd;
}

void
disk_close(int fd)
{
	sim_handle_close(fd);
}

bool
disk_lock(int fd)
{
	struct sim_handle *h = sim_handle(fd);

	if (h->locked)
		return true;
	return h->locked = sim_file_lock(sim_handle_file(fd));
}

struct listing {
	disk_name_fn on_name;
	void *context;
};

static void
list_one(void *context, const char *name)
{
	struct listing *l = context;

	l->on_name(l->context, name);
}

enum err
disk_list(int directory, disk_name_fn on_name, void *context)
{
	struct listing l = { on_name, context };

	sim_name_list(directory_of(directory), list_one, &l);
	return ERR_OK;
}

int64_t
disk_size(int fd)
{
	return (int64_t)sim_file_size(sim_handle_file(fd));
}

enum err
disk_read(int fd, void *data, size_t size, uint64_t offset)
{
	struct sim_file *f = sim_handle_file(fd);

	if (sim_chance(world->faults.read_error))
		return err_of_errno(EIO);
	return sim_file_read(f, data, size, offset) == size ? ERR_OK : ERR_CORRUPT;
}

enum err
disk_write_durable(int fd, const void *data, size_t size, uint64_t offset)
{
	struct sim_file *f = sim_handle_file(fd);

	if (sim_chance(world->faults.write_error)) {
		sim_file_write_torn(f, data, size, offset);
		sim_completed();
		return err_of_errno(EIO);
	}
	if (sim_chance(world->faults.no_space) || sim_file_write(f, data, size, offset) < size)
		return err_of_errno(ENOSPC);
	sim_completed(); /* written, and not durable yet */
	if (world->plant != SIM_PLANT_FILE_SYNC)
		sim_file_sync_range(f, offset, size);
	sim_completed();
	return ERR_OK;
}

enum err
disk_unlink(int directory, const char *path)
{
	check_name(directory, path);
	int r = sim_name_unlink(directory_of(directory), path);
	sim_completed();
	return r == 0 ? ERR_OK : err_of_errno(r);
}

enum err
disk_rename(int from_directory, const char *from, int to_directory, const char *to)
{
	check_name(from_directory, from);
	check_name(to_directory, to);
	int r = sim_name_rename(directory_of(from_directory), from, directory_of(to_directory), to);
	sim_completed();
	return r == 0 ? ERR_OK : err_of_errno(r);
}

enum err
disk_sync_directory(int directory)
{
	struct sim_file *d = directory_of(directory);

	if (sim_chance(world->faults.sync_error))
		return err_of_errno(EIO);
	if (world->plant != SIM_PLANT_DIRECTORY_SYNC)
		sim_directory_sync(d);
	sim_completed();
	return ERR_OK;
}

enum err
disk_space(int directory, uint64_t *free_bytes, uint64_t *total_bytes)
{
	(void)directory_of(directory);
	*free_bytes = sim_files_free_pages(world->files) * SIM_PAGE;
	*total_bytes = sim_files_pages(world->files) * SIM_PAGE;
	return ERR_OK;
}

bool
disk_is_volatile(int directory)
{
	(void)directory_of(directory);
	return false;
}
