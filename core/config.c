/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a snapshot, and the values that depend on the machine.
 */
#include "core/config.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/config_table.h"

enum { WORKERS_LIMIT = 64, ARENA_CHUNK = 64 << 10 };

struct snapshot *
snapshot_new(void)
{
	struct snapshot *s = calloc(1, sizeof *s);

	if (s == NULL)
		return NULL;
	OBJ_INIT(s, SNAPSHOT_MAGIC);
	/* A file may grow by a factor in memory, but not without bound. */
	arena_init(&s->arena, ARENA_CHUNK, CONFIG_FILE_SIZE_MAX * 16);
	atomic_init(&s->references, 1);
	return s;
}

void
snapshot_free(struct snapshot *s)
{
	arena_reset(&s->arena);
	OBJ_FINI(s, SNAPSHOT_MAGIC);
	free(s);
}

static struct snapshot *
snapshot_of(const struct config *config)
{
	/* The count of references is the one thing in a snapshot that changes. */
	union {
		const struct config *shared;
		struct config *own;
	} pointer = { .shared = config };
	struct snapshot *s = CONTAINER_OF(pointer.own, struct snapshot, config);

	OBJ_CHECK(s, SNAPSHOT_MAGIC);
	return s;
}

const struct config *
config_get(const struct config *config)
{
	struct snapshot *s = snapshot_of(config);
	uint32_t before = atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);

	ASSERT(before > 0 && before < UINT32_MAX);
	return config;
}

void
config_put(const struct config *config)
{
	struct snapshot *s = snapshot_of(config);
	/* Release what this thread read before, acquire what others did, before the memory goes. */
	uint32_t before = atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel);

	ASSERT(before > 0);
	if (before == 1)
		snapshot_free(s);
}

static unsigned
count_processors(unsigned most)
{
	cpu_set_t allowed;
	int count = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;

	return count < 1 ? 1 : (unsigned)count > most ? most : (unsigned)count;
}

unsigned
config_worker_count(const struct config *config)
{
	return config->workers != 0 ? config->workers : count_processors(WORKERS_LIMIT);
}

unsigned
config_helper_count(const struct config *config)
{
	if (config->helpers.threads != 0)
		return config->helpers.threads;
	return (count_processors(2 * WORKERS_LIMIT) + 1) / 2;
}

/* The number in a file of one number; UINT64_MAX where there is none ("max"). */
static uint64_t
read_number(const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned long long number;
	bool found = file != NULL && fscanf(file, "%llu", &number) == 1;

	if (file != NULL)
		fclose(file);
	return found ? number : UINT64_MAX;
}

/* The least memory.max from this process's control group (version 2) up to the root. */
static uint64_t
control_group_limit(void)
{
	char path[4096], file_path[4200];
	uint64_t least = UINT64_MAX;
	FILE *file = fopen("/proc/self/cgroup", "re");
	bool found = false;

	while (file != NULL && !found && fgets(path, sizeof path, file) != NULL)
		found = strncmp(path, "0::", 3) == 0;
	if (file != NULL)
		fclose(file);
	if (!found)
		return least;
	path[strcspn(path, "\n")] = 0;
	for (char *group = path + 3;;) {
		snprintf(file_path, sizeof file_path, "/sys/fs/cgroup%s/memory.max", group);
		uint64_t limit = read_number(file_path);
		least = limit < least ? limit : least;
		char *slash = strrchr(group, '/');
		if (slash == NULL)
			return least;
		*slash = 0;
	}
}

size_t
config_memory_budget(const struct config *config)
{
	if (config->memory.budget != 0)
		return config->memory.budget;
	long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
	uint64_t machine = pages > 0 && page_size > 0 ? (uint64_t)pages * (uint64_t)page_size
						      : (uint64_t)1 << 30;
	uint64_t limit = control_group_limit();
	return (limit < machine ? limit : machine) / 2;
}
