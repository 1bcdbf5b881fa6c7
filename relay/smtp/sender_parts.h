/* SPDX-License-Identifier: Apache-2.0
 *
 * sender_parts: what sender.c is made of besides the machine: the text of commands, what EHLO
 * offers, the tables, and the halves of the machine. Private to relay/smtp; pure.
 */
#ifndef RELAY_SMTP_SENDER_PARTS_H
#define RELAY_SMTP_SENDER_PARTS_H

#include "relay/smtp/sender.h"

#define SENDER_MAGIC 0x534e4452u

enum state {
	STATE_GREETING,  /* from the start; waits for the greeting */
	STATE_HELLO,     /* greeted; EHLO (LHLO) is to be sent */
	STATE_EHLO,      /* waits for its reply */
	STATE_FALL_BACK, /* EHLO was not understood; HELO is to be sent */
	STATE_HELO,      /* waits for its reply */
	STATE_STARTTLS,  /* it is offered and wanted; STARTTLS is to be sent */
	STATE_STARTED,   /* waits for its reply */
	STATE_START_TLS, /* 220; the caller is to be told */
	STATE_SECURING,  /* waits for sender_secured; drops input */
	STATE_AUTH_ASK,  /* the caller is to be asked what to say */
	STATE_AUTH_WAIT, /* waits for sender_auth_answer */
	STATE_AUTH_SAY,  /* the answer is to be sent */
	STATE_AUTH,      /* waits for its reply */
	STATE_READY,     /* the session is up; the caller is to be told */
	STATE_UP,        /* carries transactions */
	STATE_QUITTING,  /* takes no input any more; outcomes, then QUIT, then the end */
	STATE_CLOSING,   /* takes no input any more; outcomes, then the end */
};

/* What of a flight is to be sent next. */
enum sent {
	SEND_BEGIN,   /* nothing was sent; the session's limits are to be looked at */
	SEND_RSET,    /* RSET in front */
	SEND_MAIL,    /* MAIL */
	SEND_RCPT,    /* RCPT of rcpt_sent */
	SEND_DATA,    /* DATA */
	AWAIT_354,    /* DATA was sent; waits for its reply */
	SEND_BDAT,    /* BDAT, when its time has come */
	SEND_DOT,     /* 354 came although no recipient was accepted: an empty message */
	SEND_FIRST,   /* all of a large body but its last piece */
	IN_FIRST,     /* that is being sent; waits for sender_body_sent */
	SEND_ASK,     /* BEFORE_END */
	IN_ASK,       /* waits for sender_answer */
	SEND_LAST,    /* the last piece, with the end of data */
	IN_LAST,      /* that is being sent; waits for sender_body_sent */
	SEND_NOTHING, /* all was sent, or no more will be */
	BARRED,       /* the caller said no; waits for the flight in front, then closes */
};

/* Whose reply a flight waits for. */
enum answered {
	ANSWER_RSET,
	ANSWER_MAIL,
	ANSWER_RCPT,
	ANSWER_DATA,
	ANSWER_END,
	ANSWER_EARLY, /* the reply to the end was read while that was being sent: it is kept in
		       * s->reply until sender_body_sent, no input is taken */
};

/* Where an exchange of AUTH is. */
enum auth_step {
	AUTH_FIRST,     /* nothing was said */
	AUTH_CHALLENGE, /* 334 */
	AUTH_OVER,      /* 235 */
};

/* A recipient's state, in the caller's memory. */
enum recipient {
	RECIPIENT_OPEN,     /* nothing is known */
	RECIPIENT_ACCEPTED, /* RCPT was accepted; waits for the end of data */
	RECIPIENT_LEFT_OUT, /* failed by ourselves: no RCPT was sent. Reported. */
	RECIPIENT_REPORTED,
};

enum sender_then { SENDER_STAY, SENDER_QUIT, SENDER_DROP, SENDER_FALL_BACK };

struct sender_meaning {
	enum sender_class class;
	enum sender_next next;
	enum sender_then then;
};

/* What all recipients of a flight that are still unreported get. */
struct verdict {
	enum sender_cause cause;
	struct sender_meaning meaning;
	bool in_doubt;
};

/* ---- sender_flight.c ---- */

/* The two places are in use from the front. */
bool sender_is_ahead(const struct sender *s, const struct sender_flight *f);
/* The answer that is due next, where any is. */
enum answered sender_awaited(const struct sender_flight *f);
enum sender_phase sender_answer_phase(enum answered answered);
enum sender_phase sender_flight_phase(const struct sender_flight *f);
/* IDLE once the session is up. */
enum sender_phase sender_session_phase(const struct sender *s);
/* Of two limits, 0 meaning none. */
uint32_t sender_smaller_limit(uint32_t a, uint32_t b);
bool sender_mails_are_used_up(const struct sender *s, uint32_t mails);

void sender_emit_outcome(struct sender *s, struct sender_flight *f, uint32_t index,
			 enum sender_phase phase, struct verdict v, struct sender_action *out);
/* From now on the recipients that are left are reported, one a step. */
void sender_set_verdict(struct sender_flight *f, enum sender_phase phase, struct verdict v);
/* True with the next outcome that is owed. */
bool sender_report_flight(struct sender *s, struct sender_flight *f, struct sender_action *out);
bool sender_report(struct sender *s, struct sender_action *out);

/* Both end the session: verdicts for all that is on its way. */
void sender_end_by_cause(struct sender *s, enum close_reason why, enum sender_cause cause);
/* The same with a QUIT: the peer waits for a command. */
void sender_refuse_peer(struct sender *s, enum sender_cause cause);
void sender_end_by_reply(struct sender *s, struct sender_meaning meaning);

/* ---- sender_send.c ---- */

/* True with what is to be said now. */
bool sender_speak(struct sender *s, struct sender_action *out);
/* The body of a flight may go; `replies` are owed for it. */
void sender_begin_body(struct sender *s, struct sender_flight *f, uint32_t replies);
bool sender_write_command(struct sender *s, const char *verb, struct span argument,
			  struct sender_action *out);

/* ---- sender_stage.c: from the greeting to READY ---- */

/* EHLO or HELO was accepted, or what came behind it is done: what is next? */
void sender_next_stage(struct sender *s);
/* True with what is to be said or asked now. */
bool sender_speak_stage(struct sender *s, struct sender_action *out);
/* The reply to STARTTLS. */
void sender_take_starttls_reply(struct sender *s, struct sender_meaning meaning);
/* A reply in an exchange of AUTH that is 334 or 235. */
void sender_take_auth_reply(struct sender *s);

/* ---- sender_command.c: each appends one whole command line, or nothing ---- */

/* May it stand in a command? No controls, blanks only in quotes, no angle brackets outside them. */
bool command_address_is_safe(struct span address);
bool command_mail(struct buf *out, const struct sender_transaction *t, const struct sender_offer *o,
		  bool utf8);
bool command_rcpt(struct buf *out, const struct sender_recipient *r, const struct sender_offer *o);
/* Without a parameter where `argument` is empty. */
bool command_plain(struct buf *out, const char *verb, struct span argument);

/* ---- sender_offer.c ---- */

/* Takes one line of a reply to EHLO, behind the first. */
void offer_learn(struct sender_offer *o, struct span line);

/* ---- sender_tables.c ---- */

struct sender_meaning sender_meaning_of(enum sender_phase phase, unsigned code);
struct sender_meaning sender_meaning_of_cause(enum sender_cause cause);

#endif
