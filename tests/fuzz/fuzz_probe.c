/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses smtp */
/*
 * A probe that asks four recipients of whatever the peer says: each question is answered exactly
 * once, yes only with a 2yz and no with a 5yz (or one of our own causes), nothing comes behind
 * CLOSE, every command is one line, nobody is asked for in front of the TLS and the AUTH that must
 * be, and the result does not depend on the cut.
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

struct run {
	const struct probe_options *options;
	struct probe probe;
	struct probe_question questions[QUESTIONS];
	unsigned asked, seen;
	bool secured, lost, closed;
	uint64_t hash; /* of all that came out */
};

/* Two at once, then one after each answer, so that all lives are led. */
static void
ask(struct run *r)
{
	static const char *const addresses[QUESTIONS] = { "a@x", "\xc3\xbc@x", "\"c d\"@x", "d@x" };

	while (r->asked < QUESTIONS && r->asked < 2 + (unsigned)__builtin_popcount(r->seen) &&
	       probe_can_ask(&r->probe)) {
		r->questions[r->asked].address = span_of_string(addresses[r->asked]);
		probe_ask(&r->probe, &r->questions[r->asked++]);
	}
}

static void
check_write(struct run *r, struct span text)
{
	const struct sender_options *o = &r->options->session;
	bool mail = text.size > 5 && memcmp(text.data, "MAIL ", 5) == 0;

	ASSERT(span_find(text, '\n', 0) == text.size - 1);
	/* Nobody is asked for without what the options demand. */
	ASSERT(!mail || r->secured || (o->tls != SENDER_TLS_REQUIRED && o->auth == 0));
	r->hash = span_hash_nocase(text, r->hash);
}

/* One step. False where more input is needed. */
static bool
step(struct run *r, struct span *in)
{
	struct probe_action a;
	size_t used = probe_step(&r->probe, *in, &a);

	ASSERT(used <= in->size);
	*in = span_after(*in, used);
	switch (a.kind) {
	case PROBE_WRITE:
		check_write(r, a.text);
		break;
	case PROBE_ANSWER:
		check_answer(&a, r->questions, &r->seen);
		r->hash = r->hash * 31 + a.outcome.class * 8 + a.outcome.next;
		break;
	case PROBE_START_TLS:
		ASSERT(!r->secured && r->options->session.tls != SENDER_TLS_NEVER);
		r->secured = true;
		break;
	case PROBE_ASK_AUTH:
		ASSERT(r->secured && !r->lost);
		sender_auth_answer(probe_session(&r->probe), SPAN("answer"));
		break;
	case PROBE_NEED_INPUT:
	case PROBE_WAIT:
		ASSERT((in->size == 0 || a.kind == PROBE_WAIT) && !r->lost);
		return false;
	case PROBE_CLOSE:
		r->hash = r->hash * 31 + a.close;
		r->closed = true;
		return false;
	}
	return true;
}

static void
feed(struct run *r, struct span in, size_t chunk)
{
	while (!r->closed) {
		struct span piece = span_first(in, chunk);
		size_t size = piece.size;
		ask(r);
		while (step(r, &piece))
			ask(r);
		in = span_after(in, size - piece.size);
		if (in.size == 0)
			break;
	}
}

/* A byte 0xfa is where a handshake ends, if one is under way. */
static uint64_t
run(const struct probe_options *options, struct span in, size_t chunk)
{
	uint8_t memory[PROBE_SCRATCH_MIN];
	struct buf scratch = buf_of(memory, sizeof memory);
	struct span none = span_none();
	struct run r = { .options = options };

	probe_init(&r.probe, options, &scratch);
	while (!r.closed) {
		size_t end = span_find(in, 0xfa, 0);
		feed(&r, span_first(in, end), chunk);
		if (end == in.size)
			break;
		if (!r.closed && probe_phase(&r.probe) == SENDER_PHASE_TLS)
			probe_secured(&r.probe);
		in = span_after(in, end + 1);
	}
	r.lost = true;
	if (!r.closed)
		probe_lost(&r.probe, CLOSE_RESET);
	while (!r.closed)
		step(&r, &none);
	ASSERT(r.seen == (1U << r.asked) - 1);
	struct probe_action a;
	probe_step(&r.probe, none, &a);
	ASSERT(a.kind == PROBE_CLOSE && !probe_can_ask(&r.probe));
	return r.hash;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3)
		return 0;
	struct probe_options options = {
		.session = {
			.hello_name = SPAN("relay.example"),
			.lmtp = (data[0] & 1) != 0,
			.no_pipelining = (data[0] & 2) != 0,
			.tls = (data[1] & 3) % 3,
			.auth = (data[1] & 4) != 0 ? 0xe : 0,
			.piece_max = 1,
		},
	};
	struct span in = span_of(data + 2, size - 2);
	uint64_t whole = run(&options, in, SIZE_MAX);
	ASSERT(run(&options, in, 1) == whole);
	ASSERT(run(&options, in, (size_t)(data[0] >> 2) + 1) == whole);
	return 0;
}
