/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening and closing both parts, and their hooks: what a part says of its end, the pair says of
 * its own to whoever opened it.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/disk.h"
#include "queue/pair/internal.h"

enum { WAIT_MS = 1000, BODY_MEMORY = 256 * 1024 * 1024 };

/* ---- hooks ---- */

static struct pair_end *
end_of_part(struct queue *part)
{
	struct pair *p = part->store->hooks.context;
	struct pair_end *e = &p->ends[part->worker->number];

	if (!p->open)
		part->worker->queue = &e->queue; /* it asks while it is opened, for itself */
	return e;
}

static const struct queue_hooks *
hooks_of(const struct pair_end *e)
{
	return &e->pair->store.hooks;
}

static struct site_id
site_of(struct queue *part, struct span address, uint32_t flags)
{
	struct pair_end *e = end_of_part(part);

	return hooks_of(e)->site_of(&e->queue, address, flags);
}

static void
on_due(struct queue *part, struct site_id site)
{
	struct pair_end *e = end_of_part(part);

	if (!pair_note_due(e, site))
		hooks_of(e)->on_due(&e->queue, site);
}

/* Of one part. Where the other one names it still, that one tells of its end. */
static void
on_site_unused(struct queue *part, struct site_id site)
{
	struct pair_end *e = end_of_part(part);
	struct queue *other =
		e->parts[part == e->parts[QUEUE_IN_SPOOL] ? QUEUE_IN_REDIS : QUEUE_IN_SPOOL];

	if (hooks_of(e)->on_site_unused != NULL && !other->driver->names_site(other, site))
		hooks_of(e)->on_site_unused(&e->queue, site);
}

static uint32_t
weight_of(struct queue *part, struct span sender)
{
	struct pair_end *e = end_of_part(part);

	return hooks_of(e)->weight_of == NULL ? 1 : hooks_of(e)->weight_of(&e->queue, sender);
}

static void
on_room(struct queue *part)
{
	struct pair_end *e = end_of_part(part);

	if (hooks_of(e)->on_room != NULL)
		hooks_of(e)->on_room(&e->queue);
}

static void
on_drain(struct queue *part, bool drains)
{
	struct pair_end *e = end_of_part(part);

	if (hooks_of(e)->on_drain != NULL)
		hooks_of(e)->on_drain(&e->queue, drains);
}

/* ---- opening ---- */

/* What is promised of the spool is worth nothing on a disk that a restart wipes. */
static bool
is_lasting(const char *path, struct buf *why)
{
	int directory = disk_open_directory(AT_FDCWD, path, false);
	bool is_volatile = directory >= 0 && disk_is_volatile(directory);

	if (directory >= 0)
		disk_close(directory);
	if (directory < 0)
		buf_printf(why,
			   "queue.fallback spool: %s: %s; make the directory and give it to this "
			   "user",
			   path, strerror(-directory));
	else if (is_volatile)
		buf_printf(why,
			   "queue.fallback spool: %s does not survive a restart of the machine or "
			   "container, so mail kept there would be lost; put queue.spool.path on a "
			   "disk, or set queue.fallback to none",
			   path);
	return directory >= 0 && !is_volatile;
}

static bool
open_parts(struct pair *p, const struct pair_kinds *kinds, const struct queue_options *options,
	   struct worker **workers, struct buf *why)
{
	const struct queue_hooks hooks = { .site_of = site_of,
					   .on_due = on_due,
					   .on_site_unused = on_site_unused,
					   .weight_of = weight_of,
					   .on_room = on_room,
					   .on_drain = on_drain,
					   .context = p };
	unsigned count = p->store.worker_count;
	struct queue_options half = *options;

	/* Each has a half of the memory for bodies, whichever takes mail. */
	half.body_memory = (options->body_memory == 0 ? BODY_MEMORY : options->body_memory) / 2;
	half.fallback = false;
	p->parts[QUEUE_IN_REDIS] = kinds->shared(&half, workers, count, &hooks, why);
	if (p->parts[QUEUE_IN_REDIS] == NULL)
		return false;
	half.redis = NULL;
	p->parts[QUEUE_IN_SPOOL] = kinds->spool(&half, workers, count, &hooks, why);
	return p->parts[QUEUE_IN_SPOOL] != NULL;
}

struct queue_store *
pair_open(const struct pair_kinds *kinds, const struct queue_options *options,
	  struct worker **workers, unsigned worker_count, const struct queue_hooks *hooks,
	  struct buf *why)
{
	struct pair *p;

	if (!is_lasting(options->spool_path, why))
		return NULL;
	p = calloc(1, sizeof *p);
	if (p != NULL)
		p->ends = aligned_alloc(64, worker_count * sizeof *p->ends);
	if (p == NULL || p->ends == NULL) {
		buf_append_string(why, "queue: no memory for the ends of the workers");
		free(p);
		return NULL;
	}
	OBJ_INIT(&p->store, QUEUE_STORE_MAGIC);
	p->store.driver = &pair_driver;
	p->store.hooks = *hooks;
	p->store.worker_count = worker_count;
	pthread_mutex_init(&p->lock, NULL);
	list_init(&p->coming);
	p->wait_ms = options->fallback_after_ms == 0 ? WAIT_MS : options->fallback_after_ms;
	for (unsigned i = 0; i < worker_count; i++)
		pair_end_init(&p->ends[i], p, workers[i]);
	if (!open_parts(p, kinds, options, workers, why)) {
		pair_close(&p->store);
		return NULL;
	}
	for (unsigned i = 0; i < worker_count; i++) {
		struct pair_end *e = &p->ends[i];
		for (unsigned part = 0; part < PAIR_PARTS; part++)
			e->parts[part] = p->parts[part]->driver->end(p->parts[part], i);
		workers[i]->queue = &e->queue;
	}
	p->open = true;
	return &p->store;
}

void
pair_close(struct queue_store *store)
{
	struct pair *p = (struct pair *)(void *)store;

	for (unsigned part = 0; part < PAIR_PARTS; part++) {
		if (p->parts[part] != NULL)
			p->parts[part]->driver->close(p->parts[part]);
	}
	for (unsigned i = 0; i < store->worker_count; i++)
		pair_end_fini(&p->ends[i]);
	pthread_mutex_destroy(&p->lock);
	OBJ_FINI(&p->store, QUEUE_STORE_MAGIC);
	free(p->ends);
	free(p);
}
