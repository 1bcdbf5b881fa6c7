/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/sender_parts.h"

#include "core/base/assert.h"

static const struct reply_row {
	enum sender_phase phase;
	unsigned from;
	unsigned to;
	struct sender_meaning meaning;
} reply_rows[] = {
#define SENDER_REPLY(phase, from, to, class, next, then)               \
	{                                                              \
		SENDER_PHASE_##phase,                                  \
		from,                                                  \
		to,                                                    \
		{ SENDER_##class, SENDER_NEXT_##next, SENDER_##then }, \
	},
#include "core/tables/sender_replies.def"
#undef SENDER_REPLY
};

static const struct {
	const char *label;
	struct sender_meaning meaning;
	unsigned code;
	const char *status;
	const char *text;
} cause_rows[SENDER_CAUSE_COUNT] = {
#define SENDER_CAUSE(name, label, class, next, code, status, text) \
	{ label, { SENDER_##class, SENDER_NEXT_##next, SENDER_STAY }, code, status, text },
#include "core/tables/sender_causes.def"
#undef SENDER_CAUSE
};

static const struct {
	const char *label;
	uint32_t timeout_s;
} phase_rows[SENDER_PHASE_COUNT] = {
#define SENDER_PHASE(name, label, seconds) { label, seconds },
#include "core/tables/sender_phases.def"
#undef SENDER_PHASE
};

struct sender_meaning
sender_meaning_of(enum sender_phase phase, unsigned code)
{
	const size_t count = sizeof reply_rows / sizeof reply_rows[0];

	for (size_t i = 0; i < count; i++) {
		const struct reply_row *row = &reply_rows[i];
		if (row->phase == phase && code >= row->from && code <= row->to)
			return row->meaning;
	}
	/* The last row of every phase takes all codes. */
	assert_failed("a row for every code", __FILE__, __LINE__, __func__);
}

struct sender_meaning
sender_meaning_of_cause(enum sender_cause cause)
{
	ASSERT(cause < SENDER_CAUSE_COUNT);
	return cause_rows[cause].meaning;
}

uint32_t
sender_phase_timeout_s(enum sender_phase p)
{
	ASSERT(p < SENDER_PHASE_COUNT);
	return phase_rows[p].timeout_s;
}

const char *
sender_phase_label(enum sender_phase p)
{
	ASSERT(p < SENDER_PHASE_COUNT);
	return phase_rows[p].label;
}

const char *
sender_cause_label(enum sender_cause c)
{
	ASSERT(c < SENDER_CAUSE_COUNT);
	return cause_rows[c].label;
}

const char *
sender_cause_text(enum sender_cause c)
{
	ASSERT(c < SENDER_CAUSE_COUNT);
	return cause_rows[c].text;
}

bool
sender_outcome_show(const struct sender_outcome *o, struct buf *out)
{
	ASSERT(o->cause < SENDER_CAUSE_COUNT);
	if (o->reply != NULL)
		return reply_show(o->reply, out);
	return buf_printf(out, "%u %s %s", cause_rows[o->cause].code, cause_rows[o->cause].status,
			  cause_rows[o->cause].text);
}

/* "4.4.2" or "4.7.10", as the table has it. */
static struct reply_status
status_of_text(const char *text)
{
	return (struct reply_status){
		.status_class = (uint16_t)(text[0] - '0'),
		.subject = (uint16_t)(text[2] - '0'),
		.detail = (uint16_t)(text[5] == 0 ? text[4] - '0'
						  : 10 * (text[4] - '0') + text[5] - '0'),
	};
}

struct reply_status
sender_outcome_status(const struct sender_outcome *o)
{
	static const uint16_t digits[] = {
		[SENDER_OK] = 2, [SENDER_TEMPORARY] = 4, [SENDER_PERMANENT] = 5
	};
	uint16_t class = digits[o->class];

	ASSERT(o->cause < SENDER_CAUSE_COUNT);
	if (o->reply == NULL)
		return status_of_text(cause_rows[o->cause].status);
	if (o->reply->status.status_class == class)
		return o->reply->status;
	return (struct reply_status){ .status_class = class };
}
