/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "tests/fault/peers.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_net.h"

/* One durable write of this incarnation. */
struct write {
	struct ring *ring;
	uint32_t file;
	bool names_mail;
	bool done;
	bool whole;
};

static struct write *writes; /* by number, from 1 */
static size_t write_places;

/* Tokens of sinks' answers that were written in this incarnation, with the last write of each. */
struct token {
	unsigned token;
	uint64_t write;
	bool durable; /* told */
};

static struct token *tokens;
static size_t token_count;

static const char *const state_names[] = { "pending", "delivered", "discarded", "failed",
					   "removed" };

void
oracle_new(void)
{
	world->oracle = sim_allocate(sizeof *world->oracle);
}

void
oracle_restart(void)
{
	struct oracle *o = world->oracle;

	world->node = 0;
	oracle_node_up();
	for (uint32_t i = 0; i < o->mail_count; i++)
		o->mails[i].write = 0;
}

void
oracle_node_up(void)
{
	struct oracle *o = world->oracle;

	o->lives[world->node] = ++o->incarnation;
}

bool
oracle_putter_lives(const struct oracle_mail *m)
{
	return m->incarnation == world->oracle->lives[m->node];
}

/* ---- mails ---- */

struct oracle_mail *
oracle_mail_new(uint64_t body_size, uint32_t recipient_count)
{
	struct oracle *o = world->oracle;

	ASSERT(recipient_count > 0 && recipient_count <= ORACLE_RECIPIENTS_MAX);
	if (o->mail_count == ORACLE_MAILS_MAX)
		return NULL;
	struct oracle_mail *m = &o->mails[o->mail_count];
	*m = (struct oracle_mail){
		.number = ++o->mail_count,
		.id = { sim_random(), sim_random() },
		.accepted_at_ms = clock_wall_ms(),
		.body_size = body_size,
		.recipient_count = recipient_count,
		.held = 1,
		.incarnation = o->incarnation,
	};
	for (uint32_t i = 0; i < recipient_count; i++)
		m->recipients[i] = (struct oracle_recipient){
			.possible = 1 << RECIPIENT_PENDING,
			.notified = 1,
			.site = (uint8_t)sim_below(ORACLE_SITES),
			.unknown = o->asks_sinks && sim_chance(200),
		};
	return m;
}

struct oracle_mail *
oracle_find(struct mail_id id)
{
	struct oracle *o = world->oracle;

	for (uint32_t i = 0; i < o->mail_count; i++)
		if (mail_id_eq(o->mails[i].id, id))
			return &o->mails[i];
	return NULL;
}

char *
oracle_sender(const struct oracle_mail *m, char *out)
{
	/* Some come from one source, so far as turns go. */
	snprintf(out, 64, "s%u+mail-%06u@from.example", m->number % 4, m->number);
	return out;
}

char *
oracle_recipient_address(const struct oracle_mail *m, uint32_t recipient, char *out)
{
	snprintf(out, 64, "r%u.%u@site%u.example", recipient, m->number,
		 m->recipients[recipient].site);
	return out;
}

struct site_id
oracle_site_of(struct span address, uint32_t flags)
{
	struct oracle *o = world->oracle;
	char text[64] = "";
	unsigned recipient;
	unsigned mail;
	unsigned site;

	ASSERT(address.size < sizeof text);
	memcpy(text, address.data, address.size);
	if (sscanf(text, "r%u.%u@site%u.", &recipient, &mail, &site) != 3 || mail == 0 ||
	    mail > o->mail_count || recipient >= o->mails[mail - 1].recipient_count)
		sim_fail("the site is asked for of %s, which was never offered", text);
	if (flags != oracle_flags(mail))
		sim_fail("the site is asked for of %s with the flags of another mail", text);
	site = (site + o->route) % ORACLE_SITES;
	o->mails[mail - 1].recipients[recipient].routed = (uint8_t)site;
	return (struct site_id){ site };
}

/* ---- contents: pieces of 1024 bytes, each from its own key, so that any can be made alone ---- */

enum { PIECE = 1024 };

void
oracle_body(const struct oracle_mail *m, uint64_t offset, uint8_t *out, size_t size)
{
	uint8_t piece[PIECE];

	while (size > 0) {
		size_t within = offset % PIECE;
		size_t n = PIECE - within < size ? PIECE - within : size;
		sim_fill(((uint64_t)m->number << 32) + offset / PIECE, piece, sizeof piece);
		memcpy(out, piece + within, n);
		out += n;
		offset += n;
		size -= n;
	}
}

void
oracle_check_body(const struct oracle_mail *m, uint64_t offset, struct span bytes)
{
	uint8_t want[PIECE];

	if (offset + bytes.size > m->body_size)
		sim_fail("mail %u: body is longer than it was", m->number);
	for (size_t done = 0; done < bytes.size;) {
		size_t n = bytes.size - done < PIECE ? bytes.size - done : PIECE;
		oracle_body(m, offset + done, want, n);
		if (memcmp(want, bytes.data + done, n) != 0)
			sim_fail("mail %u: body differs in the %zu bytes at %llu", m->number, n,
				 (unsigned long long)(offset + done));
		done += n;
	}
	world->oracle->bytes_checked += bytes.size;
}

/* ---- durable writes ---- */

/* Finds the mails that are named in the data: their senders are in their records. */
static bool
note_mails(uint64_t number, const uint8_t *data, size_t size)
{
	static const char mark[] = "mail-";
	const uint8_t *at = data;
	bool found = false;

	while ((at = memmem(at, size - (size_t)(at - data), mark, sizeof mark - 1)) != NULL) {
		unsigned mail = 0;
		size_t left = size - (size_t)(at - data);
		for (size_t i = 5; i < 11 && i < left; i++)
			mail = mail * 10 + (unsigned)(at[i] - '0');
		at += sizeof mark - 1;
		if (left < 12 || at[6] != '@' || mail == 0 || mail > world->oracle->mail_count)
			continue;
		struct oracle_mail *m = &world->oracle->mails[mail - 1];
		if (m->write == 0)
			m->write = number;
		found = true;
	}
	return found;
}

static struct token *
find_token(unsigned token)
{
	for (size_t i = token_count; i > 0; i--)
		if (tokens[i - 1].token == token)
			return &tokens[i - 1];
	return NULL;
}

static void
note_token(unsigned number, uint64_t write)
{
	struct token *t = find_token(number);

	if (t == NULL) {
		/* By powers of two, from 64. */
		if (token_count == 0 || (token_count >= 64 && !(token_count & (token_count - 1))))
			tokens = realloc(tokens, sizeof *tokens *
							 (token_count == 0 ? 64 : 2 * token_count));
		ASSERT(tokens != NULL);
		t = &tokens[token_count++];
		*t = (struct token){ .token = number };
	}
	t->write = write;
}

/* Finds the outcomes in the data: by the sinks' answers in their records. */
static void
note_tokens(uint64_t number, const uint8_t *data, size_t size)
{
	static const char mark[] = "taken-";
	const uint8_t *at = data;

	while ((at = memmem(at, size - (size_t)(at - data), mark, sizeof mark - 1)) != NULL) {
		size_t left = size - (size_t)(at - data);
		uint64_t token = 0;
		if (left >= 13 && at[12] == '.' && span_to_u64(span_of(at + 6, 6), &token))
			note_token((unsigned)token, number);
		at += sizeof mark - 1;
	}
}

static void
on_write(uint64_t number, struct ring *r, uint32_t file, const uint8_t *data, size_t size)
{
	if (number >= write_places) {
		write_places = write_places == 0 ? 256 : 2 * write_places;
		writes = realloc(writes, write_places * sizeof *writes);
		ASSERT(writes != NULL);
	}
	writes[number] = (struct write){ .ring = r,
					 .file = file,
					 .names_mail = note_mails(number, data, size) };
	note_tokens(number, data, size);
}

bool
oracle_token_is_written(unsigned token)
{
	const struct token *t = find_token(token);

	return t != NULL && writes[t->write].done;
}

/* Whole, and all that was written before it by the same worker: then it is found after a crash. */
static bool
is_certain(uint64_t number)
{
	for (uint64_t i = 1; i <= number; i++)
		if (writes[i].ring == writes[number].ring && !(writes[i].done && writes[i].whole))
			return false;
	return true;
}

static void
on_written(uint64_t number, bool whole)
{
	writes[number].done = true;
	writes[number].whole = whole;
	for (size_t i = 0; i < token_count; i++)
		if (!tokens[i].durable && writes[tokens[i].write].whole &&
		    is_certain(tokens[i].write)) {
			tokens[i].durable = true;
			oracle_token_durable(tokens[i].token);
		}
}

/* No confirmation before the completion of every batch up to the mail's own. */
static void
check_order(const struct oracle_mail *m)
{
	const struct write *own = &writes[m->write];

	if (world->oracle->is_remote) {
		if (world->oracle->has_spy && !m->committed)
			sim_fail("mail %u confirmed, and the server has not got it", m->number);
		return;
	}
	if (m->write == 0)
		sim_fail("mail %u confirmed, but no durable write has named it", m->number);
	for (uint64_t i = 1; i <= m->write; i++) {
		const struct write *w = &writes[i];
		bool same_log = w->ring == own->ring && (w->names_mail || w->file == own->file);
		if (same_log && !w->done)
			sim_fail("mail %u confirmed, but durable write %llu of %llu is under way",
				 m->number, (unsigned long long)i, (unsigned long long)m->write);
	}
}

/* Invariant 1, at the moment when a 250 is handed over: not only when it arrives. */
static void
on_send(struct ring *r, struct sim_socket *s, const uint8_t *data, size_t size)
{
	const struct oracle_mail *m = client_unanswered(sim_socket_peer(s));

	(void)r;
	if (m != NULL && size > 0 && data[0] == '2')
		check_order(m);
}

const struct sim_watch oracle_watch = {
	.on_write = on_write,
	.on_written = on_written,
	.on_send = on_send,
};

/* ---- what happened ---- */

void
oracle_put_kept(struct oracle_mail *m)
{
	check_order(m);
	ASSERT(m->put == PUT_STARTED);
	m->put = PUT_KEPT;
	world->oracle->kept++;
	sim_note("kept", m->number, m->write);
}

void
oracle_put_failed(struct oracle_mail *m, bool in_doubt)
{
	m->put = in_doubt ? PUT_DOUBT : PUT_REFUSED;
	world->oracle->refused++;
	sim_note(in_doubt ? "doubt" : "refused", m->number, 0);
}

/* A notice shows itself: so must the outcomes that it was written with. */
static void
notice_is_there(const struct oracle_mail *notice)
{
	struct oracle *o = world->oracle;
	struct oracle_mail *m = notice->about == 0 ? NULL : &o->mails[notice->about - 1];

	for (uint32_t i = 0; m != NULL && i < m->recipient_count; i++) {
		struct oracle_recipient *r = &m->recipients[i];
		if (notice->about_ended & 1 << i)
			r->possible &= (uint8_t) ~(1 << RECIPIENT_PENDING);
		if (notice->about_notified & 1 << i)
			r->notified &= 2;
		if ((r->possible == 0 || r->notified == 0) && !o->damaged)
			sim_fail("mail %u is there, the outcome of mail %u recipient %u is not",
				 notice->number, m->number, i);
	}
}

/* A recipient is pending again that a record under way at the crash may have ended: its notice must
 * never show itself. */
static void
forget_notices(const struct oracle_mail *m, uint32_t recipient)
{
	struct oracle *o = world->oracle;

	for (uint32_t i = 0; i < o->mail_count && !o->damaged; i++) {
		struct oracle_mail *n = &o->mails[i];
		if (n->about == m->number && n->about_ended & 1 << recipient &&
		    n->incarnation < o->incarnation &&
		    (n->put == PUT_STARTED || n->put == PUT_DOUBT))
			n->put = PUT_REFUSED;
	}
}

/* The mail shows itself: may it? */
static void
check_may_be_seen(struct oracle_mail *m)
{
	struct oracle *o = world->oracle;

	switch (m->put) {
	case PUT_KEPT:
		return;
	case PUT_DOUBT:
		if (m->incarnation == o->incarnation && m->undone == 0)
			sim_fail("mail %u was refused in doubt and is handed out", m->number);
		o->doubts++;
		break;
	case PUT_STARTED:
		if (m->incarnation == o->incarnation)
			sim_fail("mail %u is handed out before its put is done", m->number);
		break;
	case PUT_NEW:
	case PUT_REFUSED:
		if (m->put == PUT_REFUSED && m->undone > 0)
			break; /* that it was cancelled is lost */
		sim_fail("mail %u is handed out, but it was %s", m->number,
			 m->put == PUT_NEW ? "never put" : "refused");
	}
	m->put = PUT_KEPT;
	notice_is_there(m);
}

void
oracle_saw(struct oracle_mail *m, uint32_t recipient, uint8_t state, uint16_t attempts)
{
	struct oracle_recipient *r = &m->recipients[recipient];

	check_may_be_seen(m);
	if (!(r->possible & (1 << state)) && !world->oracle->damaged)
		sim_fail("mail %u recipient %u is %s, which it cannot be (set %#x)", m->number,
			 recipient, state_names[state], r->possible);
	if (r->possible != (1 << state) && state == RECIPIENT_PENDING) {
		world->oracle->duplicates++;
		forget_notices(m, recipient);
	}
	uint8_t doubt = world->oracle->is_remote ? r->possible & 1 << RECIPIENT_REMOVED : 0;
	/* What a node has in its hands may have been removed from the server by a command whose
	 * answer was lost. */
	r->possible = (uint8_t)(1 << state | doubt);
	if (world->oracle->damaged)
		r->attempts_least = r->attempts_most = attempts;
	if (attempts < r->attempts_least || attempts > r->attempts_most)
		sim_fail("mail %u recipient %u has %u attempts, not %u to %u", m->number, recipient,
			 attempts, r->attempts_least, r->attempts_most);
	r->attempts_least = r->attempts_most = attempts;
}

void
oracle_saw_notified(struct oracle_mail *m, uint32_t recipient, bool notified)
{
	struct oracle_recipient *r = &m->recipients[recipient];
	uint8_t seen = notified ? 2 : 1;

	if (!(r->notified & seen) && !world->oracle->damaged)
		sim_fail("mail %u recipient %u: it was %s that it is delayed", m->number, recipient,
			 notified ? "never told" : "told");
	r->notified = seen;
}

void
oracle_recording(struct oracle_mail *m, const struct queue_result *result)
{
	struct oracle_recipient *r = &m->recipients[result->recipient];

	r->possible |= (uint8_t)(1 << result->state);
	r->notified |= result->notified ? 2 : 0;
	r->retry_at_ms = 0;
	if (result->state == RECIPIENT_PENDING && result->tried &&
	    r->attempts_most == r->attempts_least)
		r->attempts_most++;
	if (result->state == RECIPIENT_DELIVERED)
		r->delivered++;
}

void
oracle_recorded(struct oracle_mail *m, const struct queue_result *result)
{
	struct oracle_recipient *r = &m->recipients[result->recipient];

	/* What is pending may have been removed behind the change, before its answer was heard. */
	uint8_t doubt = world->oracle->is_remote && result->state == RECIPIENT_PENDING
				? r->possible & 1 << RECIPIENT_REMOVED
				: 0;
	r->possible = (uint8_t)(1 << result->state | doubt);
	r->notified &= result->notified ? 2 : 3;
	r->retry_at_ms = result->retry_at_ms;
	r->attempts_least = r->attempts_most;
	world->oracle->outcomes++;
}

void
oracle_noticing(struct oracle_mail *notice, const struct oracle_mail *about,
		const struct queue_result *results, uint32_t count)
{
	notice->put = PUT_STARTED;
	notice->about = about->number;
	for (uint32_t i = 0; i < count; i++) {
		if (results[i].state != RECIPIENT_PENDING)
			notice->about_ended |= (uint8_t)(1 << results[i].recipient);
		if (results[i].notified)
			notice->about_notified |= (uint8_t)(1 << results[i].recipient);
	}
}

bool
oracle_is(const struct oracle_mail *m, uint32_t recipient, uint8_t state)
{
	return m->recipients[recipient].possible == (1 << state);
}

/* A notice that never showed itself: then its outcomes are not there either, and whoever was still
 * pending has been seen so (forget_notices), or was removed by an operator. */
static void
check_not_missing(const struct oracle_mail *notice)
{
	const struct oracle_mail *m = &world->oracle->mails[notice->about - 1];

	for (uint32_t i = 0; i < m->recipient_count && !m->gone; i++)
		if (notice->about_ended & 1 << i &&
		    !(m->recipients[i].possible & 1 << RECIPIENT_REMOVED))
			sim_fail("mail %u recipient %u has its outcome, its notice %u is missing",
				 m->number, i, notice->number);
}

void
oracle_check_done(void)
{
	struct oracle *o = world->oracle;

	for (uint32_t i = 0; i < o->mail_count; i++) {
		const struct oracle_mail *m = &o->mails[i];
		for (uint32_t k = 0; m->put == PUT_KEPT && k < m->recipient_count; k++)
			if (oracle_is(m, k, RECIPIENT_PENDING) && !o->damaged && !m->gone)
				sim_fail("mail %u recipient %u is lost", m->number, k);
		if (m->put == PUT_STARTED && m->about != 0 && !o->damaged)
			check_not_missing(m);
	}
}
