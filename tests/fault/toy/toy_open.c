/* SPDX-License-Identifier: Apache-2.0
 *
 * The toy store's start and end: its logs are read, what is live is dealt out in turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/disk.h"
#include "queue/spool/spool.h"
#include "tests/fault/sim.h"
#include "tests/fault/toy/toy_internal.h"

struct queue *
toy_end(struct queue_store *s, unsigned number)
{
	return &CONTAINER_OF(s, struct toy_store, store)->ends[number].queue;
}

void
toy_start(struct queue *q)
{
	toy_look(end_of(q));
}

void
toy_stop(struct queue *q, void (*on_stopped)(struct queue *q, void *context), void *context)
{
	end_of(q)->on_stopped = on_stopped;
	end_of(q)->stop_context = context;
	toy_commit_soon(end_of(q));
}

void
toy_close_store(struct queue_store *store)
{
	struct toy_store *s = CONTAINER_OF(store, struct toy_store, store);
	struct list_node *n;

	for (unsigned i = 0; i < store->worker_count; i++) {
		while ((n = list_first(&s->ends[i].mails)) != NULL)
			toy_mail_free(LIST_ITEM(n, struct toy_mail, node));
		if (toy_bug != TOY_LEAKS_DESCRIPTOR)
			disk_close(s->ends[i].fd);
	}
	disk_close(s->directory);
	free(s->ends);
	free(s);
}

static void
replay_put(struct toy_store *s, const struct put_payload *p)
{
	struct toy_mail *m = toy_mail_new(p->id, p, (const uint8_t *)(p + 1));

	if (toy_bug == TOY_LOSES_LAST_BYTE && p->body_size > 5000)
		m->body[p->body_size - 1] ^= 0xff;
	list_append(&s->recovered, &m->node);
}

static void
replay(struct toy_store *s, const struct header *h)
{
	const struct outcome_payload *p = (const void *)(h + 1);
	struct toy_mail *m = toy_mail_find(&s->recovered, h->id);

	size_t count = (h->size - sizeof *h) / sizeof *p;

	if (h->kind == RECORD_PUT) {
		replay_put(s, (const void *)p);
		return;
	}
	if (h->kind == RECORD_NOTICE) {
		count = *(const uint64_t *)(const void *)p;
		p = (const void *)((const uint64_t *)(const void *)p + 1);
		replay_put(s, (const void *)&p[count]);
	}
	if (m == NULL)
		return;
	if ((h->kind == RECORD_OUTCOME && (toy_bug != TOY_FORGETS_SOME || h->checksum % 8 > 0)) ||
	    h->kind == RECORD_NOTICE)
		for (size_t i = 0; i < count; i++) {
			toy_outcome_apply(m, &p[i]);
			if (toy_bug == TOY_FORGETS_TOLD)
				m->recipients[p[i].recipient].notified = false;
		}
	if (h->kind == RECORD_HELD)
		m->held = p->recipient != 0;
	if (h->kind == RECORD_REMOVED || toy_mail_is_over(m))
		toy_mail_free(m);
}

static void
replay_log(struct toy_store *s, const char *name, uint64_t generation)
{
	bool direct = false;
	int fd = disk_open(s->directory, name, O_RDONLY, 0, &direct);
	size_t size = (size_t)disk_size(fd);
	uint8_t *all = malloc(size + 1);

	ASSERT(all != NULL && disk_read(fd, all, size, 0) == ERR_OK);
	for (size_t at = 0; at + sizeof(struct header) <= size;) {
		const struct header *h = (const void *)(all + at);
		if (h->magic == 0 && at % BLOCK != 0) {
			at = (at + BLOCK - 1) / BLOCK * BLOCK; /* the padding of a batch */
			continue;
		}
		if (h->magic != RECORD_MAGIC || h->size < sizeof *h || at + h->size > size ||
		    h->generation != generation ||
		    h->checksum != sim_hash(7, &h->generation,
					    h->size - offsetof(struct header, generation)))
			break;
		replay(s, h);
		at += h->size;
	}
	free(all);
	disk_close(fd);
}

struct names {
	char names[4096][32];
	size_t count;
};

static void
note_name(void *context, const char *name)
{
	struct names *n = context;

	ASSERT(n->count < 4096);
	snprintf(n->names[n->count++], sizeof n->names[0], "%s", name);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void
recover(struct toy_store *s)
{
	struct names *n = calloc(1, sizeof *n);

	ASSERT(n != NULL && disk_list(s->directory, note_name, n) == ERR_OK);
	qsort(n->names, n->count, sizeof n->names[0], by_name);
	for (size_t i = 0; i < n->count; i++) {
		uint64_t generation = strtoull(n->names[i] + 4, NULL, 10);
		replay_log(s, n->names[i], generation);
		s->generation = generation;
	}
	s->generation++;
	free(n);
}

/* Recovered mails are dealt out in turn. */
static void
deal(struct toy_store *s)
{
	struct list_node *n;

	while ((n = list_shift(&s->recovered)) != NULL) {
		struct toy_mail *m = LIST_ITEM(n, struct toy_mail, node);
		struct toy_end *e = &s->ends[s->next_worker++ % s->store.worker_count];
		m->mail.worker = (uint16_t)e->queue.worker->number;
		list_append(&e->mails, n);
		toy_route(e, m);
		for (unsigned k = 0; k < SITES; k++) {
			struct toy_item *i = toy_item_make(m, k);
			if (i != NULL)
				toy_item_wait(e, i);
		}
	}
}

static void
end_init(struct toy_store *s, struct toy_end *e, struct worker *w)
{
	char name[32];
	bool direct = true;

	e->queue = (struct queue){ QUEUE_MAGIC, &toy_driver, &s->store, w };
	e->store = s;
	list_init(&e->mails);
	list_init(&e->pending);
	list_init(&e->waiting);
	task_init(&e->commit, toy_run_commit);
	timer_init(&e->timer, toy_on_timer);
	snprintf(name, sizeof name, "log.%06llu.%u", (unsigned long long)s->generation, w->number);
	e->fd = disk_open(s->directory, name, O_RDWR | O_CREAT, 0600, &direct);
	ASSERT(e->fd >= 0);
	w->queue = &e->queue;
}

struct queue_store *
spool_open(const struct queue_options *options, struct worker **workers, unsigned worker_count,
	   const struct queue_hooks *hooks, struct buf *why)
{
	struct toy_store *s = calloc(1, sizeof *s);

	(void)why;
	ASSERT(s != NULL);
	s->store = (struct queue_store){ QUEUE_STORE_MAGIC, &toy_driver, *hooks, worker_count };
	s->directory = disk_open_directory(AT_FDCWD, options->spool_path, true);
	disk_sync_directory(AT_FDCWD);
	list_init(&s->recovered);
	recover(s);
	s->ends = calloc(worker_count, sizeof *s->ends);
	ASSERT(s->ends != NULL);
	for (unsigned i = 0; i < worker_count; i++)
		end_init(s, &s->ends[i], workers[i]);
	if (toy_bug != TOY_SKIPS_NAME_SYNC)
		disk_sync_directory(s->directory);
	deal(s);
	return &s->store;
}
