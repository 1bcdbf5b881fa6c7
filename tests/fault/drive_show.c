/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "tests/fault/drive.h"
#include "tests/fault/drive_spool.h"

/* Looks at one mail while everything goes on: what is shown must be what it may be. */
struct show_job {
	struct queue_show show;
	struct queue_store *store;
	const struct oracle_mail *m;
	unsigned number; /* of the worker that is asked */
	unsigned *open;
	/* Of a server, whose answer may be older than what happened meanwhile. */
	uint8_t possible[ORACLE_RECIPIENTS_MAX];
};

static void ask(struct show_job *j);

static void
check(const struct show_job *j)
{
	const struct mail_envelope *e = j->show.envelope;
	const struct oracle_mail *m = j->m;
	char text[64];

	if (e->recipient_count != m->recipient_count || e->body_size != m->body_size ||
	    !span_eq(e->sender, span_of_string(oracle_sender(m, text))))
		sim_fail("mail %u is shown with another envelope", m->number);
	for (uint32_t i = 0; i < m->recipient_count; i++) {
		const struct mail_recipient *r = &e->recipients[i];
		if (!span_eq(r->address, span_of_string(oracle_recipient_address(m, i, text))))
			sim_fail("mail %u recipient %u is shown with another address", m->number,
				 i);
		uint8_t possible = m->recipients[i].possible | j->possible[i];
		/* A worker that has given it back and has not heard so still has it. */
		if (world->oracle->is_remote && possible & 1 << RECIPIENT_REMOVED)
			possible = UINT8_MAX;
		if (!(possible & 1 << r->state) && !world->oracle->damaged)
			sim_fail("mail %u recipient %u is shown in state %u, which it cannot have "
				 "(set %#x)",
				 m->number, i, r->state, possible);
	}
}

static void
on_shown(struct queue_show *s, enum err e)
{
	struct show_job *j = CONTAINER_OF(s, struct show_job, show);

	if (e == ERR_NOT_FOUND && ++j->number < drive_worker_count) {
		ask(j);
		return;
	}
	if (e == ERR_OK)
		check(j);
	sim_note("shown", j->m->number, e);
	(*j->open)--;
	free(j);
}

static void
ask(struct show_job *j)
{
	j->show = (struct queue_show){ .id = j->m->id, .on_done = on_shown };
	queue_show(queue_end(j->store, j->number), &j->show);
}

void
show_start(struct queue_store *store, const struct oracle_mail *m, unsigned *open)
{
	struct show_job *j = calloc(1, sizeof *j);

	ASSERT(j != NULL);
	j->store = store;
	j->m = m;
	j->open = open;
	(*open)++;
	for (uint32_t i = 0; i < m->recipient_count && world->oracle->is_remote; i++)
		j->possible[i] = m->recipients[i].possible;
	ask(j);
}
