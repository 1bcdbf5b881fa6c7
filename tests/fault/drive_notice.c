/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "tests/fault/drive_spool.h"
#include "tests/fault/sim.h"

/* Less than what makes a draft full: nothing waits. */
enum { BODY_MOST = 60 * 1000, PIECE = 16 * 1024, NOTICE_RECIPIENTS = 2 };

void
offer_fill(struct offer *o, const struct oracle_mail *m)
{
	o->envelope = (struct mail_envelope){
		.id = m->id,
		.accepted_at_ms = m->accepted_at_ms,
		.body_size = m->body_size,
		.flags = oracle_flags(m->number),
		.sender = span_of_string(oracle_sender(m, o->texts[ORACLE_RECIPIENTS_MAX])),
		.client = SPAN("192.0.2.1"),
		.recipient_count = m->recipient_count,
		.recipients = o->recipients,
	};
	for (uint32_t i = 0; i < m->recipient_count; i++) {
		o->recipients[i].address =
			span_of_string(oracle_recipient_address(m, i, o->texts[i]));
		o->recipients[i].state = RECIPIENT_PENDING;
		o->recipients[i].site =
			oracle_site_of(o->recipients[i].address, oracle_flags(m->number));
	}
}

/* False: the draft is gone. */
static bool
feed(struct queue_draft *d, const struct oracle_mail *m)
{
	uint8_t piece[PIECE];

	for (uint64_t at = 0; at < m->body_size;) {
		uint64_t left = m->body_size - at;
		size_t n = left < PIECE ? (size_t)left : PIECE;
		oracle_body(m, at, piece, n);
		if (queue_draft_append(d, span_of(piece, n)) != ERR_OK) {
			queue_draft_abandon(d);
			return false;
		}
		at += n;
	}
	return true;
}

struct notice *
notice_new(struct queue *q, struct mail_id about)
{
	struct oracle_mail *m =
		oracle_mail_new(sim_below(BODY_MOST), (uint32_t)sim_between(1, NOTICE_RECIPIENTS));
	if (m != NULL)
		m->id = queue_id_beside(q, about);
	struct queue_draft *d = m == NULL ? NULL : queue_draft_new(q, m->id, 0);

	if (d == NULL || !feed(d, m)) {
		if (m != NULL)
			m->put = PUT_REFUSED;
		return NULL;
	}
	struct notice *n = calloc(1, sizeof *n);
	ASSERT(n != NULL);
	n->m = m;
	offer_fill(&n->offer, m);
	n->put.draft = d;
	n->put.envelope = &n->offer.envelope;
	return n;
}
