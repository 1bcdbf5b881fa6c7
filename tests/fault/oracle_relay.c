/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of the oracle that judges what arrives at the sinks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim.h"

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
	size_t at = (size_t)snprintf(head, sizeof head,
				     "X-Mail: %06u\r\nSubject: simulated\r\n\r\n", m->number);
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
	struct span digits = span_first(span_after(address, 5), 6);
	uint64_t number = 0;

	if (!span_starts_with(address, SPAN("mail-")) || !span_to_u64(digits, &number) ||
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

void
oracle_arrived(struct oracle_mail *m, uint32_t recipient, struct span data)
{
	struct oracle_recipient *r = &m->recipients[recipient];

	if (m->put == PUT_DOUBT && m->incarnation == world->oracle->incarnation)
		sim_fail("mail %u was refused in doubt and arrives", m->number);
	world->oracle->doubts += m->put == PUT_DOUBT;
	if (m->put == PUT_NEW || m->put == PUT_REFUSED)
		sim_fail("mail %u arrives, but it was %s", m->number,
			 m->put == PUT_NEW ? "never offered whole" : "refused");
	if (!r->offered)
		sim_fail("mail %u arrives for recipient %u, whom the relay refused", m->number,
			 recipient);
	check_text(m, data);
	sim_note("arrived", m->number, recipient);
	world->oracle->arrivals++;
	if (r->arrived > 0) {
		if (!r->may_come_again)
			sim_fail("mail %u arrives again for recipient %u, without a reason",
				 m->number, recipient);
		world->oracle->duplicates++;
	}
	r->arrived++;
	r->settled_us = 0;
	r->may_come_again = true; /* until the relay has the answer */
}

void
oracle_answered(struct oracle_mail *m, uint32_t recipient)
{
	m->recipients[recipient].settled_us = world->now_us;
	m->recipients[recipient].may_come_again = false;
	sim_note("answered", m->number, recipient);
}

void
oracle_answer_lost(struct oracle_mail *m, uint32_t recipient)
{
	m->recipients[recipient].may_come_again = true;
}

void
oracle_bounced(struct oracle_mail *m, uint32_t recipient)
{
	m->recipients[recipient].possible |= 1 << RECIPIENT_FAILED;
}

void
oracle_crashed(void)
{
	struct oracle *o = world->oracle;

	for (uint32_t i = 0; i < o->mail_count; i++)
		for (uint32_t k = 0; k < o->mails[i].recipient_count; k++) {
			struct oracle_recipient *r = &o->mails[i].recipients[k];
			if (r->arrived > 0 &&
			    (r->settled_us == 0 || world->now_us - r->settled_us < o->window_us))
				r->may_come_again = true;
		}
}

void
oracle_check_arrived(void)
{
	struct oracle *o = world->oracle;

	for (uint32_t i = 0; i < o->mail_count; i++) {
		const struct oracle_mail *m = &o->mails[i];
		for (uint32_t k = 0; k < m->recipient_count; k++) {
			const struct oracle_recipient *r = &m->recipients[k];
			if (m->put == PUT_STARTED)
				o->unacknowledged += r->arrived > 0;
			if (m->put == PUT_KEPT && r->offered && r->arrived == 0 &&
			    !(r->possible & (1 << RECIPIENT_FAILED)))
				sim_fail("mail %u for recipient %u is lost", m->number, k);
		}
	}
}
