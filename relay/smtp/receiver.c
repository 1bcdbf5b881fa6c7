/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/smtp/receiver.h"

#include "core/base/assert.h"
#include "core/base/base64.h"
#include "relay/smtp/line.h"
#include "relay/smtp/verb.h"

#define RECEIVER_MAGIC 0x52435652U

enum { TLS_HANDSHAKE = 0x16 }; /* first byte of a record with a ClientHello (RFC 8446 5.1) */

_Static_assert(sizeof(struct receiver) <= 320, "15 000 idle sessions have one each");
_Static_assert(RECEIVER_REPLY_MAX >= BASE64_ENCODED(RECEIVER_CHALLENGE_MAX) + 6, "334 and CRLF");
_Static_assert(RECEIVER_REPLY_MAX >=
		       RECEIVER_TEXT_MAX + RECEIVER_MORE_MAX +
			       (RECEIVER_MORE_MAX / (REPLY_TEXT_LINE_MAX / 2) + 2) * 16,
	       "a code, an enhanced code and CRLF for each line");
_Static_assert(RECEIVER_SASL_DATA_MAX >= RECEIVER_REPLY_MAX, "they share their memory");
_Static_assert(REPLY_COUNT <= UINT8_MAX && CLOSE_COUNT <= UINT8_MAX, "rows are kept in a byte");

void
receiver_init(struct receiver *r, const struct receiver_options *options)
{
	ASSERT(options->hostname.size > 0 && options->hostname.size <= ADDRESS_DOMAIN_MAX);
	ASSERT(options->line_max >= 512 && options->line_max <= 16384);
	ASSERT(options->size_max > 0);
	ASSERT(options->recipients_max > 0 && options->errors_max > 0 && options->junk_max > 0);
	*r = (struct receiver){ .options = options, .state = RECEIVER_START };
	OBJ_INIT(r, RECEIVER_MAGIC);
}

void
receiver_fini(struct receiver *r)
{
	OBJ_FINI(r, RECEIVER_MAGIC);
}

void
receiver_secured(struct receiver *r, bool external)
{
	OBJ_CHECK(r, RECEIVER_MAGIC);
	ASSERT(!r->secure);
	ASSERT(r->state == RECEIVER_TLS || r->state == RECEIVER_START);
	ASSERT(r->due == 0 || (r->due & DUE_CLOSE));
	if (r->state == RECEIVER_TLS && r->due == 0) {
		/* RFC 3207 4.2: what was said before is forgotten. What was counted is not, or
		 * limits would be lifted for half of a session. */
		ASSERT(r->question == RECEIVER_START_TLS);
		r->question = RECEIVER_NONE;
		r->state = RECEIVER_GREETED;
		r->helo = false;
	}
	r->secure = true;
	r->external = external;
}

void
receiver_withhold(struct receiver *r, unsigned mechanisms)
{
	OBJ_CHECK(r, RECEIVER_MAGIC);
	r->withheld = (uint8_t)mechanisms;
}

/* ---- What the verbs use ---- */

static void
end_with(struct receiver *r, enum close_reason reason)
{
	r->due |= DUE_CLOSE;
	if (r->reason == CLOSE_NONE)
		r->reason = (uint8_t)reason;
}

void
verb_reply(struct receiver *r, enum reply_row row)
{
	r->due |= DUE_REPLY;
	r->row = (uint8_t)row;
	if (reply_row_code(row) < 500)
		return;
	/* The 421 comes behind the reply, not in its place: what was permanent stays so. */
	if (++r->errors >= r->options->errors_max) {
		r->due |= DUE_FAREWELL;
		r->farewell = REPLY_TOO_MANY_ERRORS;
		end_with(r, CLOSE_TOO_MANY_ERRORS);
	}
}

void
verb_end(struct receiver *r, enum reply_row row, enum close_reason reason)
{
	r->due |= DUE_REPLY;
	r->row = (uint8_t)row;
	end_with(r, reason);
}

void
verb_ask(struct receiver *r, enum receiver_action_kind question, enum reply_row yes,
	 struct receiver_action *out)
{
	ASSERT(r->question == RECEIVER_NONE);
	r->question = (uint8_t)question;
	r->row = (uint8_t)yes;
	out->kind = question;
}

unsigned
verb_auth_offered(const struct receiver *r)
{
	unsigned known = r->options->auth & ~(unsigned)r->withheld;
	unsigned all = r->secure && !r->authenticated ? known : 0;

	return r->external ? all : all & ~SASL_BIT(SASL_EXTERNAL);
}

bool
verb_decode(struct span text, struct receiver_action *out)
{
	struct buf data = buf_of(out->memory, sizeof out->memory);
	bool ok = base64_decode(text, &data);

	if (!ok)
		explicit_bzero(out->memory, data.size);
	out->data = ok ? buf_span(&data) : span_none();
	return ok;
}

bool
verb_abort(struct receiver *r)
{
	if (r->state != RECEIVER_MAIL && r->state != RECEIVER_RCPT && r->state != RECEIVER_CHUNKS)
		return false;
	r->state = RECEIVER_READY;
	r->due |= DUE_ABORT;
	return true;
}

/* The body is bad: the caller may forget it now, the client is told at its end. */
static void
fail_body(struct receiver *r, enum reply_row row)
{
	ASSERT(r->refusal == REPLY_NONE);
	r->refusal = (uint8_t)row;
	r->resume = RECEIVER_READY;
	r->due |= DUE_ABORT;
}

void
verb_begin_chunk(struct receiver *r)
{
	r->resume = r->refusal == REPLY_NONE ? RECEIVER_CHUNKS : r->state;
	r->state = RECEIVER_CHUNK;
	if (r->refusal == REPLY_NONE && r->chunk_left > r->options->size_max - r->size)
		fail_body(r, REPLY_TOO_BIG);
	if (r->refusal != REPLY_NONE && r->chunk_left > r->options->discard_max)
		verb_end(r, r->refusal, CLOSE_BODY_FLOOD);
}

/* ---- Output ---- */

static void
render_auth(unsigned offered, struct buf *out)
{
	buf_append_string(out, "250-AUTH");
	for (enum sasl_mechanism m = 0; m < SASL_MECHANISM_COUNT; m++) {
		if (!(offered & SASL_BIT(m)))
			continue;
		buf_append_byte(out, ' ');
		buf_append(out, sasl_name(m));
	}
	buf_append_string(out, "\r\n");
}

static void
render_ehlo(const struct receiver *r, struct buf *out)
{
	const struct receiver_options *o = r->options;
	unsigned auth = verb_auth_offered(r);

	buf_printf(out, "250-%.*s\r\n", SPAN_ARG(o->hostname));
	buf_append_string(out, "250-PIPELINING\r\n");
	buf_printf(out, "250-SIZE %llu\r\n", (unsigned long long)o->size_max);
	buf_append_string(out, "250-8BITMIME\r\n"
			       "250-SMTPUTF8\r\n"
			       "250-DSN\r\n"
			       "250-ENHANCEDSTATUSCODES\r\n"
			       "250-CHUNKING\r\n");
	if (o->starttls && !r->secure)
		buf_append_string(out, "250-STARTTLS\r\n");
	if (o->require_tls && r->secure)
		buf_append_string(out, "250-REQUIRETLS\r\n");
	if (auth != 0)
		render_auth(auth, out);
	buf_printf(out, "250 LIMITS RCPTMAX=%u", o->recipients_max);
	if (o->mails_max > 0)
		buf_printf(out, " MAILMAX=%u", o->mails_max);
	buf_append_string(out, "\r\n");
}

static void
render_challenge(struct receiver *r, struct buf *out)
{
	buf_append_string(out, "334 ");
	base64_encode(r->lent, out);
	buf_append_string(out, "\r\n");
}

static void
emit_reply(struct receiver *r, enum reply_row row, struct receiver_action *out)
{
	const struct receiver_options *o = r->options;
	struct buf text = buf_of(out->memory, RECEIVER_REPLY_MAX);

	out->kind = RECEIVER_REPLY;
	out->code = reply_row_code(row);
	out->row = row;
	if (row == REPLY_BANNER)
		buf_printf(&text, "220 %.*s ESMTP ringpost\r\n", SPAN_ARG(o->hostname));
	else if (row == REPLY_HELO)
		buf_printf(&text, "250 %.*s\r\n", SPAN_ARG(o->hostname));
	else if (row == REPLY_EHLO)
		render_ehlo(r, &text);
	else if (row == REPLY_AUTH_CONTINUE)
		render_challenge(r, &text);
	else if (r->text_size > 0)
		reply_row_render(row, span_of(r->text, r->text_size), r->lent, &text);
	ASSERT(!text.overflow);
	out->data = text.size > 0 ? buf_span(&text) : reply_row_line(row);
	r->text_size = 0;
	r->lent = span_none();
}

static void
emit_due(struct receiver *r, struct receiver_action *out)
{
	if (r->due & DUE_CANCEL) {
		r->due &= (uint8_t)~DUE_CANCEL;
		out->kind = RECEIVER_CANCEL_AUTH;
	} else if (r->due & DUE_ABORT) {
		r->due &= (uint8_t)~DUE_ABORT;
		out->kind = RECEIVER_ABORT;
	} else if (r->due & DUE_REPLY) {
		r->due &= (uint8_t)~DUE_REPLY;
		emit_reply(r, r->row, out);
	} else if (r->due & DUE_FAREWELL) {
		r->due &= (uint8_t)~DUE_FAREWELL;
		emit_reply(r, r->farewell, out);
	} else {
		r->due = 0;
		r->state = RECEIVER_CLOSED;
	}
}

/* ---- Commands ---- */

static void
run_verb(struct receiver *r, struct span text, size_t *used, struct receiver_action *out)
{
	struct span argument = text;
	const struct verb *verb = verb_find(line_word(&argument));

	if (verb == NULL) {
		verb_reply(r, REPLY_UNKNOWN_COMMAND);
		return;
	}
	if ((verb->flags & VERB_JUNK) && r->junk >= r->options->junk_max) {
		verb_end(r, REPLY_TOO_MUCH_JUNK, CLOSE_TOO_MUCH_JUNK);
		return;
	}
	if (!verb_is_allowed(verb, r->state)) {
		verb_reply(r, r->helo ? REPLY_BAD_SEQUENCE : REPLY_NEED_HELO);
	} else if (!verb->run(r, argument, out)) {
		*used = 0;
		return;
	}
	r->junk += (verb->flags & VERB_JUNK) != 0;
	if ((verb->flags & VERB_LAST) && (r->due & DUE_REPLY)) {
		/* It was answered without a question; whether more has come is still to be asked.
		 */
		r->held = r->due;
		r->due = 0;
		verb_ask(r, RECEIVER_ASK_SYNC, r->row, out);
	}
}

static size_t
step_command(struct receiver *r, struct span in, struct receiver_action *out)
{
	enum line_kind kind;
	struct span text;

	if (in.size > 0 && r->commands == 0 && in.data[0] == TLS_HANDSHAKE) {
		end_with(r, CLOSE_TLS_HELLO); /* it could not read a reply */
		return 0;
	}
	size_t used = line_next(in, r->options->line_max, &kind, &text);
	switch (kind) {
	case LINE_PARTIAL:
		out->kind = RECEIVER_NEED_INPUT;
		return 0;
	case LINE_TOO_LONG:
		r->resume = r->state;
		r->state = RECEIVER_LINE;
		r->dropped = used;
		return used;
	case LINE_BAD:
		verb_reply(r, REPLY_BAD_LINE);
		break;
	case LINE_BARE_LF:
		if (r->options->bare_newline == BODY_REJECT) {
			verb_reply(r, REPLY_BAD_LINE);
			break;
		}
		/* fall through */
	case LINE_GOOD:
		run_verb(r, text, &used, out);
		break;
	}
	r->commands += used > 0;
	return used;
}

/* A line that is too long is answered where it ends, so that its rest is no command. */
static size_t
step_line(struct receiver *r, struct span in, struct receiver_action *out)
{
	struct span window = span_first(in, RECEIVER_LINE_FLOOD - r->dropped);
	size_t end = span_find(window, '\n', 0);

	if (in.size == 0) {
		out->kind = RECEIVER_NEED_INPUT;
		return 0;
	}
	if (window.size == 0) {
		verb_end(r, REPLY_LINE_TOO_LONG, CLOSE_LINE_FLOOD);
		return 0;
	}
	if (end == window.size) {
		r->dropped += end;
		return end;
	}
	r->state = r->resume;
	r->commands++;
	verb_reply(r, REPLY_LINE_TOO_LONG);
	return end + 1;
}

/* ---- Authentication ---- */

static void
end_exchange(struct receiver *r, enum reply_row row)
{
	r->state = RECEIVER_READY;
	r->due |= DUE_CANCEL;
	verb_reply(r, row);
}

/* A line of the exchange: base64, nothing, or "*" to give it up. */
static size_t
step_auth(struct receiver *r, struct span in, struct receiver_action *out)
{
	enum line_kind kind;
	struct span text;
	size_t used = line_next(in, RECEIVER_SASL_LINE_MAX, &kind, &text);

	if (kind == LINE_PARTIAL) {
		out->kind = RECEIVER_NEED_INPUT;
	} else if (kind == LINE_TOO_LONG) {
		verb_end(r, REPLY_AUTH_LINE_TOO_LONG, CLOSE_LINE_FLOOD);
	} else if (kind == LINE_BAD ||
		   (kind == LINE_BARE_LF && r->options->bare_newline == BODY_REJECT)) {
		end_exchange(r, REPLY_BAD_LINE);
	} else if (span_eq(text, SPAN("*"))) {
		end_exchange(r, REPLY_AUTH_CANCELLED);
	} else if (!verb_decode(text, out)) {
		end_exchange(r, REPLY_BAD_BASE64);
	} else {
		verb_ask(r, RECEIVER_ASK_AUTH_DATA, REPLY_AUTH_OK, out);
	}
	return used;
}

/* The caller said that input was waiting before the banner. TLS gets no text that it cannot read.
 */
static size_t
step_early(struct receiver *r, struct span in, struct receiver_action *out)
{
	if (in.size == 0)
		out->kind = RECEIVER_NEED_INPUT;
	else if (in.data[0] == TLS_HANDSHAKE)
		end_with(r, CLOSE_TLS_HELLO);
	else
		verb_end(r, REPLY_EARLY_INPUT, CLOSE_EARLY_INPUT);
	return 0;
}

/* ---- Bodies ---- */

static void
ask_commit(struct receiver *r, struct receiver_action *out)
{
	verb_ask(r, RECEIVER_ASK_COMMIT, REPLY_QUEUED, out);
	out->size = r->size;
}

static void
end_refused_body(struct receiver *r)
{
	ASSERT(r->refusal != REPLY_NONE);
	r->state = r->resume;
	verb_reply(r, r->refusal);
	r->refusal = REPLY_NONE;
}

static void
end_chunk(struct receiver *r, struct receiver_action *out)
{
	if (r->refusal != REPLY_NONE) {
		end_refused_body(r);
		return;
	}
	if (!r->last) {
		r->state = RECEIVER_CHUNKS;
		verb_reply(r, REPLY_CHUNK_OK);
		return;
	}
	switch (body_in_finish(&r->body, &out->data)) {
	case BODY_PIECE:
		/* The CRLF that the message lacks; the next step finds it complete. */
		out->kind = RECEIVER_BODY;
		r->size += out->data.size;
		break;
	case BODY_MORE:
		ask_commit(r, out);
		break;
	default:
		fail_body(r, REPLY_BARE_NEWLINE);
		break;
	}
}

/* Bytes of the message, up to exactly size_max of them. */
static void
keep_piece(struct receiver *r, struct span piece, struct receiver_action *out)
{
	uint64_t room = r->options->size_max - r->size;

	if (piece.size > room) {
		fail_body(r, REPLY_TOO_BIG);
		r->dropped = piece.size - room;
		piece = span_first(piece, (size_t)room);
	}
	if (piece.size > 0) {
		r->size += piece.size;
		out->kind = RECEIVER_BODY;
		out->data = piece;
	}
}

static void
act_on_body(struct receiver *r, enum body_in_event event, struct span piece,
	    struct receiver_action *out)
{
	switch (event) {
	case BODY_PIECE:
		keep_piece(r, piece, out);
		break;
	case BODY_END:
		ask_commit(r, out);
		break;
	case BODY_BARE_NEWLINE:
		fail_body(r, REPLY_BARE_NEWLINE);
		break;
	case BODY_NUL:
		fail_body(r, REPLY_NUL_BYTE);
		break;
	case BODY_MORE:
		break;
	}
}

/* DATA: from 354 to CRLF.CRLF. */
static size_t
step_data(struct receiver *r, struct span in, struct receiver_action *out)
{
	bool dropping = r->refusal != REPLY_NONE;
	enum body_in_event event;
	struct span piece;

	uint64_t limit = r->options->discard_max;
	if (dropping && (r->dropped > limit || (r->dropped == limit && in.size > 0))) {
		/* Over it at once where a large piece was cut off. */
		verb_end(r, r->refusal, CLOSE_BODY_FLOOD);
		return 0;
	}
	if (in.size == 0) {
		out->kind = RECEIVER_NEED_INPUT;
		return 0;
	}
	if (dropping && in.size > limit - r->dropped)
		in = span_first(in, (size_t)(limit - r->dropped));
	size_t used = body_in_step(&r->body, in, &event, &piece);
	if (!dropping) {
		act_on_body(r, event, piece, out);
	} else {
		r->dropped += used;
		if (event == BODY_END)
			end_refused_body(r);
	}
	return used;
}

/* BDAT: exactly chunk_left bytes. */
static size_t
step_chunk(struct receiver *r, struct span in, struct receiver_action *out)
{
	if (r->chunk_left == 0) {
		end_chunk(r, out);
		return 0;
	}
	if (in.size == 0) {
		out->kind = RECEIVER_NEED_INPUT;
		return 0;
	}
	if (in.size > r->chunk_left)
		in = span_first(in, (size_t)r->chunk_left);
	size_t used = in.size;
	if (r->refusal == REPLY_NONE) {
		enum body_in_event event;
		struct span piece;
		used = body_in_step(&r->body, in, &event, &piece);
		act_on_body(r, event, piece, out);
	}
	r->chunk_left -= used;
	return used;
}

/* ---- The machine ---- */

/* One move: emits an action, or changes what the next move is. */
static size_t
move(struct receiver *r, struct span in, struct receiver_action *out)
{
	if (r->due != 0) {
		emit_due(r, out);
		return 0;
	}
	if (r->question != RECEIVER_NONE) {
		out->kind = RECEIVER_WAIT;
		return 0;
	}
	switch (r->state) {
	case RECEIVER_START:
		verb_ask(r, RECEIVER_ASK_GREETING, REPLY_BANNER, out);
		return 0;
	case RECEIVER_EARLY:
		return step_early(r, in, out);
	case RECEIVER_DATA:
		return step_data(r, in, out);
	case RECEIVER_CHUNK:
		return step_chunk(r, in, out);
	case RECEIVER_LINE:
		return step_line(r, in, out);
	case RECEIVER_AUTH:
		return step_auth(r, in, out);
	case RECEIVER_TLS:
		verb_ask(r, RECEIVER_START_TLS, REPLY_NONE, out);
		return 0;
	case RECEIVER_CLOSED:
		out->kind = RECEIVER_CLOSE;
		out->reason = r->reason;
		return 0;
	default:
		return step_command(r, in, out);
	}
}

size_t
receiver_step(struct receiver *r, struct span in, struct receiver_action *out)
{
	size_t used = 0;

	OBJ_CHECK(r, RECEIVER_MAGIC);
	out->kind = RECEIVER_NONE;
	do {
		used += move(r, span_after(in, used), out);
		ASSERT(used <= in.size);
	} while (out->kind == RECEIVER_NONE);
	return used;
}

/* ---- Answers ---- */

/* Must the client have waited for the reply to this question? */
static bool
is_synchronous(const struct receiver *r, enum receiver_action_kind question)
{
	return question == RECEIVER_ASK_GREETING || question == RECEIVER_ASK_HELO ||
	       question == RECEIVER_ASK_SYNC || question == RECEIVER_ASK_STARTTLS ||
	       question == RECEIVER_ASK_AUTH || question == RECEIVER_ASK_AUTH_DATA ||
	       (question == RECEIVER_ASK_DATA && r->body.dotted);
}

static void
keep_text(struct receiver *r, struct span text)
{
	text = span_first(text, RECEIVER_TEXT_MAX);
	if (text.size > 0)
		memcpy(r->text, text.data, text.size);
	r->text_size = (uint8_t)text.size;
}

static void
accept_question(struct receiver *r, enum receiver_action_kind question, enum reply_row row)
{
	switch (question) {
	case RECEIVER_ASK_GREETING:
		r->state = RECEIVER_GREETED;
		break;
	case RECEIVER_ASK_HELO:
		r->state = RECEIVER_READY;
		r->helo = true;
		break;
	case RECEIVER_ASK_MAIL:
		r->state = RECEIVER_MAIL;
		r->mails++;
		r->recipients = 0;
		r->recipients_refused = 0;
		break;
	case RECEIVER_ASK_RCPT:
		r->state = RECEIVER_RCPT;
		r->recipients++;
		break;
	case RECEIVER_ASK_DATA:
		if (r->body.dotted)
			r->state = RECEIVER_DATA;
		else
			verb_begin_chunk(r);
		break;
	case RECEIVER_ASK_STARTTLS:
		r->state = RECEIVER_TLS;
		break;
	case RECEIVER_ASK_AUTH:
	case RECEIVER_ASK_AUTH_DATA:
		r->authenticated = row != REPLY_AUTH_CONTINUE;
		r->state = r->authenticated ? RECEIVER_READY : RECEIVER_AUTH;
		break;
	default:
		ASSERT(question == RECEIVER_ASK_COMMIT);
		r->state = RECEIVER_READY;
		r->errors = 0;
		r->junk = 0;
		break;
	}
}

static void
refuse_question(struct receiver *r, enum receiver_action_kind question, enum reply_row row)
{
	if (question == RECEIVER_ASK_RCPT) {
		r->recipients_refused++;
	} else if (question == RECEIVER_ASK_COMMIT || question == RECEIVER_ASK_AUTH_DATA) {
		r->state = RECEIVER_READY;
	} else if (question == RECEIVER_ASK_DATA && !r->body.dotted) {
		/* Its bytes come all the same; the reply leaves behind them. */
		r->refusal = (uint8_t)row;
		verb_abort(r);
		verb_begin_chunk(r);
	}
}

void
receiver_answer(struct receiver *r, const struct receiver_answer *answer)
{
	enum receiver_action_kind question = r->question;

	OBJ_CHECK(r, RECEIVER_MAGIC);
	ASSERT(question != RECEIVER_NONE && question != RECEIVER_START_TLS);
	ASSERT(answer->challenge.size <= RECEIVER_CHALLENGE_MAX);
	r->question = RECEIVER_NONE;
	enum reply_row row = answer->row == REPLY_NONE ? (enum reply_row)r->row : answer->row;
	unsigned code = reply_row_code(row);
	bool chunk = question == RECEIVER_ASK_DATA && !r->body.dotted;
	bool closes = code == 421 || (question == RECEIVER_ASK_GREETING && code >= 400);

	if (closes) {
		keep_text(r, answer->text);
		verb_end(r, row, answer->reason == CLOSE_NONE ? CLOSE_REFUSED : answer->reason);
		return;
	}
	if (answer->input_waiting && question == RECEIVER_ASK_GREETING) {
		r->state = RECEIVER_EARLY;
		return;
	}
	if (answer->input_waiting && is_synchronous(r, question)) {
		verb_end(r, REPLY_OUT_OF_SYNC, CLOSE_OUT_OF_SYNC);
		return;
	}
	if (question == RECEIVER_ASK_SYNC) {
		r->due = r->held;
		return;
	}
	if (!chunk || code >= 400) /* a chunk that is taken has no reply yet */
		keep_text(r, answer->text);
	r->lent = row == REPLY_AUTH_CONTINUE ? answer->challenge
		  : r->text_size > 0         ? span_first(answer->more, RECEIVER_MORE_MAX)
					     : span_none();
	if (code < 400)
		accept_question(r, question, row);
	else
		refuse_question(r, question, row);
	if (!chunk)
		verb_reply(r, row);
}

void
receiver_refuse_body(struct receiver *r, enum reply_row row)
{
	OBJ_CHECK(r, RECEIVER_MAGIC);
	ASSERT(r->state == RECEIVER_DATA || r->state == RECEIVER_CHUNK ||
	       r->state == RECEIVER_CHUNKS);
	ASSERT(r->question == RECEIVER_NONE);
	ASSERT(reply_row_code(row) >= 400);
	if (r->refusal != REPLY_NONE)
		return;
	fail_body(r, row);
}

void
receiver_end(struct receiver *r, enum reply_row row, enum close_reason reason)
{
	OBJ_CHECK(r, RECEIVER_MAGIC);
	ASSERT(reply_row_code(row) >= 400 && reason != CLOSE_NONE);
	if (r->state == RECEIVER_CLOSED || (r->due & DUE_CLOSE))
		return;
	r->question = RECEIVER_NONE;
	r->farewell = (uint8_t)row;
	r->due |= DUE_FAREWELL;
	end_with(r, reason);
}

/* ---- Questions about it ---- */

enum receiver_phase
receiver_phase(const struct receiver *r)
{
	if (r->state == RECEIVER_CLOSED)
		return RECEIVER_PHASE_CLOSED;
	if (r->question == RECEIVER_START_TLS)
		return RECEIVER_PHASE_HANDSHAKE;
	if (r->due != 0 || r->question != RECEIVER_NONE || r->state == RECEIVER_START)
		return RECEIVER_PHASE_OURS;
	return r->state == RECEIVER_DATA || r->state == RECEIVER_CHUNK ? RECEIVER_PHASE_DATA
								       : RECEIVER_PHASE_COMMAND;
}

bool
receiver_is_idle(const struct receiver *r)
{
	return r->due == 0 && r->question == RECEIVER_NONE &&
	       (r->state == RECEIVER_GREETED || r->state == RECEIVER_READY);
}

void
receiver_show(const struct receiver *r, struct buf *out)
{
	static const char *const states[RECEIVER_STATE_COUNT] = {
		[RECEIVER_START] = "START",     [RECEIVER_EARLY] = "EARLY",
		[RECEIVER_GREETED] = "GREETED", [RECEIVER_READY] = "READY",
		[RECEIVER_MAIL] = "MAIL",       [RECEIVER_RCPT] = "RCPT",
		[RECEIVER_CHUNKS] = "CHUNKS",   [RECEIVER_DATA] = "DATA",
		[RECEIVER_CHUNK] = "CHUNK",     [RECEIVER_LINE] = "LINE",
		[RECEIVER_AUTH] = "AUTH",       [RECEIVER_TLS] = "TLS",
		[RECEIVER_CLOSED] = "CLOSED",
	};
	static const char *const questions[RECEIVER_ACTION_COUNT] = {
		[RECEIVER_NONE] = "none",
		[RECEIVER_ASK_GREETING] = "greeting",
		[RECEIVER_ASK_HELO] = "helo",
		[RECEIVER_ASK_MAIL] = "mail",
		[RECEIVER_ASK_RCPT] = "rcpt",
		[RECEIVER_ASK_DATA] = "data",
		[RECEIVER_ASK_SYNC] = "sync",
		[RECEIVER_ASK_COMMIT] = "commit",
		[RECEIVER_ASK_STARTTLS] = "starttls",
		[RECEIVER_ASK_AUTH] = "auth",
		[RECEIVER_ASK_AUTH_DATA] = "auth data",
		[RECEIVER_START_TLS] = "start tls",
	};

	buf_printf(out,
		   "receiver %s question=%s due=%x recipients=%u size=%llu chunk_left=%llu "
		   "refusal=%s errors=%u junk=%u reason=%s",
		   states[r->state], questions[r->question], r->due, r->recipients,
		   (unsigned long long)r->size, (unsigned long long)r->chunk_left,
		   reply_row_name(r->refusal), r->errors, r->junk, close_label(r->reason));
}
