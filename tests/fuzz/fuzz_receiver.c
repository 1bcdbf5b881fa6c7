/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses smtp */
/* Any input, any answers: the receiver keeps its promises, and what comes out does not depend on
 * how the input was cut. The first bytes choose options, answers and the cutting. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "relay/smtp/receiver.h"

enum { HEADER = 4, OUTPUT_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A hash of all that came out, in order; BODY bytes one by one, since their cutting may differ. */
struct output {
	uint64_t hash;
	uint64_t count;
	bool closed;
};

static void
note(struct output *o, uint8_t c)
{
	o->hash = (o->hash ^ c) * 0x100000001b3ULL;
	o->count++;
}

static void
note_span(struct output *o, uint8_t kind, struct span s)
{
	for (size_t i = 0; i < s.size; i++) {
		note(o, kind);
		note(o, s.data[i]);
	}
}

static const struct receiver_options strict = {
	.hostname = { (const uint8_t *)"mx.example.org", 14 },
	.size_max = 100,
	.discard_max = 200,
	.recipients_max = 3,
	.mails_max = 5,
	.errors_max = 8,
	.junk_max = 6,
	.line_max = 512,
};

/* Answers follow from the question and the second byte alone, never from the cutting. */
static struct receiver_answer
answer_for(enum receiver_action_kind kind, uint8_t salt, struct output *o)
{
	static const enum reply_row refusals[] = { REPLY_RELAY_DENIED, REPLY_TRY_LATER, REPLY_BUSY,
						   REPLY_NO_MEMORY };
	struct receiver_answer answer = { .row = REPLY_NONE };

	if (kind == RECEIVER_ASK_AUTH || kind == RECEIVER_ASK_AUTH_DATA) {
		static const enum reply_row rows[] = { REPLY_AUTH_CONTINUE, REPLY_AUTH_FAILED,
						       REPLY_AUTH_CONTINUE, REPLY_AUTH_OK };
		answer.row = rows[o->count % 4];
		answer.challenge = SPAN("any challenge");
		return answer;
	}
	/* One kind of question is refused, now and then. */
	if (kind == (enum receiver_action_kind)(salt % 16) && o->count % 3 == 0) {
		answer.row = refusals[salt >> 4 & 3];
		answer.text = salt & 0x40 ? SPAN("no,\r\nno") : span_none();
		answer.more = salt & 0x80 ? SPAN("any more\r\nof it") : span_none();
	}
	return answer;
}

static bool
act(struct receiver *r, const struct receiver_action *action, uint8_t salt, struct output *o)
{
	ASSERT(action->kind != RECEIVER_NONE && action->kind != RECEIVER_WAIT);
	if (action->kind == RECEIVER_BODY) {
		ASSERT(action->data.size > 0);
		note_span(o, 'b', action->data);
		return true;
	}
	if (action->kind == RECEIVER_NEED_INPUT)
		return false;
	note(o, (uint8_t)action->kind);
	if (action->kind == RECEIVER_START_TLS) {
		receiver_secured(r, (salt & 1) != 0);
	} else if (action->kind == RECEIVER_REPLY) {
		ASSERT(action->data.size >= 6);
		note_span(o, 'r', action->data);
	} else if (action->kind == RECEIVER_CLOSE) {
		note(o, (uint8_t)action->reason);
		o->closed = true;
		return false;
	} else if (action->kind >= RECEIVER_ASK_GREETING && action->kind != RECEIVER_ABORT &&
		   action->kind != RECEIVER_CANCEL_AUTH) {
		if (action->kind == RECEIVER_ASK_AUTH || action->kind == RECEIVER_ASK_AUTH_DATA) {
			ASSERT(r->secure && !r->authenticated);
			note_span(o, 'a', action->data);
		}
		if (action->kind == RECEIVER_ASK_MAIL || action->kind == RECEIVER_ASK_RCPT) {
			note_span(o, 'l', action->path.local);
			note_span(o, 'd', action->path.domain);
		}
		if (action->kind == RECEIVER_ASK_MAIL && action->mail.require_tls) {
			ASSERT(r->secure && r->options->require_tls);
			note(o, 'q');
		}
		struct receiver_answer answer = answer_for(action->kind, salt, o);
		receiver_answer(r, &answer);
	}
	return true;
}

static void
run(struct span in, const struct receiver_options *options, uint8_t salt, size_t chunk,
    struct output *o)
{
	struct receiver r;
	size_t consumed = 0;
	size_t delivered = 0;

	receiver_init(&r, options);
	if (salt & 0x80)
		receiver_secured(&r, false);
	*o = (struct output){ .hash = 0xcbf29ce484222325ULL };
	do {
		delivered = in.size - delivered < chunk ? in.size : delivered + chunk;
		struct receiver_action action;
		do {
			struct span held =
				span_first(span_after(in, consumed), delivered - consumed);
			size_t used = receiver_step(&r, held, &action);
			ASSERT(used <= held.size);
			consumed += used;
		} while (act(&r, &action, salt, o));
		ASSERT(o->closed || delivered - consumed < options->line_max ||
		       (r.state == RECEIVER_AUTH && delivered - consumed < RECEIVER_SASL_LINE_MAX));
		ASSERT(o->count < OUTPUT_MAX * 64);
	} while (delivered < in.size && !o->closed);
	receiver_fini(&r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < HEADER)
		return 0;
	struct receiver_options options = strict;
	options.bare_newline = data[0] & 1 ? BODY_NORMALIZE : BODY_REJECT;
	if (data[0] & 2)
		options.size_max = 100000;
	options.starttls = (data[0] & 4) != 0;
	options.auth = data[0] >> 4;
	options.auth_required = (data[0] & 8) != 0;
	options.require_tls = (data[2] & 1) != 0;
	struct span in = span_of(data + HEADER, size - HEADER);
	struct output whole;
	struct output cut;
	run(in, &options, data[1], in.size + 1, &whole);
	run(in, &options, data[1], 1 + data[2], &cut);
	ASSERT(whole.hash == cut.hash && whole.count == cut.count);
	run(in, &options, data[1], 1, &cut);
	ASSERT(whole.hash == cut.hash && whole.count == cut.count);
	return 0;
}
