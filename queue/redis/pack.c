/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/redis/pack.h"

#include "core/base/assert.h"

enum {
	VERSION = 1,
	ENVELOPE_FIXED = 1 + 4 + 1 + 8 + 8 + 4, /* version, flags, ret, accepted, size, count */
	RECIPIENT_LEAST = 1 + 2 + 2,            /* notify, and the lengths of two texts */
	NOTIFY_ALL = NOTIFY_NEVER | NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY,
	FLAG_NOTIFIED = 1, /* of a state */
	FLAG_ALONE = 2,
	FLAGS_ALL = FLAG_NOTIFIED | FLAG_ALONE,
};

/* By enum recipient_state. */
static const char letters[] = "PDXFR";
_Static_assert(sizeof letters - 1 == RECIPIENT_REMOVED + 1, "a letter for each state");

/* ---- numbers and texts ---- */

static void
put_number(struct buf *out, uint64_t n, size_t size)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(n >> (8 * i));
	buf_append(out, span_of(bytes, size));
}

static void
put_text(struct buf *out, struct span s)
{
	ASSERT(s.size <= UINT16_MAX);
	put_number(out, s.size, 2);
	buf_append(out, s);
}

/* Takes from the front of *s; sets *bad and gives 0 where it is cut. */
static uint64_t
take_number(struct span *s, size_t size, bool *bad)
{
	uint64_t n = 0;

	if (s->size < size) {
		*bad = true;
		return 0;
	}
	for (size_t i = 0; i < size; i++)
		n |= (uint64_t)s->data[i] << (8 * i);
	*s = span_after(*s, size);
	return n;
}

static struct span
take_text(struct span *s, bool *bad)
{
	size_t size = take_number(s, 2, bad);

	if (*bad || s->size < size) {
		*bad = true;
		return span_none();
	}
	struct span text = span_first(*s, size);
	*s = span_after(*s, size);
	return text;
}

/* ---- envelopes ---- */

uint64_t
pack_envelope_size(const struct mail_envelope *e)
{
	uint64_t size = ENVELOPE_FIXED + 3 * 2 + e->sender.size + e->envid.size + e->client.size;

	for (uint32_t i = 0; i < e->recipient_count; i++) {
		const struct mail_recipient *r = &e->recipients[i];
		size += RECIPIENT_LEAST + r->address.size + r->orcpt.size;
	}
	return size;
}

bool
pack_envelope(struct buf *out, const struct mail_envelope *e)
{
	ASSERT(e->ret <= RET_HEADERS);
	put_number(out, VERSION, 1);
	put_number(out, e->flags, 4);
	put_number(out, e->ret, 1);
	put_number(out, e->accepted_at_ms, 8);
	put_number(out, e->body_size, 8);
	put_number(out, e->recipient_count, 4);
	put_text(out, e->sender);
	put_text(out, e->envid);
	put_text(out, e->client);
	for (uint32_t i = 0; i < e->recipient_count; i++) {
		const struct mail_recipient *r = &e->recipients[i];
		ASSERT((r->notify & ~NOTIFY_ALL) == 0);
		put_number(out, r->notify, 1);
		put_text(out, r->address);
		put_text(out, r->orcpt);
	}
	return !out->overflow;
}

/* All before the recipients, whose number is no more than the bytes can hold. */
static bool
take_head(struct span *s, struct mail_envelope *e)
{
	bool bad = false;

	if (take_number(s, 1, &bad) != VERSION)
		return false;
	*e = (struct mail_envelope){ .flags = (uint32_t)take_number(s, 4, &bad) };
	e->ret = (uint8_t)take_number(s, 1, &bad);
	e->accepted_at_ms = take_number(s, 8, &bad);
	e->body_size = take_number(s, 8, &bad);
	e->recipient_count = (uint32_t)take_number(s, 4, &bad);
	e->sender = take_text(s, &bad);
	e->envid = take_text(s, &bad);
	e->client = take_text(s, &bad);
	return !bad && e->ret <= RET_HEADERS && e->recipient_count <= s->size / RECIPIENT_LEAST;
}

static bool
take_recipient(struct span *s, struct mail_recipient *r)
{
	bool bad = false;

	*r = (struct mail_recipient){ .notify = (uint8_t)take_number(s, 1, &bad) };
	r->address = take_text(s, &bad);
	r->orcpt = take_text(s, &bad);
	return !bad && (r->notify & ~NOTIFY_ALL) == 0;
}

bool
pack_measure(struct span bytes, uint32_t *recipient_count, size_t *text_size)
{
	struct mail_envelope e;
	struct mail_recipient r;

	if (!take_head(&bytes, &e))
		return false;
	*recipient_count = e.recipient_count;
	*text_size = e.sender.size + e.envid.size + e.client.size;
	for (uint32_t i = 0; i < e.recipient_count; i++) {
		if (!take_recipient(&bytes, &r))
			return false;
		*text_size += r.address.size + r.orcpt.size;
	}
	return bytes.size == 0;
}

bool
pack_read_envelope(struct span bytes, struct mail_envelope *out)
{
	struct mail_recipient *recipients = out->recipients;
	struct mail_id id = out->id;

	if (!take_head(&bytes, out))
		return false;
	out->id = id;
	out->recipients = recipients;
	for (uint32_t i = 0; i < out->recipient_count; i++) {
		if (!take_recipient(&bytes, &recipients[i]))
			return false;
	}
	return bytes.size == 0;
}

/* ---- states ---- */

void
pack_state(struct buf *out, const struct pack_state *s)
{
	ASSERT(s->state <= RECIPIENT_REMOVED);
	put_number(out, (uint8_t)letters[s->state], 1);
	put_number(out, s->starts, 2);
	put_number(out, s->closed, 2);
	put_number(out, s->attempts, 2);
	put_number(out, (s->notified ? FLAG_NOTIFIED : 0) | (s->alone ? FLAG_ALONE : 0), 1);
	put_number(out, s->retry_at_ms, 8);
	buf_append(out, span_first(s->reply, PACK_REPLY_MOST));
}

bool
pack_read_state(struct span bytes, struct pack_state *out)
{
	bool bad = false;

	*out = (struct pack_state){ .state = RECIPIENT_PENDING };
	if (bytes.size == 0)
		return true;
	const char *letter = memchr(letters, bytes.data[0], sizeof letters - 1);
	if (letter == NULL || bytes.size > PACK_STATE_LEAST + PACK_REPLY_MOST)
		return false;
	bytes = span_after(bytes, 1);
	out->state = (uint8_t)(letter - letters);
	out->starts = (uint16_t)take_number(&bytes, 2, &bad);
	out->closed = (uint16_t)take_number(&bytes, 2, &bad);
	out->attempts = (uint16_t)take_number(&bytes, 2, &bad);
	uint64_t flags = take_number(&bytes, 1, &bad);
	out->notified = (flags & FLAG_NOTIFIED) != 0;
	out->alone = (flags & FLAG_ALONE) != 0;
	out->retry_at_ms = take_number(&bytes, 8, &bad);
	out->reply = bytes; /* what is left: the bytes come whole from a hash of the server */
	return !bad && (flags & ~(uint64_t)FLAGS_ALL) == 0;
}
