/* SPDX-License-Identifier: Apache-2.0
 *
 * What we know of mails that we have, said again. A fail-over may have lost outcomes of a mail that
 * goes on: its other recipients wait here, or are at work. Before anything else is told to the new
 * server, each such mail has the states of its recipients recorded once more, which changes nothing
 * where nothing was lost. (Of mails that we have no more, see reconcile.c.)
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/redis/internal.h"

enum { STATE_TEXT = PACK_REPLY_MOST + 64, TEXT = 256 };

struct restate {
	struct redis_call call;
	struct redis_end *end;
	struct mail_id id;
	uint64_t losses;
};

static void
on_restated(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct restate *r = CONTAINER_OF(c, struct restate, call);
	struct redis_mail *m = owned_find(r->end, r->id);

	(void)reply;
	r->end->calls_open--;
	/* Else the connection is lost again, and another look follows. */
	if (m != NULL && error == ERR_OK && m->stated_at < r->losses)
		m->stated_at = r->losses;
	free(r);
}

static bool
has_changed(const struct redis_mail *m, uint32_t recipient)
{
	const struct mail_recipient *r = &m->envelope.recipients[recipient];

	return r->state != RECIPIENT_PENDING || r->attempts > 0 || r->notified;
}

/* False: not now. */
static bool
restate(struct redis_end *e, const struct redis_mail *m)
{
	struct redis_link *link = redis_servers_link(e->servers, m->shard);
	uint32_t count = 0;

	for (uint32_t n = 0; n < m->envelope.recipient_count; n++)
		count += has_changed(m, n);
	struct restate *r = link == NULL || redis_link_is_full(link) ? NULL : calloc(1, sizeof *r);
	if (r == NULL || !args_begin(e, "rp_record", m->shard, 5 + 2 * count,
				     TEXT + count * (size_t)STATE_TEXT)) {
		free(r);
		return false;
	}
	*r = (struct restate){
		.call = { .on_reply = on_restated }, .end = e, .id = m->mail.id, .losses = e->losses
	};
	args_owner(e, m);
	args_given(e, m);
	args_span(e, span_none());
	args_span(e, span_none());
	args_number(e, count);
	for (uint32_t n = 0; n < m->envelope.recipient_count; n++) {
		struct pack_state s = owned_state(m, n);
		if (!has_changed(m, n))
			continue;
		args_number(e, n);
		args_state(e, &s);
	}
	args_send(e, link, &r->call);
	return true;
}

void
restate_note(struct redis_end *e, struct redis_mail *m)
{
	m->has_outcomes = true;
	m->stated_at = e->losses;
}

void
restate_suspect(struct redis_end *e)
{
	if (e->store->redis.durability == REDIS_DISK)
		return; /* what was answered is on the one disk */
	e->losses++;
	e->restates = true;
}

bool
restate_may_miss(const struct redis_end *e, const struct redis_mail *m)
{
	return m->has_outcomes && e->store->redis.durability != REDIS_DISK;
}

void
restate_look(struct redis_end *e)
{
	bool all = true;

	if (!e->restates)
		return;
	for (unsigned i = 0; i < 1 << REDIS_BUCKET_BITS; i++) {
		for (struct redis_mail *m = e->buckets[i]; m != NULL; m = m->next) {
			if (m->has_outcomes && m->stated_at != e->losses)
				all = restate(e, m) && all;
		}
	}
	e->restates = !all;
}
