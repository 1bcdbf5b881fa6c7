/* SPDX-License-Identifier: Apache-2.0
 *
<<<<<<< HEAD
 * spool_fill: fills a spool with deferred mails, as a relay would have left it that took them in
 * and could not deliver them: each mail is put, its one item recorded as pending until much later.
 *
 *   spool_fill --spool FOLDER --mails N --size BYTES --due SECONDS|never --recipient ADDRESS
 *              [--workers N]
 *
 * A %d in ADDRESS becomes the number of the mail. Everything goes through queue.h, with the real
 * ring; the relay must not run on the folder. Prints the rate and what the spool holds.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "tests/tools/queue_rig.h"

enum {
	JOBS = 1024, /* mails on their way at once, so that commits are large */
	ADDRESS_MAX = 320,
	TEN_YEARS_S = 10 * 365 * 86400,
	EXIT_USAGE = 64,
};

struct plan {
	const char *spool;
	const char *recipient;
	uint64_t mails;
	uint64_t size;
	uint64_t due_s;
	uint64_t workers;
};

/* A mail on its way. */
struct job {
=======
 * Fills a spool with deferred mails through queue.h, opens it, and measures puts.
 *
 *   spool_fill PATH fill COUNT SIZE [FLYING]   COUNT mails of SIZE bytes, due in a day
 *   spool_fill PATH rate COUNT SIZE FLYING     puts with FLYING at once, each delivered at once
 *   spool_fill PATH open                       time until ready, memory and disk by mail
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
>>>>>>> spool
	struct queue_put put;
	struct queue_record record;
	struct queue_result result;
	struct mail_envelope envelope;
	struct mail_recipient recipient;
<<<<<<< HEAD
	struct queue *q;
	struct job *next_free;
	char address[ADDRESS_MAX];
};

static struct plan plan;
static uint8_t *body;
static uint64_t started;
static uint64_t done;
static enum err failed;
static struct job jobs[JOBS];
static struct job *free_jobs;

static void
job_free(struct job *j)
{
	j->next_free = free_jobs;
	free_jobs = j;
}

static void
on_recorded(struct queue_record *r, enum err e)
{
	struct job *j = CONTAINER_OF(r, struct job, record);

	if (e != ERR_OK)
		failed = e;
	done += e == ERR_OK;
	job_free(j);
}

static void
on_put(struct queue_put *p, enum err e)
{
	struct job *j = CONTAINER_OF(p, struct job, put);

	if (e != ERR_OK) {
		failed = e;
		job_free(j);
		return;
	}
	struct queue_item *item = LIST_ITEM(list_shift(&p->items), struct queue_item, link);
	j->result = (struct queue_result){
		.recipient = queue_item_recipient(item, 0),
		.state = RECIPIENT_PENDING,
		.tried = true,
		.retry_at_ms = clock_wall_ms() + plan.due_s * 1000,
		.reply = SPAN("451 4.3.0 deferred by spool_fill"),
	};
	j->record = (struct queue_record){
		.item = item,
		.results = &j->result,
		.result_count = 1,
		.on_done = on_recorded,
	};
	queue_record(j->q, &j->record);
}

/* The address of mail `number`. */
static struct span
write_address(struct job *j, uint64_t number)
{
	const char *mark = strstr(plan.recipient, "%d");
	struct buf out = buf_of(j->address, sizeof j->address);

	if (mark == NULL)
		return span_of_string(plan.recipient);
	buf_append(&out, span_of(plan.recipient, (size_t)(mark - plan.recipient)));
	buf_printf(&out, "%llu%s", (unsigned long long)number, mark + 2);
	return buf_span(&out);
}

/* False: no room now. */
static bool
start_mail(struct queue *q)
{
	struct job *j = free_jobs;
	struct mail_id id = { random_u64(), random_u64() };

	if (queue_admit(q, plan.size) != ERR_OK)
		return false;
	struct queue_draft *draft = queue_draft_new(q, id, plan.size);
	if (draft == NULL)
		return false;
	if (queue_draft_append(draft, span_of(body, plan.size)) != ERR_OK) {
		queue_draft_abandon(draft);
		return false;
	}
	free_jobs = j->next_free;
	*j = (struct job){ .q = q };
	j->recipient.address = write_address(j, started);
	j->envelope = (struct mail_envelope){
		.id = id,
		.accepted_at_ms = clock_wall_ms(),
		.body_size = plan.size,
		.sender = SPAN("filler@client.test"),
		.client = SPAN("127.0.0.1"),
		.recipient_count = 1,
		.recipients = &j->recipient,
	};
	j->put = (struct queue_put){ .draft = draft, .envelope = &j->envelope, .on_done = on_put };
	list_init(&j->put.items);
	queue_put(q, &j->put);
	started++;
	return true;
}

static void
fill(struct queue_rig *rig)
{
	while (done < plan.mails && failed == ERR_OK) {
		bool room = true;
		while (room && free_jobs != NULL && started < plan.mails)
			room = start_mail(
				queue_end(rig->store, (unsigned)(started % rig->worker_count)));
		queue_rig_turn(rig);
	}
}

static void
report(struct queue_rig *rig, uint64_t took_ms)
{
	struct queue_numbers all = { 0 };

	for (unsigned i = 0; i < rig->worker_count; i++) {
		struct queue_numbers n;
		queue_count(queue_end(rig->store, i), &n);
		all.mails += n.mails;
		all.items_waiting += n.items_waiting;
		all.bytes_live += n.bytes_live;
		all.bytes_on_disk += n.bytes_on_disk;
	}
	printf("%llu mails in %.1f s, %.0f a second; the spool holds %llu mails, %llu waiting, "
	       "%llu bytes live, %llu on disk\n",
	       (unsigned long long)done, (double)took_ms / 1000,
	       (double)done * 1000 / (double)(took_ms + 1), (unsigned long long)all.mails,
	       (unsigned long long)all.items_waiting, (unsigned long long)all.bytes_live,
	       (unsigned long long)all.bytes_on_disk);
}
=======
};

static void begin(struct slot *s);
>>>>>>> spool

static struct site_id
site_of(void *context, struct span address)
{
	(void)context;
	(void)address;
<<<<<<< HEAD
	return (struct site_id){ 0 };
}

/* What is due stays where it is: nothing is delivered here. */
=======
	return (struct site_id){ 1 };
}

>>>>>>> spool
static void
on_due(struct queue *q, struct site_id site)
{
	(void)q;
	(void)site;
}

<<<<<<< HEAD
/* A header and lines of 76. */
static void
make_body(void)
{
	static const char header[] = "Subject: filler\r\n\r\n";

	body = malloc(plan.size + 1);
	ASSERT(body != NULL);
	for (uint64_t i = 0; i < plan.size; i++)
		body[i] = i % 78 == 76 ? '\r' : i % 78 == 77 ? '\n' : 'x';
	if (plan.size >= sizeof header + 2) {
		memcpy(body, header, sizeof header - 1);
		memcpy(body + plan.size - 2, "\r\n", 2);
	}
}

static bool
parse_number(const char *text, uint64_t *out)
{
	return span_to_u64(span_of_string(text), out);
}

static bool
parse_arguments(int argc, char **argv)
{
	static const struct option options[] = {
		{ "spool", required_argument, NULL, 's' },
		{ "mails", required_argument, NULL, 'n' },
		{ "size", required_argument, NULL, 'b' },
		{ "due", required_argument, NULL, 'd' },
		{ "recipient", required_argument, NULL, 'r' },
		{ "workers", required_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	bool ok = true;
	int c;

	plan = (struct plan){ .workers = 2, .due_s = TEN_YEARS_S };
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			plan.spool = optarg;
		else if (c == 'r')
			plan.recipient = optarg;
		else if (c == 'n')
			ok &= parse_number(optarg, &plan.mails);
		else if (c == 'b')
			ok &= parse_number(optarg, &plan.size);
		else if (c == 'w')
			ok &= parse_number(optarg, &plan.workers);
		else if (c == 'd' && strcmp(optarg, "never") != 0)
			ok &= parse_number(optarg, &plan.due_s);
		else
			ok &= c == 'd';
	}
	return ok && optind == argc && plan.spool != NULL && plan.recipient != NULL &&
	       strlen(plan.recipient) < ADDRESS_MAX - 20 && plan.workers > 0 &&
	       plan.workers <= QUEUE_RIG_WORKERS_MAX;
=======
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
>>>>>>> spool
}

int
main(int argc, char **argv)
{
<<<<<<< HEAD
	struct queue_hooks hooks = { .site_of = site_of, .on_due = on_due };
	struct queue_rig rig;
	char text[512];
	struct buf why = buf_of(text, sizeof text);

	if (!parse_arguments(argc, argv)) {
		fprintf(stderr, "usage: spool_fill --spool FOLDER --mails N --size BYTES "
				"--due SECONDS|never --recipient ADDRESS [--workers N]\n");
		return EXIT_USAGE;
	}
	struct queue_options options = { .spool_path = plan.spool };
	if (!queue_rig_open(&rig, &options, (unsigned)plan.workers, &hooks, &why)) {
		fprintf(stderr, "%.*s\n", SPAN_ARG(buf_span(&why)));
		return EXIT_FAILURE;
	}
	make_body();
	for (unsigned i = 0; i < JOBS; i++)
		job_free(&jobs[i]);
	uint64_t start_ms = clock_monotonic_ms();
	fill(&rig);
	if (failed != ERR_OK) {
		fprintf(stderr, "after %llu mails: %s\n", (unsigned long long)done,
			err_text(failed));
		return EXIT_FAILURE; /* as a crash leaves it: jobs are still on their way */
	}
	report(&rig, clock_monotonic_ms() - start_ms);
	queue_rig_close(&rig);
	free(body);
	return EXIT_SUCCESS;
=======
	static struct bench b;
	const char *what = argc > 2 ? argv[2] : "";
	unsigned flying = argc > 5 ? (unsigned)atoi(argv[5]) : 256;

	if (strcmp(what, "open") != 0 && argc < 5) {
		fprintf(stderr, "usage: spool_fill PATH open | fill|rate COUNT SIZE [FLYING]\n");
		return 64;
	}
	if (!open_store(&b, argv[1]))
		return 1;
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
>>>>>>> spool
}
