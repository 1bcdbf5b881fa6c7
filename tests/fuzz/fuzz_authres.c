/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses message */
/*
 * The value of an Authentication-Results field: the reader ends, and what it made of a field is
 * written as one that reads the same. And the bytes as a message: forged fields are gone however it
 * is cut, and what came out has no more of them.
 */
#include "core/base/assert.h"
#include "relay/message/authres.h"
#include "relay/message/fixup.h"
#include "relay/message/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VALUE_MAX = 8192 };

static uint8_t memories[4][4 * VALUE_MAX];

static void
note(struct buf *out, struct span s)
{
	buf_append(out, s);
	buf_append_byte(out, '\0');
}

/* What is read, item by item, into `items`; where it can be written, into `field`. False where it
 * is bad or holds what the writer does not write. */
static bool
read_value(struct span value, struct buf *items, struct authres_writer *w, struct buf *field)
{
	struct authres_reader r;
	struct authres_item item;
	enum authres_event event;
	size_t steps = 0;
	bool writable = true;

	if (!authres_open(&r, value) || r.id.size == 0 || r.id.cut)
		return false;
	if (field != NULL)
		authres_begin(w, field, span_of(r.id.text, r.id.size), true);
	while ((event = authres_next(&r, &item)) < AUTHRES_END) {
		ASSERT(steps++ < value.size);
		note(items, item.name);
		note(items, item.result);
		note(items, item.ptype);
		note(items, item.value);
		writable = writable && item.value.size <= AUTHRES_TEXT_MAX && item.name.size < 64 &&
			   item.result.size < 64 && item.ptype.size < 64;
		for (size_t i = 0; i < item.value.size; i++) /* others become '?' */
			writable =
				writable && item.value.data[i] >= ' ' && item.value.data[i] < 0x7f;
		if (!writable || field == NULL)
			continue;
		if (event == AUTHRES_METHOD)
			authres_method(w, item.name, item.version, item.result);
		else if (event == AUTHRES_REASON)
			authres_reason(w, item.value);
		else
			authres_property(w, item.ptype, item.name, item.value);
	}
	return event == AUTHRES_END && writable;
}

static void
check_value(struct span value)
{
	struct buf items = buf_of(memories[0], sizeof memories[0]);
	struct buf field = buf_of(memories[1], sizeof memories[1]);
	struct authres_writer w;

	if (!read_value(value, &items, &w, &field) || !authres_end(&w))
		return;
	struct buf again = buf_of(memories[2], sizeof memories[2]);
	struct span written = span_after(buf_span(&field), span_find(buf_span(&field), ':', 0) + 1);
	ASSERT(read_value(written, &again, NULL, NULL));
	ASSERT(items.overflow || span_eq(buf_span(&items), buf_span(&again)));
}

static struct buf
strip(const struct fixup_options *o, struct span in, size_t step, unsigned memory)
{
	struct buf out = buf_of(memories[memory], sizeof memories[memory]);
	struct fixup f;
	struct span piece;

	fixup_init(&f, o);
	while (in.size > 0) {
		struct span part = span_first(in, step);
		in = span_after(in, part.size);
		while (part.size > 0) {
			part = span_after(part, fixup_step(&f, part, &piece));
			buf_append(&out, piece);
		}
	}
	while (fixup_finish(&f, &piece))
		buf_append(&out, piece);
	ASSERT(!out.overflow);
	return out;
}

static bool
is_ours(struct span value, struct span id)
{
	struct authres_id m;
	enum authres_id_event event = AUTHRES_ID_MORE;

	authres_id_init(&m);
	for (size_t i = 0; i < value.size && event == AUTHRES_ID_MORE; i++)
		event = authres_id_feed(&m, value.data[i]);
	if (event == AUTHRES_ID_MORE)
		event = authres_id_finish(&m);
	return event != AUTHRES_ID_KNOWN || authres_id_is(&m, id);
}

/* Is there a field of ours in front of the body, by a reader that knows nothing of fixup? */
static void
look_for_ours(struct span message, struct span id)
{
	static uint8_t memory[4 * VALUE_MAX];
	struct header h;
	enum header_event event;

	header_init(&h, memory, sizeof memory);
	do {
		message = span_after(message, header_feed(&h, message, &event));
		if (event == HEADER_MORE)
			header_finish(&h, &event);
		ASSERT(event != HEADER_FIELD || !header_is(&h, SPAN("Authentication-Results")) ||
		       !is_ours(header_value(&h), id));
	} while (event != HEADER_END);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fixup_options o = { .authserv_id = SPAN("a.b") };

	if (size < 1 || size > VALUE_MAX)
		return 0;
	struct span in = span_of(data + 1, size - 1);
	check_value(in);
	struct buf whole = strip(&o, in, SIZE_MAX, 0);
	struct buf cut = strip(&o, in, (size_t)data[0] % 7 + 1, 1);
	ASSERT(span_eq(buf_span(&whole), buf_span(&cut)));
	look_for_ours(buf_span(&whole), o.authserv_id);
	return 0;
}
