/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of the oracle that judges the log (ARCHITECTURE.md, invariant 2: each with an event).
 *
 * An event may be written only for what the store has confirmed, once for each, and with the answer
 * that the sink has given. Whenever the log has written all that it was given, nothing that was
 * confirmed may be without its event. The one permitted gap: what was confirmed, or was on its way
 * to the disk, when the process died before its event was written; oracle_crashed() notes exactly
 * these.
 */
#include <stdio.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/id.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim.h"

/* The text of a field; what the simulation puts into them needs no escapes. Empty: none. */
static struct span
field(struct span line, const char *name)
{
	char mark[64];
	struct buf b = buf_of(mark, sizeof mark);

	buf_printf(&b, "\"%s\":\"", name);
	const uint8_t *at = memmem(line.data, line.size, b.data, b.size);
	if (at == NULL)
		return span_none();
	struct span rest = span_after(line, (size_t)(at - line.data) + b.size);
	return span_first(rest, span_find(rest, '"', 0));
}

static struct oracle_mail *
mail_of(struct span line)
{
	struct oracle_mail *m = oracle_mail_of_sender(field(line, "sender"));

	if (m == NULL)
		sim_fail("an event of no mail: %.*s", SPAN_ARG(line));
	return m;
}

static void
on_received(struct span line)
{
	struct oracle_mail *m = mail_of(line);

	if (!m->durable || !oracle_putter_lives(m) || m->node != world->node)
		sim_fail("mail %u: an event says that it was received, and it is not durable",
			 m->number);
	if (++m->received > 1)
		sim_fail("mail %u: a second event says that it was received", m->number);
}

static uint8_t
state_of(struct span result)
{
	static const char *const names[ORACLE_STATES] = {
		[RECIPIENT_PENDING] = "deferred",    [RECIPIENT_DELIVERED] = "delivered",
		[RECIPIENT_DISCARDED] = "discarded", [RECIPIENT_FAILED] = "failed",
		[RECIPIENT_REMOVED] = "removed",
	};

	for (uint8_t s = 0; s < ORACLE_STATES; s++)
		if (span_eq(result, span_of_string(names[s])))
			return s;
	sim_fail("an event with the result %.*s", SPAN_ARG(result));
}

/* The id is that of a put that ended so. */
static void
on_cancelled(struct span line)
{
	struct mail_id id = { 0, 0 };

	if (!id_read(field(line, "id"), &id.high, &id.low) || oracle_find(id) == NULL)
		sim_fail("an event of a cancelled put names no mail: %.*s", SPAN_ARG(line));
}

/* A report: known by whom it goes to. */
static void
on_notice(struct span line)
{
	struct oracle_mail *m = oracle_mail_of_sender(field(line, "recipient"));

	if (m == NULL)
		sim_fail("a report to nobody: %.*s", SPAN_ARG(line));
	if (m->notices_unlogged[world->node] == 0)
		sim_fail("mail %u: an event tells of a report that is not durable", m->number);
	m->notices_unlogged[world->node]--;
}

/* The sink's answer to the node's copy; of a mail that came back to it, or to its old one. */
static bool
is_answer(const struct oracle_arrival *a, struct span reply, bool came_back)
{
	char memory[2][32];

	for (unsigned i = 0; i < (came_back ? 2 : 1); i++) {
		struct buf b = buf_of(memory[i], sizeof memory[i]);
		buf_printf(&b, ORACLE_TOKEN, i == 0 ? a->token : a->earlier);
		if (span_eq(reply, buf_span(&b)))
			return true;
	}
	return false;
}

static void
on_delivery(struct span line)
{
	if (field(line, "sender").size == 0)
		return; /* of a report, whose arrival is judged */
	struct oracle_mail *m = mail_of(line);
	uint32_t recipient = oracle_recipient_of(m, field(line, "recipient"));
	struct oracle_recipient *r = &m->recipients[recipient];
	uint8_t state = state_of(field(line, "result"));

	if (r->unlogged[world->node][state] == 0)
		sim_fail("mail %u recipient %u: an event reports \"%.*s\", which is not durable",
			 m->number, recipient, SPAN_ARG(field(line, "result")));
	r->unlogged[world->node][state]--;
	if (state == RECIPIENT_DELIVERED &&
	    !is_answer(&r->by[world->node], field(line, "reply"), m->crossings > 0))
		sim_fail("mail %u recipient %u: the event's reply is not the sink's: %.*s",
			 m->number, recipient, SPAN_ARG(field(line, "reply")));
	world->oracle->events++;
}

/* The relay ended without an answer of the store: the one event that an outcome has then. */
static void
on_unrecorded(struct span line)
{
	if (field(line, "sender").size == 0)
		return;
	struct oracle_mail *m = mail_of(line);
	uint32_t recipient = oracle_recipient_of(m, field(line, "recipient"));
	struct oracle_recipient *r = &m->recipients[recipient];
	uint8_t state = state_of(field(line, "result"));

	if (!((r->recording[world->node] | r->given_up) & 1 << state))
		sim_fail("mail %u recipient %u: an event says that \"%.*s\" was not recorded, "
			 "which nobody has asked for",
			 m->number, recipient, SPAN_ARG(field(line, "result")));
	r->eventless |= (uint8_t)(1 << state);
}

/* Nobody is told of a failure: as NOTIFY asks, or since it is the failure of a report. */
static void
on_suppressed(struct span line)
{
	bool is_report = field(line, "sender").size == 0;
	struct oracle_mail *m =
		is_report ? oracle_mail_of_sender(field(line, "recipient")) : mail_of(line);

	if (m == NULL || (is_report && !m->report_lost))
		sim_fail("nobody is told of a failure: %.*s", SPAN_ARG(line));
	if (is_report)
		return;
	uint32_t recipient = oracle_recipient_of(m, field(line, "recipient"));
	if (oracle_wants(&m->recipients[recipient], NOTIFY_FAILURE))
		sim_fail("nobody is told of a failure: %.*s", SPAN_ARG(line));
}

void
oracle_logged(struct span line)
{
	struct span event = field(line, "event");

	if (world->verbose)
		fprintf(stderr, "log: %.*s\n", SPAN_ARG(line));
	if (span_eq(event, SPAN("received")))
		on_received(line);
	else if (span_eq(event, SPAN("delivery")))
		on_delivery(line);
	else if (span_eq(event, SPAN("outcome_unrecorded")))
		on_unrecorded(line);
	else if (span_eq(event, SPAN("put_cancelled")))
		on_cancelled(line);
	else if (span_eq(event, SPAN("notice")))
		on_notice(line);
	else if (span_eq(event, SPAN("notice_suppressed")))
		on_suppressed(line);
}

void
oracle_check_logged(void)
{
	struct oracle *o = world->oracle;

	for (uint32_t i = 0; i < o->mail_count; i++) {
		const struct oracle_mail *m = &o->mails[i];
		if (m->durable && m->node == world->node && oracle_putter_lives(m) &&
		    m->received == 0)
			sim_fail("mail %u is durable, and no event says so", m->number);
		if (m->notices_unlogged[world->node] > 0)
			sim_fail("mail %u: a report has no event", m->number);
		for (uint32_t k = 0; k < m->recipient_count; k++)
			for (unsigned s = 0; s < ORACLE_STATES; s++)
				if (m->recipients[k].unlogged[world->node][s] > 0)
					sim_fail("mail %u recipient %u: an outcome (%u) has no "
						 "event",
						 m->number, k, s);
	}
}
