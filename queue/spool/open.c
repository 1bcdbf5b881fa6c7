/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening the directory: lock, format, sizes; and closing it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/disk.h"
#include "queue/spool/internal.h"

/* 2: failed recipients are over, their notice is kept with their outcome. Of version 1 everything
 * is read, see record.h; what is written makes it version 2. */
enum { FORMAT_VERSION = 2, FORMAT_OLDEST = 1, SECTOR = 512 };

static const char format_text[] = "ringpost spool ";

/* ---- the directory ---- */

static bool
open_directories(struct spool *spool, struct buf *why)
{
	static const char *const names[] = { "segments", "files", "aside" };
	int *const fds[] = { &spool->segment_directory, &spool->file_directory,
			     &spool->aside_directory };
	const char *path = spool->options.spool_path;

	spool->directory = disk_open_directory(AT_FDCWD, path, false);
	if (spool->directory < 0) {
		buf_printf(why, "queue: %s: %s; make the directory and give it to this user", path,
			   strerror(-spool->directory));
		return false;
	}
	for (size_t i = 0; i < 3; i++) {
		*fds[i] = disk_open_directory(spool->directory, names[i], true);
		if (*fds[i] < 0) {
			buf_printf(why, "queue: %s/%s: %s; it must be writable", path, names[i],
				   strerror(-*fds[i]));
			return false;
		}
	}
	return true;
}

/* The names of the directory and of what is in it must outlive a crash, whoever made them when.
 * A parent that may not be read was not written by us either. */
static bool
sync_names(struct spool *spool, struct buf *why)
{
	struct span path = span_of_string(spool->options.spool_path);
	char parent[4096];

	while (path.size > 1 && path.data[path.size - 1] == '/')
		path.size--;
	while (path.size > 0 && path.data[path.size - 1] != '/')
		path.size--;
	struct buf text = buf_of(parent, sizeof parent - 1);
	buf_append(&text, path.size == 0 ? SPAN(".") : path);
	parent[text.size] = '\0';
	int fd = disk_open_directory(AT_FDCWD, parent, false);
	enum err error = fd < 0 ? ERR_OK : disk_sync_directory(fd);
	if (fd >= 0)
		disk_close(fd);
	if (error == ERR_OK)
		error = disk_sync_directory(spool->directory);
	if (error != ERR_OK)
		buf_printf(why, "queue: %s can not be synced: %s", spool->options.spool_path,
			   err_text(error));
	return error == ERR_OK;
}

static bool
lock(struct spool *spool, struct buf *why)
{
	bool direct = false;
	const char *path = spool->options.spool_path;

	spool->lock_fd = disk_open(spool->directory, "lock", O_RDWR | O_CREAT, 0600, &direct);
	if (spool->lock_fd < 0) {
		buf_printf(why, "queue: %s/lock: %s; the directory must be writable", path,
			   strerror(-spool->lock_fd));
		return false;
	}
	if (disk_lock(spool->lock_fd))
		return true;
	buf_printf(why, "queue: %s is in use by another process; one spool serves one relay", path);
	return false;
}

/* The line stands at the start of every sector, so that a flipped bit in one is outvoted. Written
 * under another name first: what is called `format` is whole. */
static bool
write_format(struct spool *spool, char *block)
{
	int fd = disk_open(spool->directory, "format.new", O_RDWR | O_CREAT, 0600, &spool->direct);

	if (fd < 0)
		return false;
	memset(block, '\n', SPOOL_BLOCK);
	for (size_t at = 0; at < SPOOL_BLOCK; at += SECTOR) {
		int n = snprintf(block + at, SECTOR, "%s%d", format_text, FORMAT_VERSION);
		block[at + (size_t)n] = '\n';
	}
	enum err error = disk_write_durable(fd, block, SPOOL_BLOCK, 0);
	disk_close(fd);
	if (error == ERR_OK)
		error = disk_rename(spool->directory, "format.new", spool->directory, "format");
	if (error == ERR_OK)
		error = disk_sync_directory(spool->directory);
	return error == ERR_OK;
}

/* The version that this sector names; 0: none. */
static uint64_t
version_at(const char *sector)
{
	struct span text = span_of(sector, SECTOR);
	struct span prefix = span_of_string(format_text);
	struct span line = span_first(text, span_find(text, '\n', 0));
	uint64_t version = 0;

	if (!span_starts_with(line, prefix) ||
	    !span_to_u64(span_after(line, prefix.size), &version))
		return 0;
	return version;
}

static bool
read_format(struct spool *spool, int fd, char *block, bool *is_older, struct buf *why)
{
	enum { SECTORS = SPOOL_BLOCK / SECTOR };
	const char *path = spool->options.spool_path;
	unsigned ours = 0;
	unsigned older = 0;
	uint64_t newer = 0;

	if (disk_read(fd, block, SPOOL_BLOCK, 0) != ERR_OK) {
		buf_printf(why, "queue: %s/format can not be read", path);
		return false;
	}
	for (size_t at = 0; at < SPOOL_BLOCK; at += SECTOR) {
		uint64_t version = version_at(block + at);
		ours += version == FORMAT_VERSION;
		older += version >= FORMAT_OLDEST && version < FORMAT_VERSION;
		newer = version > FORMAT_VERSION ? version : newer;
	}
	*is_older = older > SECTORS / 2;
	if (*is_older || ours > SECTORS / 2)
		return true;
	if (newer == 0)
		buf_printf(why, "queue: %s/format is damaged; is this a spool directory?", path);
	else
		buf_printf(why,
			   "queue: %s has format %llu, this program knows up to %d; run the newer "
			   "program that wrote it",
			   path, (unsigned long long)newer, FORMAT_VERSION);
	return false;
}

/* Reads or writes the format file; whether O_DIRECT works is found out with it. */
static bool
check_format(struct spool *spool, struct buf *why)
{
	char *block = aligned_alloc(SPOOL_BLOCK, SPOOL_BLOCK);
	bool is_older = false;
	bool ok = false;

	if (block == NULL)
		return false;
	spool->direct = true;
	int fd = disk_open(spool->directory, "format", O_RDWR, 0600, &spool->direct);
	if (fd < 0 && fd != -ENOENT) {
		buf_printf(why, "queue: %s/format: %s", spool->options.spool_path, strerror(-fd));
		free(block);
		return false;
	}
	if (fd >= 0) {
		ok = read_format(spool, fd, block, &is_older, why);
		disk_close(fd);
	}
	/* Before anything is written that an older program would misread. */
	if (fd == -ENOENT || is_older) {
		ok = write_format(spool, block);
		if (!ok)
			buf_printf(why, "queue: %s/format: can not be written",
				   spool->options.spool_path);
	}
	free(block);
	return ok;
}

/* ---- did the last run end in order? ---- */

static const char running_text[] = "sequences from ";

/* The file is there while the spool is open, and after a death. What can not be read of it is taken
 * for the worst. */
static void
read_running(struct spool *spool)
{
	uint8_t *block = aligned_alloc(SPOOL_BLOCK, SPOOL_BLOCK);
	bool direct = spool->direct;
	int fd = disk_open(spool->directory, "running", O_RDWR, 0600, &direct);

	spool->died_from = fd == -ENOENT ? 0 : 1;
	if (fd >= 0 && block != NULL && disk_read(fd, block, SPOOL_BLOCK, 0) == ERR_OK) {
		struct span text = span_of(block, SPOOL_BLOCK);
		struct span prefix = span_of_string(running_text);
		struct span line = span_first(text, span_find(text, '\n', 0));
		uint64_t from;
		if (span_starts_with(line, prefix) &&
		    span_to_u64(span_after(line, prefix.size), &from))
			spool->died_from = from;
	}
	if (fd >= 0)
		disk_close(fd);
	free(block);
}

static bool
write_running(struct spool *spool, struct buf *why)
{
	char *block = aligned_alloc(SPOOL_BLOCK, SPOOL_BLOCK);
	bool direct = spool->direct;
	int fd = disk_open(spool->directory, "running", O_RDWR | O_CREAT, 0600, &direct);
	enum err error = block == NULL || fd < 0 ? ERR_STORAGE : ERR_OK;

	if (error == ERR_OK) {
		memset(block, 0, SPOOL_BLOCK);
		snprintf(block, SPOOL_BLOCK, "%s%llu\n", running_text,
			 (unsigned long long)atomic_load(&spool->next_sequence));
		error = disk_write_durable(fd, block, SPOOL_BLOCK, 0);
	}
	if (fd >= 0)
		disk_close(fd);
	free(block);
	if (error == ERR_OK)
		error = disk_sync_directory(spool->directory);
	if (error != ERR_OK)
		buf_printf(why, "queue: %s/running can not be written", spool->options.spool_path);
	spool->open = error == ERR_OK;
	return spool->open;
}

/* Where it can not be removed, the next start counts too many. */
static void
remove_running(struct spool *spool)
{
	bool in_order = spool->open;

	for (unsigned i = 0; i < spool->store.worker_count; i++)
		in_order = in_order && !spool->ends[i].started;
	if (in_order && disk_unlink(spool->directory, "running") == ERR_OK)
		disk_sync_directory(spool->directory);
}

/* ---- sizes ---- */

static void
set_defaults(struct queue_options *o)
{
	if (o->segment_size == 0)
		o->segment_size = 64 * 1024 * 1024;
	if (o->file_threshold == 0 || o->file_threshold > 256 * 1024)
		o->file_threshold = 256 * 1024;
	if (o->flights == 0)
		o->flights = 2;
	if (o->flights > SPOOL_FLIGHTS_MOST)
		o->flights = SPOOL_FLIGHTS_MOST;
	if (o->body_memory == 0)
		o->body_memory = 256 * 1024 * 1024;
	if (o->items_max == 0)
		o->items_max = 16 * 1024 * 1024;
	if (o->items_max > TURNS_ITEMS_MOST / 2) /* with the notices' share */
		o->items_max = TURNS_ITEMS_MOST / 2;
}

bool
spool_choose_size(struct spool *spool, uint64_t segments_bytes, struct buf *why)
{
	uint64_t free_bytes;
	uint64_t total_bytes;
	uint64_t size = spool->options.segment_size / SPOOL_BLOCK * SPOOL_BLOCK;

	if (disk_space(spool->directory, &free_bytes, &total_bytes) != ERR_OK) {
		buf_printf(why, "queue: %s: the room on the disk can not be found out",
			   spool->options.spool_path);
		return false;
	}
	uint64_t ours = free_bytes + segments_bytes;
	while (size > SPOOL_SEGMENT_LEAST && size * 4 * spool->store.worker_count > ours / 10)
		size = size / 2 / SPOOL_BLOCK * SPOOL_BLOCK;
	spool->segment_size = size < SPOOL_SEGMENT_LEAST ? SPOOL_SEGMENT_LEAST : size;
	atomic_store(&spool->bytes_left,
		     (int_fast64_t)free_bytes - (int_fast64_t)spool->options.reserve_bytes);
	return true;
}

static bool
recover(struct spool *spool, struct worker **workers, struct buf *why)
{
	read_running(spool);
	return spool_recover(spool, workers, why) && write_running(spool, why);
}

struct queue_store *
spool_open(const struct queue_options *options, struct worker **workers, unsigned worker_count,
	   const struct queue_hooks *hooks, struct buf *why)
{
	struct spool *spool = calloc(1, sizeof *spool);

	if (spool == NULL)
		return NULL;
	OBJ_INIT(&spool->store, QUEUE_STORE_MAGIC);
	spool->store.driver = &spool_driver;
	spool->store.hooks = *hooks;
	spool->store.worker_count = worker_count;
	spool->options = *options;
	spool->hash_seed = random_u64();
	set_defaults(&spool->options);
	spool->directory = spool->segment_directory = spool->file_directory = -1;
	spool->aside_directory = spool->lock_fd = -1;
	atomic_store(&spool->next_sequence, 2);
	spool->sequences = calloc(SPOOL_SEGMENTS_MOST, sizeof *spool->sequences);
	spool->ends = calloc(worker_count, sizeof *spool->ends);
	if (spool->sequences != NULL && spool->ends != NULL && open_directories(spool, why) &&
	    lock(spool, why) && check_format(spool, why) && sync_names(spool, why) &&
	    recover(spool, workers, why)) {
		if (disk_is_volatile(spool->directory))
			buf_printf(why, "queue: %s does not survive a restart of the machine\n",
				   spool->options.spool_path);
		return &spool->store;
	}
	spool_close(&spool->store);
	return NULL;
}

void
spool_close(struct queue_store *store)
{
	struct spool *spool = (struct spool *)(void *)store;
	const int fds[] = { spool->segment_directory, spool->file_directory, spool->aside_directory,
			    spool->directory, spool->lock_fd };

	if (spool->ends != NULL)
		remove_running(spool);
	for (unsigned i = 0; spool->ends != NULL && i < store->worker_count; i++) {
		struct spool_end *e = &spool->ends[i];
		if (e->spool == NULL)
			continue;
		for (struct list_node *n = list_first(&e->segments); n != NULL;
		     n = list_next(&e->segments, n)) {
			struct spool_segment *s = LIST_ITEM(n, struct spool_segment, node);
			if (s->fd >= 0)
				disk_close(s->fd);
		}
		end_fini(e);
	}
	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
		if (fds[i] >= 0)
			disk_close(fds[i]);
	}
	free(spool->ends);
	free(spool->sequences);
	OBJ_FINI(&spool->store, QUEUE_STORE_MAGIC);
	free(spool);
}
