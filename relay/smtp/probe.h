/* SPDX-License-Identifier: Apache-2.0
 *
 * probe: asks an SMTP or LMTP server whether it would take certain recipients: EHLO (LHLO), MAIL,
 * RCPT, and no message. The way is also called a callout, or a call-ahead.
 *
 * PURE: no descriptor, no clock, no memory of its own. probe_step() consumes a prefix of the peer's
 * bytes and emits one action; call it until it says NEED_INPUT. What comes out does not depend on
 * how the input was cut. What replies mean is what they mean for mail (sender_replies.def), so a
 * recipient is unknown here exactly when its mail would fail for good at RCPT; but that the peer
 * refuses our MAIL says nothing about any recipient: it is always a temporary failure here.
 *
 * From the greeting until the session is up it is a sender (sender.h), which also does TLS and AUTH
 * where its options say so; what stands for a failure of these is a failure to ask. Its START_TLS
 * and ASK_AUTH are passed on: probe_secured(), and for AUTH the calls of the sender itself, on
 * probe_session().
 *
 * A question is lent from probe_ask() until its ANSWER; with PIPELINING up to PROBE_OPEN_MAX of
 * them are under way, in one transaction, which RSET ends as soon as nothing is asked any more. An
 * outcome of the class OK is yes, PERMANENT is no, TEMPORARY is that nothing was learnt; its `next`
 * is AGAIN where that was nobody's fault (the peer had closed an idle connection, or we have asked
 * it enough): ask anew on another connection.
 *
 * One connection is used up after PROBE_REFUSALS_MAX noes, since servers slow down or turn away
 * clients that ask for many unknown recipients (Postfix: from the tenth error on), and after
 * PROBE_TRANSACTIONS_MAX transactions, since they count RSETs, too.
 */
#ifndef RELAY_SMTP_PROBE_H
#define RELAY_SMTP_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/close.h"
#include "core/base/span.h"
#include "relay/smtp/reply.h"
#include "relay/smtp/sender.h"

enum {
	PROBE_OPEN_MAX = 32,
	PROBE_REFUSALS_MAX = 9,
	PROBE_RECIPIENTS_MAX = 100, /* of one transaction (RFC 5321 4.5.3.1.8) */
	PROBE_TRANSACTIONS_MAX = 50,
	PROBE_SCRATCH_MIN = SENDER_SCRATCH_MIN,
};

/* Shared; unchanged while a probe uses it. */
struct probe_options {
	struct sender_options session;
	struct span sender; /* without angle brackets; empty: the null sender */
};

struct probe_question {
	struct span address;         /* without angle brackets */
	struct probe_question *next; /* the machine's, while lent */
};

/* In the order of asking. */
struct probe_queue {
	struct probe_question *first;
	struct probe_question *last;
	uint32_t count;
};

enum probe_action_kind {
	PROBE_NEED_INPUT, /* nothing to do until the peer speaks, or there is a question */
	PROBE_WAIT,       /* probe_secured() or the answer to ASK_AUTH is owed */
	PROBE_START_TLS,  /* begin the handshake; probe_secured() */
	PROBE_ASK_AUTH,   /* what does `auth` get? */
	PROBE_WRITE,      /* send `text` */
	PROBE_ANSWER,     /* `question` is the caller's again; `outcome` */
	PROBE_CLOSE,      /* the last: close the connection for `close` */
};

/* Spans and the reply of an outcome live until the next step. */
struct probe_action {
	enum probe_action_kind kind;
	struct span text;
	struct probe_question *question;
	struct sender_outcome outcome;
	struct sender_auth auth;
	enum close_reason close;
};

/* The members are probe's own. */
struct probe {
	uint32_t magic;
	uint8_t state;                 /* enum probe_state, in probe.c */
	uint8_t close;                 /* enum close_reason; NONE until it is to end */
	bool in_transaction;           /* MAIL was sent, RSET was not */
	bool awaits_reset;             /* its reply */
	bool awaits_mail;              /* likewise */
	bool is_full;                  /* the transaction takes no more recipients */
	bool has_served;               /* a question was answered by the peer */
	bool has_replied;              /* to what belongs to this transaction */
	struct sender_outcome verdict; /* for all that is left, when it ends */
	uint8_t phase;                 /* enum sender_phase, of what was awaited before it was up */
	const struct probe_options *options;
	struct buf *scratch;
	struct sender session;      /* until it is up; its offer and its reply serve on */
	struct probe_queue waiting; /* to be sent */
	struct probe_queue asked;   /* sent, to be answered */
	uint32_t recipients;        /* sent in this transaction */
	uint32_t accepted;          /* of them */
	uint32_t refusals;          /* on this connection */
	uint32_t transactions;      /* likewise */
};

/* `scratch` has at least PROBE_SCRATCH_MIN bytes, holds nothing between steps, and may be shared.
 * The peer is expected to greet. */
void probe_init(struct probe *p, const struct probe_options *options, struct buf *scratch);
size_t probe_step(struct probe *p, struct span in, struct probe_action *out);

/* As sender_secured(): the handshake is done, or there was one before the first step. */
void probe_secured(struct probe *p);
/* For sender_auth_answer() and sender_auth_failed(). */
struct sender *probe_session(struct probe *p);
/* Is there room for one question more? From the start on, also before the peer has greeted. */
bool probe_can_ask(const struct probe *p);
void probe_ask(struct probe *p, struct probe_question *q);
/* Is it up, and is nothing asked or owed? */
bool probe_is_idle(const struct probe *p);
/* Has the peer greeted and taken our name, behind TLS and AUTH where these are to be? */
bool probe_is_up(const struct probe *p);
/* Is it up, and is no question open? A reply may still be owed that nobody needs. */
bool probe_may_quit(const struct probe *p);
/* Says QUIT without waiting for any reply; only one that may. */
void probe_quit(struct probe *p, enum close_reason why);
/* The connection is gone, or we give it up. The answers that are still owed come out of the next
 * steps, then CLOSE. */
void probe_lost(struct probe *p, enum close_reason why);
/* What is awaited. */
enum sender_phase probe_phase(const struct probe *p);

#endif
