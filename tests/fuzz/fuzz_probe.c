/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses smtp */
/*
 * A probe that asks four recipients of whatever the peer says: each question is answered exactly
 * once, yes only with a 2yz and no with a 5yz (or one of our own causes), nothing comes behind
 * CLOSE, every command is one line, and the result does not depend on the cut.
 */
#include "core/base/assert.h"
#include "relay/smtp/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { QUESTIONS = 4 };

static void
check_answer(const struct probe_action *a, const struct probe_question *questions, unsigned *seen)
{
	const struct sender_outcome *o = &a->outcome;
	unsigned bit = 1U << (a->question - questions);

	ASSERT((*seen & bit) == 0);
	*seen |= bit;
	ASSERT((o->reply != NULL) == (o->cause == SENDER_CAUSE_REPLY));
	if (o->class == SENDER_OK)
		ASSERT(o->reply != NULL && reply_class(o->reply) == 2);
	if (o->class == SENDER_PERMANENT && o->reply != NULL)
		ASSERT(reply_class(o->reply) == 5 && o->phase == SENDER_PHASE_RCPT);
	ASSERT((o->class == SENDER_TEMPORARY) == (o->next != SENDER_NEXT_NOTHING));
}

/* One number for all that came out. */
static uint64_t
run(const struct probe_options *options, struct span in, size_t step)
{
	static const char *const addresses[QUESTIONS] = { "a@x", "\xc3\xbc@x", "\"c d\"@x", "d@x" };
	uint8_t memory[PROBE_SCRATCH_MIN];
	struct buf scratch = buf_of(memory, sizeof memory);
	struct probe_question questions[QUESTIONS] = { 0 };
	struct probe p;
	struct probe_action a;
	uint64_t hash = 0;
	unsigned asked = 0, seen = 0;
	size_t used = 0, shown = 0;
	bool lost = false;

	probe_init(&p, options, &scratch);
	do {
		/* Two at once, then one after each answer, so that all lives are led. */
		while (asked < QUESTIONS && asked < 2 + (unsigned)__builtin_popcount(seen) &&
		       probe_can_ask(&p)) {
			questions[asked].address = span_of_string(addresses[asked]);
			probe_ask(&p, &questions[asked++]);
		}
		used += probe_step(&p, span_first(span_after(in, used), shown - used), &a);
		switch (a.kind) {
		case PROBE_WRITE:
			ASSERT(span_find(a.text, '\n', 0) == a.text.size - 1);
			hash = span_hash_nocase(a.text, hash);
			break;
		case PROBE_ANSWER:
			check_answer(&a, questions, &seen);
			hash = hash * 31 + a.outcome.class * 8 + a.outcome.next;
			break;
		case PROBE_NEED_INPUT:
			ASSERT(used == shown && !lost);
			if (shown == in.size) {
				lost = true;
				probe_lost(&p, CLOSE_RESET);
			}
			shown += step < in.size - shown ? step : in.size - shown;
			break;
		case PROBE_CLOSE:
			hash = hash * 31 + a.close;
			break;
		}
	} while (a.kind != PROBE_CLOSE);
	ASSERT(seen == (1U << asked) - 1);
	probe_step(&p, span_none(), &a);
	ASSERT(a.kind == PROBE_CLOSE && !probe_can_ask(&p));
	return hash;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	struct probe_options options = {
		.hello_name = SPAN("relay.example"),
		.lmtp = (data[0] & 1) != 0,
		.no_pipelining = (data[0] & 2) != 0,
	};
	struct span in = span_of(data + 1, size - 1);
	uint64_t whole = run(&options, in, SIZE_MAX);
	ASSERT(run(&options, in, 1) == whole);
	ASSERT(run(&options, in, (size_t)(data[0] >> 2) + 1) == whole);
	return 0;
}
