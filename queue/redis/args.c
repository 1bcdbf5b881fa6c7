/* SPDX-License-Identifier: Apache-2.0
 *
 * A command being put together: its arguments, and the texts that exist only for it. There is one
 * for an end, since a command is copied when it is sent.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "queue/redis/internal.h"

bool
args_begin(struct redis_end *e, const char *function, unsigned shard, unsigned count, size_t text)
{
	struct redis_args *a = &e->args;
	enum { FUNCTION = 4 };

	a->count = 0;
	buf_reset(&a->text);
	if (count + FUNCTION > a->capacity) {
		struct span *larger = realloc(a->spans, 2 * (count + FUNCTION) * sizeof *larger);
		if (larger == NULL)
			return false;
		a->spans = larger;
		a->capacity = 2 * (count + FUNCTION);
	}
	if (text > a->text.capacity) {
		uint8_t *larger = realloc(a->text.data, 2 * text);
		if (larger == NULL)
			return false;
		a->text.data = larger;
		a->text.capacity = 2 * text;
	}
	if (function == NULL)
		return true;
	args_span(e, SPAN("FCALL"));
	args_span(e, span_of_string(function));
	args_span(e, SPAN("1"));
	args_span(e, span_of_string(e->store->tags[shard]));
	return true;
}

void
args_span(struct redis_end *e, struct span s)
{
	ASSERT(e->args.count < e->args.capacity);
	e->args.spans[e->args.count++] = s;
}

/* What was written to the text since `from`. */
static void
args_text_since(struct redis_end *e, size_t from)
{
	struct buf *text = &e->args.text;

	ASSERT(!text->overflow);
	args_span(e, span_of(text->data + from, text->size - from));
}

void
args_number(struct redis_end *e, uint64_t number)
{
	size_t from = e->args.text.size;

	buf_append_number(&e->args.text, number);
	args_text_since(e, from);
}

void
args_id(struct redis_end *e, struct mail_id id)
{
	size_t from = e->args.text.size;

	id_hex(&e->args.text, id);
	args_text_since(e, from);
}

void
args_given(struct redis_end *e, const struct redis_mail *m)
{
	struct buf *text = &e->args.text;
	size_t from = text->size;

	id_hex(text, m->mail.id);
	buf_append_byte(text, ':');
	buf_append_number(text, m->giving);
	args_text_since(e, from);
}

void
args_state(struct redis_end *e, const struct pack_state *s)
{
	size_t from = e->args.text.size;
	struct pack_state stored = *s;

	stored.retry_at_ms = s->retry_at_ms == 0 ? 0 : to_redis_ms(e, s->retry_at_ms);
	pack_state(&e->args.text, &stored);
	args_text_since(e, from);
}

bool
args_envelope(struct redis_end *e, const struct mail_envelope *envelope)
{
	size_t from = e->args.text.size;
	struct mail_envelope stored = *envelope;

	stored.accepted_at_ms = to_redis_ms(e, envelope->accepted_at_ms);
	if (!pack_envelope(&e->args.text, &stored))
		return false;
	args_text_since(e, from);
	return true;
}

void
args_incarnation(struct redis_end *e)
{
	args_span(e, span_of((uint8_t *)e->store->incarnation, REDIS_INCARNATION_SIZE));
}

void
args_owner(struct redis_end *e, const struct redis_mail *m)
{
	if (m->stale)
		args_span(e, SPAN("-"));
	else
		args_incarnation(e);
}

void
args_lane(struct redis_end *e, const struct redis_mail *m, uint32_t recipient)
{
	args_lane_of(e, m->envelope.recipients[recipient].address);
}

void
args_lane_of(struct redis_end *e, struct span address)
{
	size_t from = e->args.text.size;
	size_t at = address.size;

	while (at > 0 && address.data[at - 1] != '@')
		at--;
	struct span domain = span_first(span_after(address, at), REDIS_LANE_MOST);
	for (size_t i = 0; i < domain.size; i++)
		buf_append_byte(&e->args.text, ascii_lower(domain.data[i]));
	if (domain.size == 0)
		buf_append_byte(&e->args.text, '-');
	args_text_since(e, from);
}

void
args_piece_key(struct redis_end *e, struct mail_id id, unsigned shard, uint32_t number)
{
	struct buf *text = &e->args.text;
	size_t from = text->size;

	buf_append_string(text, e->store->tags[shard]);
	buf_append_string(text, ":b:");
	id_hex(text, id);
	buf_append_byte(text, ':');
	buf_append_number(text, number);
	args_text_since(e, from);
}

void
args_mail_key(struct redis_end *e, struct mail_id id, unsigned shard)
{
	struct buf *text = &e->args.text;
	size_t from = text->size;

	buf_append_string(text, e->store->tags[shard]);
	buf_append_string(text, ":m:");
	id_hex(text, id);
	args_text_since(e, from);
}

void
args_own_key(struct redis_end *e, unsigned shard)
{
	struct buf *text = &e->args.text;
	size_t from = text->size;

	buf_append_string(text, e->store->tags[shard]);
	buf_append_string(text, ":own:");
	buf_append(text, span_of((uint8_t *)e->store->incarnation, REDIS_INCARNATION_SIZE));
	args_text_since(e, from);
}

void
args_send(struct redis_end *e, struct redis_link *l, struct redis_call *c)
{
	ASSERT(!e->args.text.overflow);
	e->calls_open++;
	redis_send(l, c, e->args.spans, e->args.count);
}

/* ---- ids and numbers as texts ---- */

void
id_hex(struct buf *out, struct mail_id id)
{
	static const char digits[] = "0123456789abcdef";

	for (int shift = 60; shift >= 0; shift -= 4)
		buf_append_byte(out, (uint8_t)digits[id.high >> shift & 15]);
	for (int shift = 60; shift >= 0; shift -= 4)
		buf_append_byte(out, (uint8_t)digits[id.low >> shift & 15]);
}

static bool
half_of_hex(const uint8_t *text, uint64_t *out)
{
	*out = 0;
	for (unsigned i = 0; i < 16; i++) {
		uint8_t c = text[i];
		bool is_digit = c >= '0' && c <= '9';
		if (!is_digit && (c < 'a' || c > 'f'))
			return false;
		*out = *out << 4 | (uint64_t)(is_digit ? c - '0' : c - 'a' + 10);
	}
	return true;
}

bool
id_of_hex(struct span text, struct mail_id *out)
{
	return text.size == REDIS_ID_SIZE && half_of_hex(text.data, &out->high) &&
	       half_of_hex(text.data + 16, &out->low);
}

/* ---- answers ---- */

struct span
redis_text(const struct redisReply *r)
{
	bool is_text = r != NULL && (r->type == REDIS_REPLY_STRING ||
				     r->type == REDIS_REPLY_STATUS || r->type == REDIS_REPLY_ERROR);

	return is_text ? span_of((const uint8_t *)r->str, r->len) : span_none();
}

const struct redisReply *
redis_at(const struct redisReply *r, size_t at)
{
	if (r == NULL || r->type != REDIS_REPLY_ARRAY || at >= r->elements)
		return NULL;
	return r->element[at];
}

bool
redis_number(const struct redisReply *r, int64_t *out)
{
	if (r == NULL || r->type != REDIS_REPLY_INTEGER)
		return false;
	*out = r->integer;
	return true;
}
