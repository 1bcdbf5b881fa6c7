/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of the oracle that watches the modelled server which keeps the mails: what it has
 * executed is durable, whether or not its answer reaches the relay. So for each moment it is known
 * exactly what a crash leaves: which mails are there, and which outcomes.
 *
 * The words of a function are read as the wire has them (queue/redis/functions.lua); of a
 * recipient's state only its first letter, and the sink's answer in it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buf.h"
#include "tests/fault/drive.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim.h"

/* Places of words: FCALL, its name, the number of keys, the key, and the arguments. Of an act, the
 * id: where it is done, and where another node may have to do it (incarnation, token, id). */
enum { NAME = 1, INCARNATION = 4, FIRST = 5, ACT = 4, ASK = 6, AGAIN = 7 };

/* An id, or "ID:GIVING". */
static struct oracle_mail *
mail_of(struct span name)
{
	struct span hex = name.size > 32 && name.data[32] == ':' ? span_first(name, 32) : name;
	char text[33] = "";
	struct mail_id id = { 0, 0 };

	if (hex.size != sizeof text - 1)
		return NULL;
	memcpy(text, hex.data, hex.size);
	if (sscanf(text, "%16" SCNx64 "%16" SCNx64, &id.high, &id.low) != 2)
		return NULL;
	return oracle_find(id); /* NULL: a report */
}

/* The recipient with this number in the envelope, which has those only that were not refused. */
static uint32_t
recipient_of(const struct oracle_mail *m, struct span number)
{
	uint64_t left = 0;

	if (!span_to_u64(number, &left))
		sim_fail("the server is told of recipient %.*s", SPAN_ARG(number));
	for (uint32_t i = 0; i < m->recipient_count; i++)
		if (m->recipients[i].offered && left-- == 0)
			return i;
	sim_fail("mail %u: the server is told of a recipient that it does not have", m->number);
}

static uint8_t
state_of(struct span value)
{
	static const char letters[] = "PDXFR";
	const char *at = value.size == 0 ? NULL : strchr(letters, value.data[0]);

	if (at == NULL || *at == '\0')
		sim_fail("the server is told a state that is none");
	return (uint8_t)(at - letters);
}

/* The next line of a reply, without its end. */
static struct span
next_line(struct span *reply)
{
	size_t size = span_find(*reply, '\r', 0);
	struct span line = span_first(*reply, size);

	*reply = span_after(*reply, size + 2 <= reply->size ? size + 2 : reply->size);
	return line;
}

/* Of an array, behind its first line: the next text. */
static struct span
next_text(struct span *reply)
{
	next_line(reply); /* its size */
	return next_line(reply);
}

static void
note_committed(struct oracle_mail *m)
{
	if (m->cancelled)
		sim_fail("mail %u is committed after it was cancelled", m->number);
	m->committed = true;
	m->owner = world->node;
	if (!oracle_putter_lives(m))
		oracle_server_keeps(m);
	sim_note("committed", m->number, 0);
}

static void
on_commit(const struct span *words, unsigned count, struct span reply)
{
	if (next_line(&reply).data[0] != '*')
		return; /* an error */
	for (unsigned i = FIRST + 1; i + 3 < count; i += 4) {
		struct oracle_mail *m = mail_of(words[i]);
		if (span_eq(next_text(&reply), SPAN("OK")) && m != NULL)
			note_committed(m);
	}
}

static void
on_cancel(const struct span *words)
{
	struct oracle_mail *m = mail_of(words[FIRST]);

	if (m == NULL)
		return;
	if (m->durable)
		sim_fail("mail %u is cancelled, and it was confirmed", m->number);
	/* Another has taken it over: it stays. */
	if (drive_redis_still_has(m->id))
		return;
	m->cancelled = true;
	m->committed = false;
	if (m->put == PUT_DOUBT)
		m->put = PUT_REFUSED;
	sim_note("cancelled", m->number, 0);
}

/* The state is there. `mine`: told by the owner of the mail. */
static void
note_state(struct oracle_mail *m, uint32_t recipient, struct span value, bool mine)
{
	static const char mark[] = "taken-";
	struct oracle_recipient *r = &m->recipients[recipient];
	uint8_t state = state_of(value);
	const uint8_t *at = memmem(value.data, value.size, mark, sizeof mark - 1);
	uint64_t token = 0;

	if (mine && r->asked_by == world->node && (r->asked & 1 << state))
		r->executed |= (uint8_t)(1 << state);
	if (r->is_orphan && r->executed != 0)
		oracle_times_ended(r);
	if (state != RECIPIENT_DELIVERED)
		return;
	if (at == NULL || !span_to_u64(span_of(at + sizeof mark - 1, 6), &token))
		sim_fail("mail %u recipient %u is delivered without a sink's answer", m->number,
			 recipient);
	oracle_token_durable((unsigned)token);
}

void
oracle_ends_data(const struct oracle_mail *m, bool is_its)
{
	/* What a former owner has delivered may have ended it: its owner does not know that yet. */
	if (!is_its && drive_redis_still_has(m->id))
		sim_fail("mail %u: node %u is sure of it, which has lost it %llu us before",
			 m->number, world->node,
			 (unsigned long long)(world->now_us - m->lost_us[world->node]));
}

void
oracle_moved(struct oracle_mail *m, unsigned node, bool is_taken)
{
	unsigned former = m->owner;

	sim_note("moved", m->number, node);
	m->moves++;
	m->crossings += former != node;
	m->owner = node;
	if (former != node)
		m->lost_us[former] = world->now_us;
	m->lost_us[node] = 0;
	world->oracle->taken_over += is_taken;
	for (uint32_t i = 0; i < m->recipient_count; i++) {
		struct oracle_recipient *r = &m->recipients[i];
		struct oracle_arrival *a = &r->by[former];
		a->died |= is_taken && a->stream != NULL && !a->durable;
		oracle_times_ended(r);
	}
}

/* {now, next, {id, ...}, ...}: an id is the only text of 32 bytes at the front of a row. What is
 * given `again` has been its owner's since it was given first. */
static void
on_given(struct span reply, bool is_taken, bool again)
{
	static const char mark[] = "\r\n$32\r\n";
	const size_t size = sizeof mark - 1;
	const uint8_t *at = reply.data;
	const uint8_t *end = reply.data + reply.size;

	while ((at = memmem(at, (size_t)(end - at), mark, size)) != NULL && end - at >= 42) {
		struct oracle_mail *m = mail_of(span_of(at + size, 32));
		at += size;
		if (m != NULL && !(again && m->owner == world->node))
			oracle_moved(m, world->node, is_taken);
	}
}

/* Values from words[at] on, after their number; says where they end. */
static unsigned
on_values(struct oracle_mail *m, const struct span *words, unsigned count, unsigned at,
	  struct span verdict)
{
	bool mine = span_eq(verdict, SPAN("OK"));
	bool is_former = span_eq(verdict, SPAN("LOST")) || span_eq(verdict, SPAN("TOLD"));
	uint64_t states = 0;

	if (!span_to_u64(words[at++], &states))
		return count;
	for (; at + 1 < count && states > 0; at += 2, states--)
		if (m != NULL && (mine || is_former))
			note_state(m, recipient_of(m, words[at]), words[at + 1], mine);
	return at;
}

static void
on_record(const struct span *words, unsigned count, struct span reply)
{
	if (next_line(&reply).data[0] == '*')
		on_values(mail_of(words[FIRST]), words, count, FIRST + 3, next_text(&reply));
}

/* Several: id release_ms lane change count (index value)*count */
static void
on_records(const struct span *words, unsigned count, struct span reply)
{
	unsigned at = FIRST;

	if (next_line(&reply).data[0] != '*')
		return;
	while (at + 4 < count) {
		struct span verdict = next_text(&reply);
		next_line(&reply); /* how many are left */
		at = on_values(mail_of(words[at]), words, count, at + 4, verdict);
	}
}

/* Done by the server, since nobody owns the mail: `at` is the place of its id. */
static void
on_act(const struct span *words, unsigned at, struct span reply)
{
	struct oracle_mail *m = mail_of(words[at]);
	bool holds = span_eq(words[at + 1], SPAN("hold"));

	if (m == NULL || !span_eq(reply, SPAN("$2\r\nOK\r\n")))
		return;
	oracle_held(m->id, holds);
	/* Who is let go is due at once. */
	for (uint32_t i = 0; i < m->recipient_count && !holds; i++)
		m->recipients[i].due_is_known = false;
}

/* For people: ids and short words as they are, of states the beginning. */
static void
show(const struct span *words, unsigned count, struct span reply)
{
	char text[1024];
	struct buf line = buf_of(text, sizeof text);

	for (unsigned i = NAME; i < count && i < 12; i++) {
		buf_append(&line, span_first(words[i], 36));
		buf_append_byte(&line, ' ');
	}
	buf_append_string(&line, "-> ");
	buf_append(&line, span_first(reply, 64));
	for (size_t i = 0; i < line.size; i++)
		text[i] = text[i] >= 32 && text[i] < 127 ? text[i] : '.';
	fprintf(stderr, "server: %.*s\n", (int)line.size, text);
}

void
oracle_executed(const struct span *words, unsigned count, struct span reply)
{
	struct span name = words[NAME];

	if (world->verbose)
		show(words, count, reply);
	if (span_eq(name, SPAN("rp_commit")))
		on_commit(words, count, reply);
	else if (span_eq(name, SPAN("rp_record")))
		on_record(words, count, reply);
	else if (span_eq(name, SPAN("rp_records")))
		on_records(words, count, reply);
	else if (span_eq(name, SPAN("rp_cancel")))
		on_cancel(words);
	else if (span_eq(name, SPAN("rp_act")))
		on_act(words, ACT, reply);
	else if (span_eq(name, SPAN("rp_ask")))
		on_act(words, ASK, reply);
	else if (span_eq(name, SPAN("rp_claim")) || span_eq(name, SPAN("rp_take")))
		on_given(reply, span_eq(name, SPAN("rp_take")),
			 count > AGAIN && span_eq(words[AGAIN], SPAN("1")));
}

void
oracle_lost(struct oracle_mail *m, const struct queue_result *results, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct oracle_recipient *r = &m->recipients[results[i].recipient];
		if (results[i].state == RECIPIENT_DELIVERED)
			oracle_outcome_done(m, &results[i]);
		r->given_up |= r->recording[world->node];
		r->recording[world->node] = 0;
		if (r->asked_by != world->node)
			continue;
		r->asked = r->executed = 0;
		r->repeated = false;
	}
}

bool
oracle_settle(struct oracle_recipient *r)
{
	bool pending = r->executed & 1 << RECIPIENT_PENDING;

	/* What failed and was asked again with another result may be either. */
	if (!world->oracle->is_remote || r->repeated)
		return false;
	if (r->executed & ~(1 << RECIPIENT_PENDING)) {
		r->may_be_over = true;
	} else if (pending) {
		r->attempts_least = r->attempts_most =
			(uint16_t)(r->attempts_least + (r->counts ? 1 : 0));
		r->notified = r->tells_delay ? 2 : r->notified;
		r->delay_recorded |= r->tells_delay;
		r->retry_at_ms = r->asked_retry_ms;
		r->due_is_known = true;
	}
	return true;
}

void
oracle_server_keeps(struct oracle_mail *m)
{
	if (!m->committed || m->alive)
		return;
	m->alive = m->eventless = true;
}
