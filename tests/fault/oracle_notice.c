/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of the oracle that judges reports to senders (ARCHITECTURE.md, invariant 2).
 *
 * Whoever has failed is reported as failed by one report, and by no second one, whatever crashed in
 * between; whoever is late is told so by at most one; and each only where NOTIFY asks for it. A
 * report that comes twice is the same one: it is known by its Message-ID. What a report says is
 * read with the product's own reader, and what it has attached of the mail is compared byte by
 * byte.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "relay/message/dsn_read.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim.h"

/* What of a report is compared. */
struct told {
	struct oracle_mail *m;
	uint64_t id; /* a hash of its Message-ID */
	uint32_t recipient;
	bool knows_recipient;
	bool failed; /* is what the report says of it */
};

static uint64_t
message_id_of(struct span data)
{
	struct span mark = SPAN("\r\nMessage-ID: ");
	const uint8_t *at = memmem(data.data, data.size, mark.data, mark.size);

	if (at == NULL)
		sim_fail("a report without a Message-ID");
	struct span rest = span_after(data, (size_t)(at - data.data) + mark.size);
	return span_hash_nocase(span_first(rest, span_find(rest, '\r', 0)), 1) | 1;
}

static void
on_action(const struct told *t, struct span action)
{
	struct oracle_recipient *r = &t->m->recipients[t->recipient];
	bool failed = span_eq(action, SPAN("failed"));
	bool relayed = span_eq(action, SPAN("relayed"));
	uint64_t *known = failed ? &r->told_failed : relayed ? &r->told_relayed : &r->told_delayed;
	unsigned wanted = failed ? NOTIFY_FAILURE : relayed ? NOTIFY_SUCCESS : NOTIFY_DELAY;

	if (!failed && !relayed && !span_eq(action, SPAN("delayed")))
		sim_fail("mail %u: a report says %.*s", t->m->number, SPAN_ARG(action));
	if (!oracle_wants(r, wanted))
		sim_fail("mail %u recipient %u: a report says %.*s, which nobody wants to know",
			 t->m->number, t->recipient, SPAN_ARG(action));
	if (failed && !(r->possible & 1 << RECIPIENT_FAILED))
		sim_fail("mail %u recipient %u is reported as failed, no sink refused it, and its "
			 "time was not over",
			 t->m->number, t->recipient);
	if (relayed && r->arrived == 0)
		sim_fail("mail %u recipient %u is reported as relayed, and has not arrived",
			 t->m->number, t->recipient);
	if (*known != 0 && *known != t->id)
		sim_fail("mail %u recipient %u: a second report says %.*s", t->m->number,
			 t->recipient, SPAN_ARG(action));
	*known = t->id;
}

/* RFC 3463 3.5: the time is over; else the class of the sink's answer. */
static void
on_status(const struct told *t, struct span status)
{
	const struct oracle_recipient *r = &t->m->recipients[t->recipient];
	bool is_over = span_eq(status, SPAN("4.4.7"));
	bool is_permanent = span_starts_with(status, SPAN("5."));

	if (t->failed && !(is_over && r->expired) && !(is_permanent && r->refused))
		sim_fail("mail %u recipient %u is reported as failed with the status %.*s",
			 t->m->number, t->recipient, SPAN_ARG(status));
}

static void
on_field(struct told *t, struct span name, struct span value)
{
	struct span type, rest;

	if (span_eq(name, SPAN("Final-Recipient"))) {
		if (!dsn_read_typed(value, &type, &rest) || !span_eq(type, SPAN("rfc822")))
			sim_fail("mail %u: a report with an odd recipient", t->m->number);
		t->recipient = oracle_recipient_of(t->m, rest);
		t->knows_recipient = true;
	} else if (span_eq(name, SPAN("Action"))) {
		if (!t->knows_recipient)
			sim_fail("mail %u: a report of nobody", t->m->number);
		on_action(t, value);
		t->knows_recipient = false;
		t->failed = span_eq(value, SPAN("failed"));
	} else if (span_eq(name, SPAN("Status"))) {
		on_status(t, value);
	}
}

/* The message as it was submitted, where the report has all of it; else its header. */
static void
check_attached(const struct oracle_mail *m, struct span data)
{
	struct span whole = SPAN("\r\nContent-Type: message/rfc822\r\n");
	struct span header = SPAN("\r\nContent-Type: text/rfc822-headers\r\n");
	uint8_t *want = malloc(m->body_size);
	size_t size = sizeof "X-Mail: 000000\r\n" - 1;

	ASSERT(want != NULL);
	oracle_text(m, want);
	if (memmem(data.data, data.size, whole.data, whole.size) != NULL)
		size = m->body_size;
	else if (memmem(data.data, data.size, header.data, header.size) == NULL)
		size = 0;
	if (memmem(data.data, data.size, want, size) == NULL)
		sim_fail("mail %u: a report that has not attached what it says", m->number);
	free(want);
	world->oracle->bytes_checked += size;
}

void
oracle_notice_arrived(struct oracle_mail *m, struct span data)
{
	static struct dsn_reader reader;
	struct told t = { .m = m, .id = message_id_of(data) };
	enum dsn_read_event event;
	size_t at = 0;
	unsigned groups = 0;

	if (m->put == PUT_NEW || m->put == PUT_REFUSED)
		sim_fail("mail %u is reported on, but it was never taken", m->number);
	dsn_read_init(&reader);
	do {
		if (at < data.size)
			at += dsn_read_feed(&reader, span_after(data, at), &event);
		else
			dsn_read_finish(&reader, &event);
		if (event == DSN_READ_FIELD && reader.group > 0) {
			on_field(&t, dsn_read_name(&reader), dsn_read_value(&reader));
			groups = reader.group;
		}
	} while (event != DSN_READ_END);
	if (groups == 0)
		sim_fail("mail %u: what comes back is no report", m->number);
	check_attached(m, data);
	world->oracle->notices++;
	sim_note("notice", m->number, groups);
}

static void
check_told(const struct oracle_mail *m, uint32_t recipient)
{
	const struct oracle_recipient *r = &m->recipients[recipient];
	/* What the store has confirmed; or it must have, before a crash. */
	bool failed = r->recorded[RECIPIENT_FAILED] > 0 || r->arrived == 0;
	bool delivered = r->recorded[RECIPIENT_DELIVERED] > 0;

	/* Unless a former owner has told so late. */
	if (delivered && r->told_failed != 0 && m->crossings == 0)
		sim_fail("mail %u recipient %u was told to have failed, and was delivered",
			 m->number, recipient);
	if (m->report_lost)
		return;
	if (failed && r->told_failed == 0 && oracle_wants(r, NOTIFY_FAILURE))
		sim_fail("mail %u recipient %u has failed, and nobody was told", m->number,
			 recipient);
	if (r->delay_recorded && r->told_delayed == 0)
		sim_fail("mail %u recipient %u was late, and the report of it is lost", m->number,
			 recipient);
	if (delivered && r->told_relayed == 0 && oracle_wants(r, NOTIFY_SUCCESS))
		sim_fail("mail %u recipient %u was delivered, and nobody was told", m->number,
			 recipient);
}

void
oracle_check_notices(void)
{
	struct oracle *o = world->oracle;

	for (uint32_t i = 0; i < o->mail_count; i++) {
		const struct oracle_mail *m = &o->mails[i];
		bool kept = m->put == PUT_KEPT || m->alive;
		for (uint32_t k = 0; kept && k < m->recipient_count; k++)
			if (m->recipients[k].offered)
				check_told(m, k);
	}
}
