/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/server.h"

#include "bench/command.h"
#include "core/base/assert.h"

#define SERVER_MAGIC 0x53524256u
#define IN(state)    (1U << SERVER_##state)

enum row {
#define SERVER_REPLY(name, code, enhanced, text) ROW_##name,
#include "bench/server_replies.def"
#undef SERVER_REPLY
	ROW_COUNT
};

#define LITERAL(text)                                        \
	{                                                    \
		(const uint8_t *)("" text), sizeof(text) - 1 \
	}
static const struct reply {
	struct span plain;
	struct span enhanced;
} replies_of_rows[ROW_COUNT] = {
#define SERVER_REPLY(name, code, enhanced, text) \
	[ROW_##name] = { LITERAL(code " " text "\r\n"), LITERAL(code " " enhanced text "\r\n") },
#include "bench/server_replies.def"
#undef SERVER_REPLY
};

static const struct span keywords[SERVER_OFFER_COUNT] = {
#define SERVER_OFFER(name, keyword) [SERVER_OFFER_INDEX_##name] = LITERAL(keyword),
#include "bench/server_offers.def"
#undef SERVER_OFFER
};

_Static_assert(sizeof(struct server) <= 256, "20 000 connections have one each");
_Static_assert(ROW_COUNT < UINT8_MAX && FAULT_PHASE_COUNT < UINT8_MAX, "kept in bytes");
/* The hostname, and every keyword with its code: no reply is longer. */
_Static_assert(SERVER_REPLY_MAX >= SERVER_HOSTNAME_MAX + 32 + SERVER_OFFER_COUNT * 26, "EHLO");

void
server_init(struct server *s, const struct server_options *options, uint64_t seed)
{
	ASSERT(options->hostname.size > 0 && options->hostname.size <= SERVER_HOSTNAME_MAX);
	*s = (struct server){
		.options = options,
		.state = SERVER_START,
		.due = FAULT_PHASE_COUNT,
		.refused = ROW_COUNT,
		.random = seed,
		.recipient_room = SERVER_RECIPIENTS_FEW,
		.recipients = s->few,
	};
	OBJ_INIT(s, SERVER_MAGIC);
}

void
server_fini(struct server *s)
{
	OBJ_FINI(s, SERVER_MAGIC);
}

/* ---- replies ---- */

static void
reply(const struct server *s, unsigned row, struct buf *out)
{
	ASSERT(row < ROW_COUNT);
	buf_append(out, s->offered & SERVER_OFFER_ENHANCEDSTATUSCODES
				? replies_of_rows[row].enhanced
				: replies_of_rows[row].plain);
}

static void
reply_banner(const struct server *s, struct buf *out)
{
	buf_append(out, SPAN("220 "));
	buf_append(out, s->options->hostname);
	buf_append_string(out, s->options->lmtp ? " LMTP" : " ESMTP");
	buf_append(out, SPAN(" ringpost-bench\r\n"));
}

/* The hostname, and behind it a line for each of what is offered. */
static void
reply_hello(const struct server *s, struct buf *out)
{
	uint32_t left = s->offered;

	buf_append_string(out, left != 0 ? "250-" : "250 ");
	buf_append(out, s->options->hostname);
	buf_append(out, SPAN("\r\n"));
	for (unsigned i = 0; i < SERVER_OFFER_COUNT; i++) {
		if ((left & 1U << i) == 0)
			continue;
		left &= ~(1U << i);
		buf_append_string(out, left != 0 ? "250-" : "250 ");
		buf_append(out, keywords[i]);
		buf_append(out, SPAN("\r\n"));
	}
}

uint32_t
server_offer_of(struct span keyword)
{
	for (unsigned i = 0; i < SERVER_OFFER_COUNT; i++)
		if (span_eq_nocase(keyword, keywords[i]))
			return 1U << i;
	return 0;
}

/* ---- phases ---- */

/* A phase is reached: its reply is due, after what the rules in `matched` have to say. */
static void
reach(struct server *s, enum fault_phase phase, uint32_t matched, enum row row)
{
	const struct fault_rules *faults = s->options->faults;

	ASSERT(s->due == FAULT_PHASE_COUNT);
	s->due = (uint8_t)phase;
	s->row = (uint8_t)row;
	s->verdict = (struct fault_verdict){ .kind = FAULT_NONE };
	if (!fault_may_strike(faults, phase))
		return;
	fault_judge(faults, phase, matched, &s->random, &s->verdict);
	s->struck += s->verdict.struck;
}

static uint32_t
general_rules(const struct server *s)
{
	return s->options->faults != NULL ? s->options->faults->general : 0;
}

/* A rule that changes the reply. */
static unsigned
row_of_verdict(enum fault_kind kind, unsigned otherwise)
{
	switch (kind) {
	case FAULT_DEFER:
		return ROW_RCPT_DEFERRED;
	case FAULT_REFUSE:
		return ROW_RCPT_REFUSED;
	case FAULT_DEFER_DATA:
		return ROW_DATA_DEFERRED;
	case FAULT_REFUSE_DATA:
		return ROW_DATA_REFUSED;
	default:
		return otherwise;
	}
}

static void
end_with(struct server *s, enum server_action_kind kind)
{
	s->state = SERVER_ENDED;
	s->end = (uint8_t)kind;
}

static void
forget_mail(struct server *s)
{
	if (s->state > SERVER_READY)
		s->state = SERVER_READY;
	s->recipient_count = 0;
	s->no_room = false;
	s->matched = 0;
}

/* ---- end of data ---- */

/* LMTP: each recipient has a reply of its own, so rules that change it strike each by itself.
 * Returns how many are taken. */
static uint32_t
judge_recipients(struct server *s, unsigned row)
{
	const struct fault_rules *faults = s->options->faults;
	bool single = s->options->lmtp && fault_may_strike(faults, FAULT_AT_END);
	uint32_t taken = 0;

	for (uint32_t i = 0; i < s->recipient_count; i++) {
		struct server_recipient *r = &s->recipients[i];
		struct fault_verdict verdict = { .kind = FAULT_NONE };

		if (single)
			fault_judge(faults, FAULT_AT_END, r->matched & faults->replies, &s->random,
				    &verdict);
		s->struck += verdict.struck;
		r->matched = row_of_verdict(verdict.kind, row);
		taken += r->matched == ROW_TAKEN;
	}
	return taken;
}

/* Nothing holds the reply to the end of data up any more. */
static void
complete_end(struct server *s, struct server_action *out)
{
	unsigned row = row_of_verdict(s->verdict.kind, ROW_TAKEN);
	uint32_t taken = judge_recipients(s, row);

	s->due = FAULT_PHASE_COUNT;
	s->answered = 0;
	if (taken == 0) {
		s->state = SERVER_ANSWERS;
		return;
	}
	out->kind = SERVER_MAIL;
	out->recipient_count = taken;
	out->size = s->size;
	out->id = scan_id(&s->scan);
	reach(s, FAULT_AT_REPLY, s->matched, ROW_TAKEN);
}

static void
reach_end(struct server *s)
{
	uint32_t matched = s->matched;

	if (s->options->lmtp && s->options->faults != NULL)
		matched &= ~s->options->faults->replies;
	reach(s, FAULT_AT_END, matched, ROW_TAKEN);
}

/* All that the end of data is answered with, as far as there is room. */
static void
step_answers(struct server *s, struct buf *replies, struct server_action *out)
{
	uint32_t count = s->options->lmtp ? s->recipient_count : 1;

	while (s->answered < count) {
		if (buf_room(replies) < SERVER_REPLY_MAX) {
			out->kind = SERVER_FLUSH;
			return;
		}
		reply(s, s->recipients[s->answered++].matched, replies);
	}
	forget_mail(s);
}

bool
server_recipient(const struct server *s, uint32_t *at, uint32_t *number)
{
	ASSERT(s->due == FAULT_AT_REPLY);
	for (; *at < s->recipient_count; (*at)++) {
		if (s->recipients[*at].matched != ROW_TAKEN)
			continue;
		*number = s->recipients[(*at)++].number;
		return true;
	}
	return false;
}

/* ---- what is due ---- */

static void
complete_rcpt(struct server *s, struct buf *replies)
{
	unsigned row = row_of_verdict(s->verdict.kind, s->row);

	if (row == ROW_RCPT_OK) {
		ASSERT(s->recipient_count < s->recipient_room);
		s->recipients[s->recipient_count++] = s->rcpt;
		s->matched |= s->rcpt.matched;
		s->state = SERVER_IN_RCPT;
	}
	reply(s, row, replies);
}

/* The rules have had their way: what the command does, and its reply. */
static void
complete(struct server *s, struct buf *replies, struct server_action *out)
{
	enum fault_phase phase = s->due;

	if (phase == FAULT_AT_END) {
		complete_end(s, out);
		return;
	}
	s->due = FAULT_PHASE_COUNT;
	switch (phase) {
	case FAULT_AT_CONNECT:
		reply_banner(s, replies);
		s->state = SERVER_GREETED;
		break;
	case FAULT_AT_HELLO:
		reply_hello(s, replies);
		s->state = SERVER_READY;
		break;
	case FAULT_AT_MAIL:
		reply(s, ROW_MAIL_OK, replies);
		s->state = SERVER_IN_MAIL;
		break;
	case FAULT_AT_RCPT:
		complete_rcpt(s, replies);
		break;
	case FAULT_AT_DATA:
		if (s->state != SERVER_CHUNK) {
			reply(s, ROW_SEND_DATA, replies);
			s->state = SERVER_DATA;
		}
		break;
	case FAULT_AT_REPLY:
		s->state = SERVER_ANSWERS;
		break;
	default: /* BODY: it goes on */
		break;
	}
}

static void
settle(struct server *s, struct buf *replies, struct server_action *out)
{
	struct fault_verdict *v = &s->verdict;

	if (v->rate > 0) {
		out->kind = SERVER_SLOW;
		out->rate = v->rate;
		v->rate = 0;
	} else if (v->late_ms > 0) {
		out->kind = SERVER_WAIT;
		out->wait_ms = v->late_ms;
	} else if (v->kind == FAULT_STALL) {
		out->kind = SERVER_WAIT;
		out->wait_ms = SERVER_FOR_EVER;
	} else if (v->kind == FAULT_DROP || v->kind == FAULT_CLOSE) {
		s->due = FAULT_PHASE_COUNT;
		end_with(s, v->kind == FAULT_DROP ? SERVER_DROP : SERVER_CLOSE);
	} else {
		complete(s, replies, out);
	}
}

void
server_resume(struct server *s)
{
	OBJ_CHECK(s, SERVER_MAGIC);
	ASSERT(s->due != FAULT_PHASE_COUNT && s->verdict.late_ms > 0 && s->verdict.rate == 0);
	s->verdict.late_ms = 0;
}

void
server_give_room(struct server *s, struct server_recipient *memory, uint32_t count)
{
	OBJ_CHECK(s, SERVER_MAGIC);
	if (memory == NULL) {
		s->no_room = true; /* until the next mail */
		return;
	}
	ASSERT(s->recipients == s->few && count > s->recipient_room);
	memcpy(memory, s->few, sizeof s->few);
	s->recipients = memory;
	s->recipient_room = count < SERVER_RECIPIENTS_MAX ? count : SERVER_RECIPIENTS_MAX;
}

uint32_t
server_take_struck(struct server *s)
{
	uint32_t struck = s->struck;

	s->struck = 0;
	return struck;
}

/* ---- commands ---- */

/* A line was understood as far as its verb. False: SERVER_ROOM, and the line stays. */
typedef bool (*run_fn)(struct server *s, struct span argument, struct buf *replies,
		       struct server_action *out);

static bool
run_hello(struct server *s, struct span argument, struct buf *replies, struct server_action *out)
{
	(void)argument;
	(void)replies;
	(void)out;
	forget_mail(s);
	s->offered = s->options->offers;
	reach(s, FAULT_AT_HELLO, general_rules(s), 0);
	return true;
}

static bool
run_helo(struct server *s, struct span argument, struct buf *replies, struct server_action *out)
{
	run_hello(s, argument, replies, out);
	s->offered = 0;
	return true;
}

static bool
run_mail(struct server *s, struct span argument, struct buf *replies, struct server_action *out)
{
	struct span path;
	struct span parameters;

	(void)out;
	if (!command_path(argument, SPAN("FROM:"), &path, &parameters))
		reply(s, ROW_SYNTAX, replies);
	else if (!command_mail_parameters(parameters, s->offered))
		reply(s, ROW_PARAMETER, replies);
	else
		reach(s, FAULT_AT_MAIL, general_rules(s), ROW_MAIL_OK);
	return true;
}

static bool
run_rcpt(struct server *s, struct span argument, struct buf *replies, struct server_action *out)
{
	const struct fault_rules *faults = s->options->faults;
	struct span path;
	struct span parameters;
	bool full = s->recipient_count == s->recipient_room;

	if (!command_path(argument, SPAN("TO:"), &path, &parameters)) {
		reply(s, ROW_SYNTAX, replies);
	} else if (!command_rcpt_parameters(parameters, s->offered)) {
		reply(s, ROW_PARAMETER, replies);
	} else if (full && s->recipients == s->few && !s->no_room) {
		out->kind = SERVER_ROOM;
		return false;
	} else if (full) {
		reply(s, ROW_TOO_MANY_RECIPIENTS, replies);
	} else {
		s->rcpt.number = command_recipient_number(path);
		s->rcpt.matched = faults != NULL ? fault_match(faults, path) : 0;
		reach(s, FAULT_AT_RCPT, s->rcpt.matched, ROW_RCPT_OK);
	}
	return true;
}

static void
begin_body(struct server *s)
{
	s->size = 0;
	s->body_began = false;
	scan_init(&s->scan);
	reach(s, FAULT_AT_DATA, s->matched, ROW_SEND_DATA);
}

static bool
run_data(struct server *s, struct span argument, struct buf *replies, struct server_action *out)
{
	(void)argument;
	(void)out;
	if (s->recipient_count == 0)
		reply(s, ROW_NO_RECIPIENTS, replies);
	else
		begin_body(s);
	return true;
}

/* The bytes of a chunk come whatever is thought of it (RFC 3030 2). */
static bool
run_bdat(struct server *s, struct span argument, struct buf *replies, struct server_action *out)
{
	bool in_mail = s->state >= SERVER_IN_MAIL;
	bool first = s->state != SERVER_CHUNKS;

	(void)out;
	if (!command_chunk(argument, &s->chunk_left, &s->last)) {
		/* Nobody knows where the next command begins. */
		reply(s, ROW_SYNTAX, replies);
		end_with(s, SERVER_CLOSE);
		return true;
	}
	s->refused = ROW_COUNT;
	if ((s->offered & SERVER_OFFER_CHUNKING) == 0)
		s->refused = ROW_NOT_IMPLEMENTED;
	else if (!in_mail)
		s->refused = ROW_SEQUENCE;
	else if (s->recipient_count == 0)
		s->refused = ROW_NO_RECIPIENTS;
	s->resume = s->state;
	s->state = SERVER_CHUNK;
	if (s->refused == ROW_COUNT && first)
		begin_body(s);
	return true;
}

static bool
run_rset(struct server *s, struct span argument, struct buf *replies, struct server_action *out)
{
	(void)argument;
	(void)out;
	forget_mail(s);
	reply(s, ROW_RESET, replies);
	return true;
}

static bool
run_noop(struct server *s, struct span argument, struct buf *replies, struct server_action *out)
{
	(void)argument;
	(void)out;
	reply(s, ROW_NOOP, replies);
	return true;
}

static bool
run_vrfy(struct server *s, struct span argument, struct buf *replies, struct server_action *out)
{
	(void)argument;
	(void)out;
	reply(s, ROW_VRFY, replies);
	return true;
}

static bool
run_quit(struct server *s, struct span argument, struct buf *replies, struct server_action *out)
{
	(void)argument;
	(void)out;
	reply(s, ROW_BYE, replies);
	end_with(s, SERVER_CLOSE);
	return true;
}

enum protocol { SMTP = 1, LMTP = 2, BOTH = SMTP | LMTP };

#define ANYTIME (IN(GREETED) | IN(READY) | IN(IN_MAIL) | IN(IN_RCPT) | IN(CHUNKS))

/* The most frequent first. */
static const struct verb {
	uint32_t word;
	enum protocol protocol;
	unsigned allowed; /* states in which it is legal */
	run_fn run;       /* NULL: known, and not implemented */
} verbs[] = {
	{ COMMAND_WORD('r', 'c', 'p', 't'), BOTH, IN(IN_MAIL) | IN(IN_RCPT), run_rcpt },
	{ COMMAND_WORD('m', 'a', 'i', 'l'), BOTH, IN(READY), run_mail },
	{ COMMAND_WORD('d', 'a', 't', 'a'), BOTH, IN(IN_MAIL) | IN(IN_RCPT), run_data },
	{ COMMAND_WORD('b', 'd', 'a', 't'), BOTH, ANYTIME, run_bdat },
	{ COMMAND_WORD('e', 'h', 'l', 'o'), SMTP, ANYTIME, run_hello },
	{ COMMAND_WORD('l', 'h', 'l', 'o'), LMTP, ANYTIME, run_hello },
	{ COMMAND_WORD('h', 'e', 'l', 'o'), SMTP, ANYTIME, run_helo },
	{ COMMAND_WORD('r', 's', 'e', 't'), BOTH, ANYTIME, run_rset },
	{ COMMAND_WORD('n', 'o', 'o', 'p'), BOTH, ANYTIME, run_noop },
	{ COMMAND_WORD('v', 'r', 'f', 'y'), BOTH, ANYTIME, run_vrfy },
	{ COMMAND_WORD('q', 'u', 'i', 't'), BOTH, ANYTIME, run_quit },
	{ COMMAND_WORD('h', 'e', 'l', 'p'), BOTH, ANYTIME, NULL },
	{ COMMAND_WORD('e', 'x', 'p', 'n'), BOTH, ANYTIME, NULL },
	{ COMMAND_WORD('a', 'u', 't', 'h'), BOTH, ANYTIME, NULL },
};

static const struct verb *
find_verb(const struct server *s, uint32_t word)
{
	enum protocol protocol = s->options->lmtp ? LMTP : SMTP;

	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		if (verbs[i].word == word && (verbs[i].protocol & protocol) != 0)
			return &verbs[i];
	return NULL;
}

static bool
run_line(struct server *s, struct span line, struct buf *replies, struct server_action *out)
{
	struct span argument = span_none();
	const struct verb *verb = find_verb(s, command_verb(line, &argument));

	if (verb == NULL)
		reply(s, ROW_UNKNOWN, replies);
	else if (verb->run == NULL)
		reply(s, ROW_NOT_IMPLEMENTED, replies);
	else if ((verb->allowed & 1U << s->state) == 0)
		reply(s, s->state == SERVER_GREETED ? ROW_NEEDS_HELLO : ROW_SEQUENCE, replies);
	else
		return verb->run(s, argument, replies, out);
	return true;
}

static size_t
step_command(struct server *s, struct span in, struct buf *replies, struct server_action *out)
{
	struct span window = span_first(in, SERVER_LINE_MAX);
	size_t end = span_find(window, '\n', 0);
	size_t size = end;

	if (end == window.size) {
		if (end < SERVER_LINE_MAX) {
			out->kind = SERVER_NEED_INPUT;
			return 0;
		}
		s->resume = s->state;
		s->state = SERVER_LINE;
		return end;
	}
	if (size > 0 && in.data[size - 1] == '\r')
		size--;
	return run_line(s, span_first(in, size), replies, out) ? end + 1 : 0;
}

/* A line that is too long is answered where it ends, so that its rest is no command. */
static size_t
step_line(struct server *s, struct span in, struct buf *replies, struct server_action *out)
{
	size_t end = span_find(in, '\n', 0);

	if (end == in.size) {
		if (in.size == 0)
			out->kind = SERVER_NEED_INPUT;
		return end;
	}
	s->state = s->resume;
	reply(s, ROW_LINE_TOO_LONG, replies);
	return end + 1;
}

/* ---- bodies ---- */

/* True where something happens before the first byte of a body. */
static bool
body_begins(struct server *s)
{
	if (s->body_began)
		return false;
	s->body_began = true;
	if (!fault_may_strike(s->options->faults, FAULT_AT_BODY))
		return false;
	reach(s, FAULT_AT_BODY, s->matched, 0);
	return true;
}

static size_t
step_data(struct server *s, struct span in, struct server_action *out)
{
	bool ended;

	if (in.size == 0) {
		out->kind = SERVER_NEED_INPUT;
		return 0;
	}
	if (body_begins(s))
		return 0;
	size_t used = scan_end(&s->scan, in, &ended);
	scan_header(&s->scan, span_first(in, used));
	s->size += used;
	if (ended) {
		ASSERT(s->size >= 3);
		s->size -= 3;
		reach_end(s);
	}
	return used;
}

static void
end_chunk(struct server *s, struct buf *replies)
{
	s->state = s->resume;
	if (s->refused != ROW_COUNT) {
		reply(s, s->refused, replies);
	} else if (s->last) {
		reach_end(s);
	} else {
		s->state = SERVER_CHUNKS;
		reply(s, ROW_CHUNK_OK, replies);
	}
}

static size_t
step_chunk(struct server *s, struct span in, struct buf *replies, struct server_action *out)
{
	bool kept = s->refused == ROW_COUNT;

	if (s->chunk_left == 0) {
		end_chunk(s, replies);
		return 0;
	}
	if (in.size == 0) {
		out->kind = SERVER_NEED_INPUT;
		return 0;
	}
	if (kept && body_begins(s))
		return 0;
	if (in.size > s->chunk_left)
		in = span_first(in, (size_t)s->chunk_left);
	if (kept) {
		scan_header(&s->scan, in);
		s->size += in.size;
	}
	s->chunk_left -= in.size;
	return in.size;
}

/* ---- the machine ---- */

/* One move: emits an action, or changes what the next move is. */
static size_t
move(struct server *s, struct span in, struct buf *replies, struct server_action *out)
{
	if (buf_room(replies) < SERVER_REPLY_MAX) {
		out->kind = SERVER_FLUSH;
		return 0;
	}
	if (s->due != FAULT_PHASE_COUNT) {
		settle(s, replies, out);
		return 0;
	}
	switch (s->state) {
	case SERVER_START:
		reach(s, FAULT_AT_CONNECT, general_rules(s), 0);
		return 0;
	case SERVER_DATA:
		return step_data(s, in, out);
	case SERVER_CHUNK:
		return step_chunk(s, in, replies, out);
	case SERVER_LINE:
		return step_line(s, in, replies, out);
	case SERVER_ANSWERS:
		step_answers(s, replies, out);
		return 0;
	case SERVER_ENDED:
		out->kind = s->end;
		return 0;
	default:
		return step_command(s, in, replies, out);
	}
}

size_t
server_step(struct server *s, struct span in, struct buf *replies, struct server_action *out)
{
	size_t used = 0;

	OBJ_CHECK(s, SERVER_MAGIC);
	ASSERT(replies->size == 0 && replies->capacity >= SERVER_REPLY_MAX);
	out->kind = SERVER_NONE;
	do {
		used += move(s, span_after(in, used), replies, out);
	} while (out->kind == SERVER_NONE);
	ASSERT(used <= in.size && !replies->overflow);
	return used;
}
