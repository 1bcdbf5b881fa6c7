/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/client.h"

#include "core/base/assert.h"

enum state {
	GREETING, /* entered by init; waits for the banner */
	HELLO,    /* waits for the reply to EHLO or LHLO, whose text is due or sent */
	STARTING, /* STARTTLS was said; waits for its reply */
	SECURING, /* by START_TLS; waits for client_secured */
	SECURED,  /* by client_secured; EHLO is due once more */
	LOGIN,    /* AUTH was said; waits for its reply */
	OPEN,     /* mails pass */
	ENDING,   /* QUIT is due or sent; waits for its reply */
	LOST,     /* by client_lost, a 421 or nonsense: outcomes, then CLOSE */
};

/* What is to be sent next of a mail. */
enum due {
	DUE_NOTHING, /* a reply comes first */
	DUE_RSET,
	DUE_MAIL,
	DUE_RCPT, /* of recipient `at` */
	DUE_DATA,
	DUE_GROUP, /* all of these at once */
	DUE_LOGIN, /* in mode login, instead of them */
	DUE_QUIT,  /* in mode connect */
	DUE_BODY,
};

enum awaits {
	AWAITS_RSET,
	AWAITS_MAIL,
	AWAITS_RCPT,
	AWAITS_DATA,
	AWAITS_END,
	AWAITS_LOGIN,
	AWAITS_QUIT,
};

enum { COMMANDS_SIZE = 1024 }; /* of all but the recipients, with the sender, or the login */

size_t
client_scratch_size(uint32_t recipients)
{
	return COMMANDS_SIZE + (size_t)recipients * (CLIENT_ADDRESS_MAX + sizeof "RCPT TO:<>\r\n");
}

void
client_init(struct client *c, const struct client_options *options, struct buf *scratch)
{
	ASSERT(options->sender.size <= CLIENT_ADDRESS_MAX);
	ASSERT(options->login.size <= CLIENT_LOGIN_MAX);
	*c = (struct client){ .options = options, .scratch = scratch, .state = GREETING };
	reply_init(&c->reply);
}

/* ---- what is said ---- */

static void
say_mail(struct client *c, const struct client_flight *f)
{
	struct span own = f->mail->sender;

	ASSERT(own.size <= CLIENT_ADDRESS_MAX);
	buf_append_string(c->scratch, "MAIL FROM:<");
	buf_append(c->scratch, own.size > 0 ? own : c->options->sender);
	buf_append_string(c->scratch, ">\r\n");
}

static void
say_rcpt(struct client *c, const struct client_flight *f, uint32_t i)
{
	buf_append_string(c->scratch, "RCPT TO:<");
	f->mail->show_recipient(f->mail, i, c->scratch);
	buf_append_string(c->scratch, ">\r\n");
}

static void
say_data(struct client *c, const struct client_flight *f)
{
	if (c->options->bdat)
		buf_printf(c->scratch, "BDAT %llu LAST\r\n", (unsigned long long)f->mail->size);
	else
		buf_append_string(c->scratch, "DATA\r\n");
}

static void
say_group(struct client *c, const struct client_flight *f)
{
	if (f->awaits == AWAITS_RSET)
		buf_append_string(c->scratch, "RSET\r\n");
	say_mail(c, f);
	for (uint32_t i = 0; i < f->mail->recipient_count; i++)
		say_rcpt(c, f, i);
	say_data(c, f);
}

static void
say_login(struct client *c)
{
	buf_append_string(c->scratch, "AUTH PLAIN ");
	buf_append(c->scratch, c->options->login);
	buf_append_string(c->scratch, "\r\n");
}

static size_t
write_text(struct client *c, struct client_action *out)
{
	ASSERT(!c->scratch->overflow);
	*out = (struct client_action){ .event = CLIENT_WRITE, .text = buf_span(c->scratch) };
	buf_reset(c->scratch);
	return 0;
}

static bool
say_due(struct client *c, struct client_flight *f, struct client_action *out)
{
	enum due due = f->due;

	f->due = DUE_NOTHING;
	switch (due) {
	case DUE_NOTHING:
		return false;
	case DUE_RSET:
		buf_append_string(c->scratch, "RSET\r\n");
		break;
	case DUE_MAIL:
		say_mail(c, f);
		break;
	case DUE_RCPT:
		say_rcpt(c, f, f->at);
		break;
	case DUE_DATA:
	case DUE_GROUP:
		if (due == DUE_GROUP)
			say_group(c, f);
		else
			say_data(c, f);
		if (c->options->bdat)
			f->due = DUE_BODY; /* the chunk follows its command */
		break;
	case DUE_LOGIN:
		say_login(c);
		break;
	case DUE_QUIT:
		buf_append_string(c->scratch, "QUIT\r\n");
		break;
	case DUE_BODY:
		*out = (struct client_action){ .event = CLIENT_SEND_BODY, .mail = f->mail };
		f->body_sent = true;
		return true;
	}
	write_text(c, out);
	return true;
}

/* ---- ends ---- */

/* by: the reply that decided it; NULL: none. */
static void
lose(struct client *c, const char *why, const struct reply *by)
{
	c->state = LOST;
	c->why = why;
	c->lost_by = by;
}

void
client_lost(struct client *c, const char *why)
{
	if (c->state != LOST)
		lose(c, c->state == ENDING ? NULL : why, NULL);
}

/* The first mail is over; the one behind it moves up. */
static void
end_flight(struct client *c, enum client_fate fate, const struct reply *reply,
	   struct client_action *out)
{
	*out = (struct client_action){
		.event = CLIENT_OUTCOME,
		.mail = c->flights[0].mail,
		.fate = fate,
		.reply = reply,
	};
	c->flights[0] = c->flights[1];
	c->flights[1] = (struct client_flight){ 0 };
}

static enum client_fate
fate_of_lost(struct client_flight *f)
{
	if (!f->body_sent)
		return CLIENT_REFUSED;
	if (f->kept == 0)
		return CLIENT_IN_DOUBT;
	while (f->at < f->mail->recipient_count)
		f->mail->rejected[f->at++] = true;
	return CLIENT_ACCEPTED;
}

static void
step_lost(struct client *c, struct client_action *out)
{
	struct client_flight *f = &c->flights[0];

	if (f->mail != NULL) {
		end_flight(c, fate_of_lost(f), NULL, out);
		return;
	}
	*out = (struct client_action){
		.event = CLIENT_CLOSE,
		.why = c->why,
		.reply = c->lost_by,
	};
}

/* ---- replies to a mail ---- */

/* Lockstep says the next command now; in a group all are said. */
static void
go_on(struct client *c, struct client_flight *f, enum awaits awaits, enum due due)
{
	f->awaits = (uint8_t)awaits;
	if (!c->pipelining)
		f->due = (uint8_t)due;
}

/* Nobody will take this mail, and the peer may still hold its transaction. */
static void
refuse(struct client *c, struct client_action *out)
{
	c->dirty = true;
	end_flight(c, CLIENT_REFUSED, &c->reply, out);
}

static void
take_rcpt(struct client *c, struct client_flight *f, bool good, struct client_action *out)
{
	f->mail->rejected[f->at] = !good;
	f->taken += good;
	f->at++;
	if (f->at < f->mail->recipient_count)
		go_on(c, f, AWAITS_RCPT, DUE_RCPT);
	else if (f->taken == 0 && !c->pipelining)
		refuse(c, out);
	else if (c->options->bdat)
		go_on(c, f, AWAITS_END, DUE_DATA);
	else
		go_on(c, f, AWAITS_DATA, DUE_DATA);
	if (f->awaits == AWAITS_END)
		f->at = 0;
}

/* LMTP: the next recipient that was accepted at RCPT is the one this reply is about. */
static bool
take_lmtp_end(struct client_flight *f, bool good)
{
	while (f->mail->rejected[f->at])
		f->at++;
	f->mail->rejected[f->at] = !good;
	f->kept += good;
	f->at++;
	return --f->taken == 0;
}

static void
take_end(struct client *c, struct client_flight *f, bool good, struct client_action *out)
{
	if (c->options->lmtp && f->taken > 0) {
		if (!take_lmtp_end(f, good))
			return;
		good = f->kept > 0;
	}
	/* A server may take DATA although no recipient was accepted. */
	good = good && (f->taken > 0 || f->kept > 0);
	c->dirty = f->refused || (f->taken == 0 && f->kept == 0);
	end_flight(c, good ? CLIENT_ACCEPTED : CLIENT_REFUSED, good ? NULL : &c->reply, out);
}

/* What the reply to the first mail's next command means. `out` is set where the mail is over. */
static void
take_reply(struct client *c, struct client_action *out)
{
	struct client_flight *f = &c->flights[0];
	bool good = reply_class(&c->reply) == 2;

	switch ((enum awaits)f->awaits) {
	case AWAITS_RSET:
		go_on(c, f, AWAITS_MAIL, DUE_MAIL);
		break;
	case AWAITS_MAIL:
		f->refused = !good;
		if (!good && !c->pipelining)
			end_flight(c, CLIENT_REFUSED, &c->reply, out);
		else
			go_on(c, f, AWAITS_RCPT, DUE_RCPT);
		break;
	case AWAITS_RCPT:
		take_rcpt(c, f, good, out);
		break;
	case AWAITS_DATA:
		if (c->reply.code != 354) {
			refuse(c, out);
			break;
		}
		f->awaits = AWAITS_END;
		f->due = DUE_BODY;
		f->at = 0;
		break;
	case AWAITS_END:
		take_end(c, f, good, out);
		break;
	case AWAITS_LOGIN:
		end_flight(c, good ? CLIENT_ACCEPTED : CLIENT_REFUSED, good ? NULL : &c->reply,
			   out);
		break;
	case AWAITS_QUIT:
		end_flight(c, CLIENT_ACCEPTED, NULL, out);
		lose(c, NULL, NULL);
		break;
	}
}

/* ---- replies to all else ---- */

static size_t
say_hello(struct client *c, struct client_action *out)
{
	c->state = HELLO;
	buf_append_string(c->scratch, c->options->lmtp ? "LHLO " : "EHLO ");
	buf_append(c->scratch, c->options->hello);
	buf_append_string(c->scratch, "\r\n");
	return write_text(c, out);
}

static size_t
say_quit(struct client *c, struct client_action *out)
{
	c->state = ENDING;
	buf_append_string(c->scratch, "QUIT\r\n");
	return write_text(c, out);
}

/* The reply to EHLO is complete: what comes before mails. */
static void
take_hello(struct client *c, bool good, struct client_action *out)
{
	const struct client_options *o = c->options;

	if (!good) {
		lose(c, "EHLO was refused", &c->reply);
	} else if (o->starttls && !c->secure) {
		c->state = STARTING;
		buf_append_string(c->scratch, "STARTTLS\r\n");
		write_text(c, out);
	} else if (o->bdat && !c->chunking) {
		lose(c, "CHUNKING is not offered, which --bdat needs", NULL);
	} else if (o->login.size > 0 && o->mode != CLIENT_LOGIN) {
		c->state = LOGIN;
		say_login(c);
		write_text(c, out);
	} else {
		c->state = OPEN;
	}
}

static void
take_any_reply(struct client *c, struct client_action *out)
{
	bool good = reply_class(&c->reply) == 2;

	switch ((enum state)c->state) {
	case GREETING:
		if (good)
			say_hello(c, out);
		else
			lose(c, "the greeting was a refusal", &c->reply);
		break;
	case HELLO:
		take_hello(c, good, out);
		break;
	case STARTING:
		if (!good) {
			lose(c, "STARTTLS was refused", &c->reply);
			break;
		}
		c->state = SECURING;
		*out = (struct client_action){ .event = CLIENT_START_TLS };
		break;
	case LOGIN:
		if (good)
			c->state = OPEN;
		else
			lose(c, "AUTH was refused", &c->reply);
		break;
	case SECURING:
	case SECURED:
		lose(c, "a reply came without a command", &c->reply);
		break;
	case OPEN:
		if (c->flights[0].mail == NULL)
			lose(c, "a reply came without a command", &c->reply);
		else
			take_reply(c, out);
		break;
	case ENDING:
		lose(c, NULL, NULL);
		break;
	case LOST:
		break;
	}
	if (c->reply.code == 421 && c->state == OPEN)
		lose(c, "the server ended it", &c->reply);
}

/* A line of the reply to EHLO. */
static void
take_offer(struct client *c, enum reply_event event)
{
	struct span line = reply_line(&c->reply);

	c->chunking |= span_eq_nocase(line, SPAN("CHUNKING"));
	c->pipelining |=
		c->options->mode == CLIENT_PIPELINED && span_eq_nocase(line, SPAN("PIPELINING"));
	if (event == REPLY_LINE)
		reply_forget_text(&c->reply);
}

/* ---- the step ---- */

/* The present mail can no longer fail in a way that leaves the peer in its transaction. */
static bool
may_go_ahead(const struct client *c)
{
	const struct client_flight *f = &c->flights[0];

	return c->pipelining && c->flights[1].mail == NULL && f->awaits == AWAITS_END &&
	       f->due == DUE_NOTHING && f->taken > 0 && !f->refused;
}

static bool
has_place(const struct client *c)
{
	return !c->quitting && (c->options->mails_max == 0 || c->mails < c->options->mails_max) &&
	       (c->flights[0].mail == NULL || may_go_ahead(c));
}

static bool
is_over(const struct client *c)
{
	bool enough = c->options->mails_max != 0 && c->mails >= c->options->mails_max;

	return c->flights[0].mail == NULL && (c->quitting || enough);
}

size_t
client_step(struct client *c, struct span in, struct client_action *out)
{
	size_t used = 0;

	*out = (struct client_action){ .event = CLIENT_NEED_INPUT };
	for (;;) {
		if (c->state == SECURED) {
			say_hello(c, out);
			return used;
		}
		if (c->state == LOST) {
			step_lost(c, out);
			return used;
		}
		if (say_due(c, &c->flights[0], out) || say_due(c, &c->flights[1], out))
			return used;
		if (used == in.size)
			break;
		enum reply_event event;
		used += reply_feed(&c->reply, span_after(in, used), &event);
		if (event == REPLY_BAD)
			lose(c, "the peer does not speak SMTP", NULL);
		if (c->state == HELLO && (event == REPLY_LINE || event == REPLY_DONE))
			take_offer(c, event);
		if (event == REPLY_DONE)
			take_any_reply(c, out);
		if (out->event != CLIENT_NEED_INPUT)
			return used;
	}
	if (c->state == OPEN && is_over(c))
		say_quit(c, out);
	else if (c->state == OPEN && has_place(c))
		out->event = CLIENT_NEED_MAIL;
	return used;
}

void
client_secured(struct client *c)
{
	ASSERT(c->state == SECURING || c->state == LOST);
	if (c->state == LOST)
		return;
	/* What was offered in plain text does not count (RFC 3207 4.2). */
	c->state = SECURED;
	c->secure = true;
	c->chunking = c->pipelining = false;
}

/* What stands for a mail in the modes that send none. */
static bool
offer_instead(struct client *c, struct client_flight *f)
{
	if (c->options->mode == CLIENT_LOGIN)
		*f = (struct client_flight){ .mail = f->mail,
					     .awaits = AWAITS_LOGIN,
					     .due = DUE_LOGIN };
	else if (c->options->mode == CLIENT_CONNECT)
		*f = (struct client_flight){ .mail = f->mail,
					     .awaits = AWAITS_QUIT,
					     .due = DUE_QUIT };
	else
		return false;
	return true;
}

void
client_offer(struct client *c, struct client_mail *m)
{
	unsigned place = c->flights[0].mail == NULL ? 0 : 1;
	struct client_flight *f = &c->flights[place];

	ASSERT(c->state == OPEN && has_place(c) && m->recipient_count > 0);
	*f = (struct client_flight){
		.mail = m,
		.awaits = c->dirty ? AWAITS_RSET : AWAITS_MAIL,
		.due = c->pipelining ? DUE_GROUP
		       : c->dirty    ? DUE_RSET
				     : DUE_MAIL,
	};
	c->dirty = false;
	c->mails++;
	offer_instead(c, f);
}

void
client_quit(struct client *c)
{
	c->quitting = true;
}
