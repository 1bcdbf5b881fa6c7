/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of the oracle that judges what arrives at the sinks.
 *
 * A mail may come again for a recipient only where the relay cannot know that it need not
 * (ARCHITECTURE.md, invariant 4a): the relay has died, and the outcome was not durable then (or has
 * ended, when its time for that was over, while the store refused the outcome); or the stream is
 * over, and the relay has not received all of the sink's answer. The first is decided by what the
 * store has confirmed and by what the disk holds, the second by the bytes that the relay's receives
 * have completed with; or the relay has ended the stream itself, for want of memory or of time in a
 * drain, before it looked at what it had received, and has recorded just that, or because its next
 * hop was silent, and the receives had not brought the answer when it recorded that. A copy that a
 * slow sink reads late, from a stream that the relay had let go of before it sent the next one, is
 * one of these, too. A mail that was refused may come only where the store was in doubt of its put
 * (4b), and only after a crash.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_net.h"

/* One line of a message, without CRLF, at most `most` bytes: text, dots in front, nothing, bytes
 * above 127, or as long as SMTP allows (RFC 5321 4.5.3.1.6). */
static size_t
line(uint64_t key, uint8_t *out, size_t most)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz .,0123456789";
	uint8_t choice[2];

	sim_fill(key, choice, sizeof choice);
	size_t size = choice[0] % 16 == 0 ? 998 : choice[1] % 77;
	size = size < most ? size : most;
	sim_fill(~key, out, size);
	for (size_t i = 0; i < size; i++)
		if (choice[0] % 4 != 1 || out[i] < 128)
			out[i] = (uint8_t)letters[out[i] % (sizeof letters - 1)];
	if (size > 0 && choice[0] % 4 == 2)
		out[0] = '.';
	return size;
}

void
oracle_text(const struct oracle_mail *m, uint8_t *out)
{
	char head[ORACLE_TEXT_LEAST];
	size_t size = m->body_size;

	ASSERT(size >= ORACLE_TEXT_LEAST);
	/* Some ask for a way of their own (RFC 8689), and arrive all the same. */
	const char *field = m->number % 4 == 1 ? "TLS-Required: No\r\n" : "";
	size_t at =
		(size_t)snprintf(head, sizeof head, "X-Mail: %06u\r\n%sSubject: simulated\r\n\r\n",
				 m->number, field);
	memcpy(out, head, at);
	for (uint64_t n = 0; at < size; n++) {
		size_t left = size - at;
		/* The last line takes all that is left; one of a single byte would not fit. */
		size_t used = left <= 3 ? left - 2
					: line(((uint64_t)m->number << 32) + n, out + at, left - 2);
		if (left <= 3)
			memset(out + at, 'z', used);
		if (left - used - 2 == 1)
			out[at + used++] = 'y';
		memcpy(out + at + used, "\r\n", 2);
		at += used + 2;
	}
	ASSERT(at == size);
}

struct oracle_mail *
oracle_mail_of_sender(struct span address)
{
	struct span mail = span_after(address, 3); /* behind s1+ */
	struct span digits = span_first(span_after(mail, 5), 6);
	uint64_t number = 0;

	if (!span_starts_with(mail, SPAN("mail-")) || !span_to_u64(digits, &number) ||
	    number == 0 || number > world->oracle->mail_count)
		return NULL;
	return &world->oracle->mails[number - 1];
}

uint32_t
oracle_recipient_of(const struct oracle_mail *m, struct span address)
{
	char text[64];

	for (uint32_t i = 0; i < m->recipient_count; i++)
		if (span_eq(address, span_of_string(oracle_recipient_address(m, i, text))))
			return i;
	sim_fail("mail %u arrives for a recipient that it does not have: %.*s", m->number,
		 SPAN_ARG(span_first(address, 100)));
}

struct oracle_recipient *
oracle_asked_for(struct span address)
{
	struct oracle *o = world->oracle;
	char text[64] = "";
	unsigned recipient;
	unsigned mail;

	if (address.size >= sizeof text)
		return NULL;
	memcpy(text, address.data, address.size);
	if (sscanf(text, "r%u.%u@site", &recipient, &mail) != 2 || mail == 0 ||
	    mail > o->mail_count || recipient >= o->mails[mail - 1].recipient_count)
		return NULL;
	o->questions++;
	return &o->mails[mail - 1].recipients[recipient];
}

/* Whom a sink has is never refused for good; whom it does not have is never taken, but where
 * nothing was learnt and the configuration takes such. */
void
oracle_recipient_answered(struct oracle_mail *m, uint32_t recipient, int code)
{
	struct oracle *o = world->oracle;
	const struct oracle_recipient *r = &m->recipients[recipient];

	if (!o->has_spy)
		return;
	if (code >= 500 && !(r->unknown && o->asks_sinks))
		sim_fail("mail %u recipient %u is refused with %d, and its sink has it", m->number,
			 recipient, code);
	if (code < 400 && r->unknown && o->asks_sinks && !o->takes_uncertain)
		sim_fail("mail %u recipient %u is taken, and its sink does not have it", m->number,
			 recipient);
	o->strangers += code >= 500;
}

/* Where the message itself begins, behind the trace fields that the relay adds in front. */
static struct span
behind_trace(const struct oracle_mail *m, struct span data)
{
	struct span mark = SPAN("X-Mail: ");
	const uint8_t *at =
		data.size == 0 ? NULL : memmem(data.data, data.size, mark.data, mark.size);

	if (at == NULL)
		sim_fail("mail %u arrives without its header", m->number);
	size_t trace = (size_t)(at - data.data);
	bool is_field = trace == 0 || span_starts_with(data, SPAN("Received: ")) ||
			span_starts_with(data, SPAN("Authentication-Results: ")) ||
			span_starts_with(data, SPAN("Return-Path: "));
	if (!is_field || (trace > 0 && (at[-1] != '\n' || at[-2] != '\r')))
		sim_fail("mail %u arrives with something in front that is no trace field",
			 m->number);
	return span_after(data, trace);
}

static void
check_text(const struct oracle_mail *m, struct span data)
{
	uint8_t *want = malloc(m->body_size);
	struct span text = behind_trace(m, data);

	ASSERT(want != NULL);
	oracle_text(m, want);
	if (text.size != m->body_size)
		sim_fail("mail %u arrives with %zu bytes instead of %llu", m->number, text.size,
			 (unsigned long long)m->body_size);
	for (size_t i = 0; i < text.size; i++)
		if (text.data[i] != want[i])
			sim_fail("mail %u arrives with another byte at %zu", m->number, i);
	free(want);
	world->oracle->bytes_checked += text.size;
}

unsigned
oracle_token(void)
{
	return ++world->oracle->tokens;
}

/* May it come? From now on it is known to live. */
static void
check_may_arrive(struct oracle_mail *m)
{
	struct oracle *o = world->oracle;

	if (m->put == PUT_NEW || m->put == PUT_REFUSED)
		sim_fail("mail %u arrives, but it was %s", m->number,
			 m->put == PUT_NEW ? "never offered whole" : "refused");
	bool is_its = oracle_putter_lives(m) && m->owner == m->node;
	if (m->put == PUT_DOUBT && is_its)
		sim_fail("mail %u was refused in doubt and arrives", m->number);
	if (o->has_spy && is_its && !m->durable)
		sim_fail("mail %u arrives before it is durable", m->number);
	o->doubts += m->put == PUT_DOUBT && !m->alive;
	m->alive = true;
}

static bool
has_answer(const struct oracle_arrival *a)
{
	return a->stream != NULL && a->stream->taken >= a->answer_end;
}

static bool
permits_another(const struct oracle_arrival *a)
{
	if (a->stream == NULL || a->died)
		return true;
	return !a->durable && a->stream->over && (a->stopped || !has_answer(a));
}

static bool
may_come_again(const struct oracle_recipient *r)
{
	for (unsigned n = 0; n < ORACLE_NODES; n++)
		if (!permits_another(&r->by[n]))
			return false;
	return true;
}

/* Of a mail that another node has taken over: a copy whose end was sent before an outcome of the
 * other was durable, or by a node that was sure that it was the owner then (oracle_ends_data). The
 * sink may read it at any time. */
static bool
has_crossed(const struct oracle_mail *m, const struct oracle_recipient *r,
	    const struct sim_traffic *stream)
{
	if (m->lost_us[stream->node] != 0 && stream->node != m->owner)
		return true;
	return m->crossings > 0 && r->durable_us != 0 &&
	       sim_traffic_handed_us(stream) <= r->durable_us;
}

/* In one turn a relay that ends lets go of a stream and gives its recipient up. */
enum { TURN_US = 10000 };

/* A copy on a stream that the relay has let go of since: the sink was slow to read it. It was in
 * doubt then, and so the mail was sent again before this one is read, or has come to the end of its
 * time. */
static bool
is_late_copy(const struct oracle_recipient *r, const struct sim_traffic *stream)
{
	if (stream->left_us == 0)
		return false;
	const struct oracle_arrival *last = &r->by[r->last_by];
	return r->arrived == 0 ? r->expired && stream->left_us < r->expired_us + TURN_US
			       : stream != last->stream && stream->left_us < last->at_us;
}

void
oracle_arrived(struct oracle_mail *m, uint32_t recipient, struct span data, unsigned token,
	       const struct sim_traffic *stream)
{
	struct oracle_recipient *r = &m->recipients[recipient];

	check_may_arrive(m);
	if (!r->offered)
		sim_fail("mail %u arrives for recipient %u, whom the relay refused", m->number,
			 recipient);
	check_text(m, data);
	sim_note("arrived", m->number, recipient);
	world->oracle->arrivals++;
	if (is_late_copy(r, stream)) {
		world->oracle->duplicates++;
		return;
	}
	bool crossed = has_crossed(m, r, stream);
	if (!crossed) {
		if (r->over_at & 1 << m->owner)
			sim_fail("mail %u arrives for recipient %u, whose outcome is recorded",
				 m->number, recipient);
		if (r->arrived > 0 && !may_come_again(r))
			sim_fail("mail %u arrives again for recipient %u, without a reason",
				 m->number, recipient);
	}
	world->oracle->duplicates += r->arrived > 0;
	r->arrived++;
	r->last_by = stream->node;
	r->by[stream->node] = (struct oracle_arrival){
		.at_us = world->now_us,
		.token = token,
		.earlier = r->by[stream->node].token,
		.stream = stream,
		.answer_end = UINT64_MAX,
		.died = crossed,
	};
}

void
oracle_answering(struct oracle_mail *m, uint32_t recipient, unsigned token, uint64_t answer_end)
{
	struct oracle_recipient *r = &m->recipients[recipient];

	for (unsigned n = 0; n < ORACLE_NODES; n++)
		if (r->by[n].token == token)
			r->by[n].answer_end = answer_end;
	sim_note("answered", m->number, recipient);
}

void
oracle_bounced(struct oracle_mail *m, uint32_t recipient)
{
	m->recipients[recipient].possible |= 1 << RECIPIENT_FAILED;
	m->recipients[recipient].refused = true;
}

static void
token_durable(const struct oracle_mail *m, struct oracle_recipient *r, unsigned token)
{
	for (unsigned n = 0; n < ORACLE_NODES; n++) {
		if (r->by[n].token != token)
			continue;
		r->by[n].durable = true;
		r->by[n].died = r->by[n].died && m->owner != n;
		if (r->durable_us == 0)
			r->durable_us = world->now_us;
	}
}

void
oracle_token_durable(unsigned token)
{
	struct oracle *o = world->oracle;

	for (uint32_t i = 0; i < o->mail_count; i++)
		for (uint32_t k = 0; k < o->mails[i].recipient_count; k++)
			token_durable(&o->mails[i], &o->mails[i].recipients[k], token);
}

/* ---- the store ---- */

void
oracle_putting(struct oracle_mail *m, const struct mail_envelope *e)
{
	m->id = e->id;
	m->node = m->owner = world->node;
	m->incarnation = world->oracle->lives[m->node];
	oracle_accepted(m, e->accepted_at_ms);
}

void
oracle_put_done(struct oracle_mail *m, enum err e)
{
	m->durable = e == ERR_OK;
	m->in_doubt = e == ERR_IN_DOUBT;
	m->alive |= e == ERR_OK;
	if (e == ERR_OK)
		oracle_taken_in(m);
	sim_note("put", m->number, (uint64_t)e);
}

/* The final states, as bits. */
enum { FINAL = 1 << RECIPIENT_DELIVERED | 1 << RECIPIENT_FAILED };

void
oracle_outcome_asked(struct oracle_mail *m, const struct queue_result *result, bool is_its)
{
	uint32_t recipient = result->recipient;
	uint8_t state = result->state;
	struct oracle_recipient *r = &m->recipients[recipient];

	struct oracle_arrival *a = &r->by[world->node];

	if (is_its && r->over_at & 1 << world->node)
		sim_fail("mail %u recipient %u: an outcome is recorded after the last one",
			 m->number, recipient);
	if (state == RECIPIENT_DELIVERED && !has_answer(a))
		sim_fail("mail %u recipient %u: no sink has said that it took it", m->number,
			 recipient);
	if (state == RECIPIENT_FAILED && is_its && !(r->possible & 1 << RECIPIENT_FAILED))
		sim_fail("mail %u recipient %u: no sink has refused it, and its time is not over",
			 m->number, recipient);
	if (state != RECIPIENT_PENDING && !(FINAL & 1 << state))
		sim_fail("mail %u recipient %u: nobody has asked for state %u", m->number,
			 recipient, state);
	/* A process that was stopped sees that it has waited for too long, and decides so, before
	 * the receive completes that brings the answer. */
	a->stopped = span_eq(result->reply, SPAN("451 4.3.2 we ended the connection")) ||
		     (span_starts_with(result->reply, SPAN("451 4.4.2 the next hop was silent")) &&
		      a->stream != NULL && !has_answer(a));
	r->recording[world->node] |= (uint8_t)(1 << state);
	sim_note("recording", (uint64_t)m->number << 8 | recipient, state);
}

void
oracle_outcome_done(struct oracle_mail *m, const struct queue_result *result)
{
	uint32_t recipient = result->recipient;
	uint8_t state = result->state;
	struct oracle_recipient *r = &m->recipients[recipient];

	r->recording[world->node] = 0;
	r->recorded[state]++;
	r->unlogged[world->node][state]++;
	if (FINAL & 1 << state)
		r->over_at |= (uint8_t)(1 << world->node);
	sim_note("recorded", (uint64_t)m->number << 8 | recipient, state);
	if (state != RECIPIENT_DELIVERED)
		return;
	struct oracle_arrival *a = &r->by[world->node];
	bool is_written = world->oracle->is_remote ? a->durable || m->crossings > 0
						   : oracle_token_is_written(a->token);
	if (!is_written)
		sim_fail("mail %u recipient %u: confirmed, but no durable write has the outcome",
			 m->number, recipient);
	a->durable = true;
}

/* ---- crash and end ---- */

/* A server may still get what was asked last, until it gives the mail to somebody. */
static void
asker_ended(struct oracle_recipient *r, unsigned node)
{
	if (r->asked_by != node)
		return;
	if (!world->oracle->is_remote || (r->asked & ~r->executed) == 0) {
		oracle_times_ended(r);
		return;
	}
	r->is_orphan = true;
	r->may_be_over |= (r->asked & ~(1 << RECIPIENT_PENDING)) != 0;
}

static void
recipient_crashed(struct oracle_recipient *r, unsigned node)
{
	struct oracle *o = world->oracle;
	struct oracle_arrival *a = &r->by[node];

	a->died = a->stream != NULL && (a->died || !a->durable);
	asker_ended(r, node);
	/* What was on its way to the disk may have got there: then it will have no event. */
	r->eventless |= r->recording[node] & FINAL;
	r->recording[node] = 0;
	for (unsigned s = 0; s < ORACLE_STATES; s++) {
		o->eventless += r->unlogged[node][s];
		if (r->unlogged[node][s] > 0)
			r->eventless |= (uint8_t)(1 << s);
		r->unlogged[node][s] = 0;
	}
}

void
oracle_crashed(unsigned node)
{
	struct oracle *o = world->oracle;

	for (uint32_t i = 0; i < o->mail_count; i++) {
		struct oracle_mail *m = &o->mails[i];
		bool was_its = m->node == node && oracle_putter_lives(m);
		m->eventless |= was_its && m->received == 0;
		m->notices_unlogged[node] = 0;
		if (was_its)
			oracle_server_keeps(m);
		for (uint32_t k = 0; k < m->recipient_count; k++)
			recipient_crashed(&m->recipients[k], node);
	}
}

void
oracle_stopped(unsigned node)
{
	struct oracle *o = world->oracle;

	for (uint32_t i = 0; i < o->mail_count; i++) {
		struct oracle_mail *m = &o->mails[i];
		if (m->node == node && oracle_putter_lives(m))
			oracle_server_keeps(m);
		for (uint32_t k = 0; k < m->recipient_count; k++) {
			struct oracle_recipient *r = &m->recipients[k];
			struct oracle_arrival *a = &r->by[node];
			a->died |= a->stream != NULL && !a->durable && r->recording[node] != 0;
			r->given_up |= r->recording[node];
			r->recording[node] = 0;
			asker_ended(r, node);
		}
	}
}

/* With the events: the one of its last outcome, unless that was lost with the process. */
static void
check_last_outcome(const struct oracle_mail *m, uint32_t recipient)
{
	const struct oracle_recipient *r = &m->recipients[recipient];
	unsigned delivered = r->recorded[RECIPIENT_DELIVERED];
	unsigned failed = r->recorded[RECIPIENT_FAILED];

	if (delivered + failed > 1 && m->crossings == 0)
		sim_fail("mail %u recipient %u has %u outcomes", m->number, recipient,
			 delivered + failed);
	if (delivered + failed >= 1)
		return; /* with its event: oracle_check_logged */
	bool may_be = (r->eventless & 1 << RECIPIENT_DELIVERED && r->arrived > 0) ||
		      (r->eventless & 1 << RECIPIENT_FAILED && r->possible & 1 << RECIPIENT_FAILED);
	if (!may_be)
		sim_fail("mail %u recipient %u has no outcome", m->number, recipient);
}

void
oracle_check_arrived(void)
{
	struct oracle *o = world->oracle;

	for (uint32_t i = 0; i < o->mail_count; i++) {
		const struct oracle_mail *m = &o->mails[i];
		bool kept = m->put == PUT_KEPT || m->alive;
		/* Who has refused it in doubt does not know that another took it over before. */
		bool is_unknown = m->eventless || (m->in_doubt && m->crossings > 0);
		if (o->has_spy && kept && m->received == 0 && !is_unknown)
			sim_fail("mail %u was taken in without an event", m->number);
		for (uint32_t k = 0; k < m->recipient_count; k++) {
			const struct oracle_recipient *r = &m->recipients[k];
			if (m->put == PUT_STARTED)
				o->unacknowledged += r->arrived > 0;
			if (!kept || !r->offered)
				continue;
			if (r->arrived == 0 && !(r->possible & (1 << RECIPIENT_FAILED)))
				sim_fail("mail %u for recipient %u is lost", m->number, k);
			if (o->has_spy)
				check_last_outcome(m, k);
		}
	}
}
