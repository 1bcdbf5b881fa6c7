/* SPDX-License-Identifier: Apache-2.0
 *
 * Fills a spool with deferred mails through queue.h, opens it, and measures puts.
 *
 *   spool_bench PATH fill COUNT SIZE [FLYING]   COUNT mails of SIZE bytes, due in a day
 *   spool_bench PATH rate COUNT SIZE FLYING     puts with FLYING at once, each delivered at once
 *   spool_bench PATH open                       time until ready, memory and disk by mail
 *   spool_bench PATH walk                       likewise; and looks through all mails by slices
 *
 * One worker, in this thread. FLYING: puts that wait for their commit at any time.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/worker.h"
#include "queue/queue.h"
#include "queue/spool/spool.h"

enum { FLYING_MAX = 4096, DAY_MS = 24 * 3600 * 1000 };

static const struct worker_options worker_options = {
	.ring = { .entries = 1024 },
	.mailbox_places = 64,
	.buffers_max = 4,
};

struct bench {
	struct worker worker;
	struct worker *peers[1];
	struct queue_store *store;
	struct queue *queue;
	bool keep; /* deferred mails; else they are delivered at once */
	bool stopped;
	uint64_t begun;
	uint64_t ended;
	uint64_t failed;
	uint64_t count;
	size_t size;
	uint8_t *text;
};

struct slot {
	struct bench *bench;
	struct queue_put put;
	struct queue_record record;
	struct queue_result result;
	struct mail_envelope envelope;
	struct mail_recipient recipient;
};

static void begin(struct slot *s);

static struct site_id
site_of(struct queue *q, struct span address, uint32_t flags)
{
	(void)q;
	(void)address;
	(void)flags;
	return (struct site_id){ 1 };
}

static void
on_due(struct queue *q, struct site_id site)
{
	(void)q;
	(void)site;
}

static void
slot_ends(struct slot *s, enum err e)
{
	s->bench->ended++;
	s->bench->failed += e != ERR_OK;
	begin(s);
}

static void
on_recorded(struct queue_record *r, enum err e)
{
	slot_ends(CONTAINER_OF(r, struct slot, record), e);
}

static void
on_put(struct queue_put *p, enum err e)
{
	struct slot *s = CONTAINER_OF(p, struct slot, put);
	struct list_node *n = e == ERR_OK ? list_shift(&p->items) : NULL;

	if (n == NULL) {
		slot_ends(s, e);
		return;
	}
	struct queue_item *i = LIST_ITEM(n, struct queue_item, link);
	if (s->bench->keep) {
		queue_release(s->bench->queue, i, s->recipient.retry_at_ms);
		slot_ends(s, e);
		return;
	}
	s->result = (struct queue_result){ .state = RECIPIENT_DELIVERED,
					   .tried = true,
					   .reply = SPAN("250 2.0.0 ok") };
	s->record = (struct queue_record){
		.item = i, .results = &s->result, .result_count = 1, .on_done = on_recorded
	};
	queue_record(s->bench->queue, &s->record);
}

static void
begin(struct slot *s)
{
	struct bench *b = s->bench;

	if (b->begun == b->count)
		return;
	b->begun++;
	s->recipient = (struct mail_recipient){
		.address = SPAN("somebody.or.other@destination.example"),
		.site = { 1 },
		.attempts = b->keep,
		.retry_at_ms = b->keep ? b->worker.now_wall_ms + DAY_MS : 0,
	};
	s->envelope = (struct mail_envelope){
		.id = { random_u64(), random_u64() },
		.accepted_at_ms = b->worker.now_wall_ms,
		.sender = SPAN("newsletter@sender.example.org"),
		.client = SPAN("192.0.2.17"),
		.recipient_count = 1,
		.recipients = &s->recipient,
	};
	s->put = (struct queue_put){ .envelope = &s->envelope, .on_done = on_put };
	s->put.draft = queue_draft_new(b->queue, s->envelope.id, b->size);
	ASSERT(s->put.draft != NULL);
	enum err e = queue_draft_append(s->put.draft, span_of(b->text, b->size));
	ASSERT(e == ERR_OK);
	queue_put(b->queue, &s->put);
}

static double
cpu_s(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static long
resident_kib(void)
{
	char text[128] = "";
	long pages = 0;
	int fd = open("/proc/self/statm", O_RDONLY);

	if (fd >= 0 && read(fd, text, sizeof text - 1) > 0)
		sscanf(text, "%*d %ld", &pages);
	if (fd >= 0)
		close(fd);
	return pages * 4;
}

static void
on_stopped(struct queue *q, void *context)
{
	(void)q;
	((struct bench *)context)->stopped = true;
}

static void
show_state(struct bench *b, long before_kib, double seconds)
{
	struct queue_numbers n;

	queue_count(b->queue, &n);
	double mails = n.mails == 0 ? 1 : (double)n.mails;
	printf("ready after %.3f s, %llu mails; counted memory %.1f bytes a mail, resident %.1f; "
	       "live %.1f MiB, on disk %.1f MiB\n",
	       seconds, (unsigned long long)n.mails, (double)n.memory_bytes / mails,
	       (double)(resident_kib() - before_kib) * 1024 / mails, (double)n.bytes_live / 1048576,
	       (double)n.bytes_on_disk / 1048576);
}

static void
run(struct bench *b, unsigned flying)
{
	static struct slot slots[FLYING_MAX];
	const struct spool_counters *c = spool_counters(b->queue);
	uint64_t commits = c->commits;
	uint64_t from_us = clock_monotonic_us();
	double from_cpu = cpu_s();

	for (unsigned i = 0; i < flying; i++) {
		slots[i].bench = b;
		begin(&slots[i]);
	}
	while (b->ended < b->count)
		worker_turn(&b->worker, 100000);
	double s = (double)(clock_monotonic_us() - from_us) / 1e6;
	commits = c->commits - commits;
	printf("%llu mails of %zu bytes, %u flying: %.0f mails/s, %.0f commits/s, %.1f us CPU a "
	       "mail, longest commit %.2f ms, %llu failed, %llu copied\n",
	       (unsigned long long)b->count, b->size, flying, (double)b->count / s,
	       (double)commits / s, (cpu_s() - from_cpu) * 1e6 / (double)b->count,
	       (double)c->commit_us_longest / 1e3, (unsigned long long)b->failed,
	       (unsigned long long)c->copied_records);
}

/* ---- looking through all of them ---- */

static bool
on_row(void *context, const struct queue_row *row)
{
	(void)row;
	++*(uint64_t *)context;
	return true;
}

static void
walk(struct bench *b, const char *what, const struct queue_filter *f)
{
	enum { SLICE_US = 200 };
	uint64_t from_us = clock_monotonic_us();
	uint64_t longest_us = 0;
	uint64_t cursor = 0;
	uint64_t rows = 0;
	unsigned slices = 0;
	bool more = true;

	while (more) {
		uint64_t slice_us = clock_monotonic_us();
		more = queue_list(b->queue, f, &cursor, SLICE_US, on_row, &rows);
		slice_us = clock_monotonic_us() - slice_us;
		longest_us = slice_us > longest_us ? slice_us : longest_us;
		slices++;
	}
	printf("%s: %.1f ms in %u slices, the longest %llu us, %llu rows\n", what,
	       (double)(clock_monotonic_us() - from_us) / 1e3, slices,
	       (unsigned long long)longest_us, (unsigned long long)rows);
}

static void
walk_all(struct bench *b)
{
	const struct queue_filter all = { 0 };
	const struct queue_filter by_reply = { .reply = SPAN("no reply says this") };
	const struct queue_filter by_recipient = { .recipient = SPAN("one77@example.test") };
	const struct queue_filter by_sender = { .sender = SPAN("@example.net") };

	walk(b, "all", &all);
	walk(b, "by a part of the reply", &by_reply);
	walk(b, "by a recipient", &by_recipient);
	walk(b, "by the sender's domain", &by_sender);
}

static bool
open_store(struct bench *b, const char *path)
{
	const struct queue_options options = { .spool_path = path };
	const struct queue_hooks hooks = { .site_of = site_of, .on_due = on_due };
	char text[1024] = "";
	struct buf why = buf_of(text, sizeof text - 1);
	long before_kib = resident_kib();
	uint64_t from_us = clock_monotonic_us();

	b->peers[0] = &b->worker;
	worker_init(&b->worker, 0, 1, b->peers, &worker_options);
	if (worker_open(&b->worker, &worker_options, &why))
		b->store = queue_open(&options, b->peers, 1, &hooks, &why);
	fputs(text, stderr);
	if (b->store == NULL)
		return false;
	b->queue = queue_end(b->store, 0);
	queue_start(b->queue);
	show_state(b, before_kib, (double)(clock_monotonic_us() - from_us) / 1e6);
	return true;
}

int
main(int argc, char **argv)
{
	static struct bench b;
	const char *what = argc > 2 ? argv[2] : "";
	unsigned flying = argc > 5 ? (unsigned)atoi(argv[5]) : 256;

	if (strcmp(what, "open") != 0 && strcmp(what, "walk") != 0 && argc < 5) {
		fprintf(stderr,
			"usage: spool_bench PATH open | walk | fill|rate COUNT SIZE [FLYING]\n");
		return 64;
	}
	if (!open_store(&b, argv[1]))
		return 1;
	if (strcmp(what, "walk") == 0)
		walk_all(&b);
	if (argc > 4) {
		b.keep = strcmp(what, "fill") == 0;
		b.count = strtoull(argv[3], NULL, 10);
		b.size = strtoull(argv[4], NULL, 10);
		b.text = malloc(b.size);
		ASSERT(b.text != NULL && flying > 0 && flying <= FLYING_MAX);
		memset(b.text, 'x', b.size);
		run(&b, flying);
		show_state(&b, 0, 0);
	}
	queue_stop(b.queue, on_stopped, &b);
	while (!b.stopped)
		worker_turn(&b.worker, 100000);
	queue_close(b.store);
	worker_close(&b.worker);
	free(b.text);
	return b.failed > 0;
}
