/* SPDX-License-Identifier: Apache-2.0
 *
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
	struct queue_put put;
	struct queue_record record;
	struct queue_result result;
	struct mail_envelope envelope;
	struct mail_recipient recipient;
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

static struct site_id
site_of(struct queue *q, struct span address, uint32_t flags)
{
	(void)q;
	(void)address;
	(void)flags;
	return (struct site_id){ 0 };
}

/* What is due stays where it is: nothing is delivered here. */
static void
on_due(struct queue *q, struct site_id site)
{
	(void)q;
	(void)site;
}

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
}

int
main(int argc, char **argv)
{
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
}
