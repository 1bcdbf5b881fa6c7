/* SPDX-License-Identifier: Apache-2.0
 *
 * sender: the client's side of one SMTP or LMTP connection (RFC 5321, 2033, 2920, 3030, 9422).
 *
 * Pure: no descriptor, no clock, no memory of its own. One thread. sender_step() consumes a prefix
 * of the peer's bytes and emits one action; call it until it says NEED_INPUT or WAIT. What comes
 * out does not depend on how the input was cut.
 *
 * A life: sender_init, sender_start for the first mail (at once or after READY), steps. For each
 * transaction every recipient gets exactly one RECIPIENT_OUTCOME, then comes DONE: only then is
 * its memory the caller's again. There are two places: one transaction on its way, and one ahead
 * of it, whose commands follow the end of the first one's data without waiting for its reply
 * (with PIPELINING). sender_can_start() says whether a place is free. The last action is CLOSE.
 *
 * The message itself never passes through here. SEND_BODY names bytes of it; the caller sends
 * them behind all text of earlier WRITEs, then calls sender_body_sent(). `stuffed`: through
 * body_out.h. `last`: the end of data is in these bytes (body_out_end when stuffed), so BEFORE_END
 * comes right before it and is answered by sender_answer(): the lease of invariant 3.
 * While a body is being sent, go on stepping with input: a reply may come early.
 *
 * A span of an action, and its reply, live until the next step. The scratch memory holds nothing
 * between steps and may be shared by all senders of a thread.
 *
 * What replies mean is core/tables/sender_replies.def; outcomes of our own making are
 * sender_causes.def. 354 is awaited before a body goes out by DATA. BDAT of one chunk replaces
 * DATA where CHUNKING is offered (never for LMTP, where the number of replies to a failed BDAT is
 * open, nor for an empty body); with PIPELINING a body of at most piece_max bytes follows its
 * envelope at once, a larger one when a recipient was accepted. RSET is sent only where the peer
 * may still hold a transaction, in front of the next MAIL.
 */
#ifndef RELAY_SMTP_SENDER_H
#define RELAY_SMTP_SENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/close.h"
#include "core/base/span.h"
#include "relay/smtp/reply.h"
#include "relay/smtp/sasl.h"

enum { SENDER_SCRATCH_MIN = 2048 }; /* a longer command fails its recipient; 16 KiB is good */

enum sender_phase {
#define SENDER_PHASE(name, label, seconds) SENDER_PHASE_##name,
#include "core/tables/sender_phases.def"
#undef SENDER_PHASE
	SENDER_PHASE_COUNT
};

enum sender_cause {
#define SENDER_CAUSE(name, label, class, next, code, status, text) SENDER_CAUSE_##name,
#include "core/tables/sender_causes.def"
#undef SENDER_CAUSE
	SENDER_CAUSE_COUNT
};

enum sender_class { SENDER_OK, SENDER_TEMPORARY, SENDER_PERMANENT };

/* What may be done with a recipient that has this outcome. */
enum sender_next {
	SENDER_NEXT_NOTHING, /* delivered, or failed for good */
	SENDER_NEXT_LATER,   /* try again after a while */
	SENDER_NEXT_HOST,    /* it is about this host: try another one at once. PERMANENT: where no
			      * host is left that it was not said of, it failed for good */
	SENDER_NEXT_AGAIN,   /* the same host at once: in another transaction or connection */
};

/* Bits of NOTIFY (RFC 3461 4.1), with the values that an envelope has. 0: not given. */
enum {
	SENDER_NOTIFY_NEVER = 1,
	SENDER_NOTIFY_SUCCESS = 2,
	SENDER_NOTIFY_FAILURE = 4,
	SENDER_NOTIFY_DELAY = 8,
};
enum sender_ret { SENDER_RET_NONE, SENDER_RET_FULL, SENDER_RET_HEADERS };

struct sender_recipient {
	struct span address; /* without angle brackets */
	struct span orcpt;   /* in xtext, with its type; empty: not given */
	uint8_t notify;
	uint8_t state; /* the machine's, from sender_start to DONE */
};

struct sender_transaction {
	struct span sender; /* without angle brackets; empty: the null sender */
	struct span envid;  /* in xtext; empty: not given */
	uint64_t body_size; /* bytes of the message, before dot-stuffing */
	bool eight_bit;     /* BODY=8BITMIME where offered; else see sender_options */
	bool utf8;          /* its header needs SMTPUTF8; addresses are looked at anyway */
	bool require_tls;   /* REQUIRETLS, where it was offered under TLS */
	uint8_t ret;        /* enum sender_ret */
	uint32_t recipient_count;
	struct sender_recipient *recipients;
};

enum sender_tls {
	SENDER_TLS_NEVER,      /* STARTTLS is not used */
	SENDER_TLS_IF_OFFERED, /* and not refused */
	SENDER_TLS_REQUIRED,   /* no mail without */
};

/* Shared by all connections to a destination; unchanged while a sender uses it. */
struct sender_options {
	struct span hello_name; /* our name for EHLO */
	bool lmtp;
	uint8_t tls;        /* enum sender_tls */
	uint8_t auth;       /* SASL_BIT of what we can do; 0: no AUTH, else it must be done */
	bool require_tls;   /* no mail unless REQUIRETLS is offered under TLS (RFC 8689) */
	bool no_pipelining; /* do not use what the peer offers */
	bool no_chunking;
	bool eight_bit_fails;    /* where 8BITMIME is not offered; else 8-bit text goes as it is */
	uint32_t recipients_max; /* in one transaction; 0: no limit of ours */
	uint32_t mails_max;      /* on one connection; 0: no limit of ours */
	uint32_t piece_max;      /* bytes: a body up to this is sent in one piece, with its envelope
				  * where that is safe; of a larger one, this is the last piece */
};

/* What EHLO offered. */
struct sender_offer {
	bool esmtp; /* EHLO or LHLO was accepted */
	bool pipelining;
	bool chunking;
	bool size;
	bool eight_bit_mime;
	bool smtputf8;
	bool dsn;
	bool starttls;
	bool require_tls;
	uint8_t auth;           /* SASL_BIT of each that we know */
	uint64_t size_max;      /* bytes; 0: none stated */
	uint32_t recipient_max; /* RFC 9422; 0: none stated */
	uint32_t mail_max;
	uint32_t recipient_domain_max;
};

enum sender_action_kind {
	SENDER_NEED_INPUT, /* nothing to do until the peer speaks (or the body is sent) */
	SENDER_WAIT,       /* one of the calls below is owed */
	SENDER_START_TLS,  /* begin the handshake; sender_secured() */
	SENDER_ASK_AUTH,   /* what does `auth` get? sender_auth_answer(), sender_auth_failed() */
	SENDER_READY,      /* the session is up: offer is known. Once a connection. */
	SENDER_WRITE,      /* send `text` */
	SENDER_SEND_BODY,  /* send `piece` of the message of `transaction` */
	SENDER_BEFORE_END, /* may `transaction` be completed? sender_answer() */
	SENDER_RECIPIENT_OUTCOME,
	SENDER_DONE,  /* `transaction` is over and the caller's again */
	SENDER_CLOSE, /* the last: close the connection for `close` */
};

struct sender_piece {
	uint64_t offset;
	uint64_t size;
	bool stuffed;
	bool last;
};

struct sender_outcome {
	uint32_t index; /* of the recipient */
	enum sender_class class;
	enum sender_next next;
	enum sender_cause cause;
	enum sender_phase phase; /* what was being done or awaited */
	bool in_doubt;           /* the end of data was sent and its reply is missing: the mail may
				  * have been delivered */
	const struct reply *reply; /* the peer's; NULL where the cause is ours */
};

/* Of the mechanism in use. */
struct sender_auth {
	enum sasl_mechanism mechanism;
	bool first;       /* the initial response is asked for; no challenge yet */
	bool over;        /* 235: the answer says only whether it may be believed */
	struct span data; /* the challenge, decoded; until the next step */
};

struct sender_action {
	enum sender_action_kind kind;
	const struct sender_transaction *transaction;
	struct span text;
	struct sender_piece piece;
	struct sender_outcome outcome;
	struct sender_auth auth;
	enum close_reason close;
	const struct reply *reply; /* CLOSE: the reply that led to it, or NULL */
	enum sender_cause cause;   /* CLOSE: what led to it, where it was no reply */
};

/* One transaction on its way: how far it was sent and how far it was answered. */
struct sender_flight {
	struct sender_transaction *transaction; /* NULL: the place is free */
	uint8_t sent;                           /* enum sent, in sender.c */
	uint8_t answered;                       /* enum answered, in sender.c */
	uint8_t cause;    /* of a verdict over all recipients not yet reported */
	uint8_t class;    /* of the verdict; SENDER_OK of none or of delivery */
	uint8_t next;     /* of the verdict */
	bool has_verdict; /* outcomes are being reported */

	bool in_doubt;          /* of the verdict */
	bool by_bdat;           /* BDAT instead of DATA */
	bool mail_accepted;     /* the peer has an open transaction */
	uint8_t phase;          /* of the verdict */
	uint32_t outstanding;   /* replies owed for what was sent: the distance of the cursors */
	uint32_t rcpt_sent;     /* next recipient to send */
	uint32_t rcpt_count;    /* RCPTs sent */
	uint32_t rcpt_answered; /* next recipient to be answered */
	uint32_t open;          /* recipients accepted and without outcome */
	uint32_t report_at;     /* next recipient to report */
};

struct sender {
	uint32_t magic;
	uint8_t state; /* enum state, in sender.c */
	uint8_t close; /* enum close_reason; NONE until it is to end */
	bool close_has_reply;
	uint8_t close_cause;   /* enum sender_cause */
	bool dirty;            /* the peer may hold a transaction: RSET before the next MAIL */
	bool secure;           /* TLS is under it */
	bool tls_refused;      /* STARTTLS was, and we go on without */
	uint8_t mechanism;     /* enum sasl_mechanism, while AUTH is under way */
	uint8_t auth_step;     /* enum auth_step, in sender_parts.h */
	struct span auth_data; /* the caller's answer, until it is written */
	const struct sender_options *options;
	struct buf *scratch;
	uint32_t mails; /* transactions begun with MAIL */
	struct sender_offer offer;
	struct sender_flight flights[2]; /* on its way, and ahead */
	struct reply reply;
};

/* `scratch` has at least SENDER_SCRATCH_MIN bytes. The peer is expected to greet. */
void sender_init(struct sender *s, const struct sender_options *options, struct buf *scratch);
size_t sender_step(struct sender *s, struct span in, struct sender_action *out);

bool sender_can_start(const struct sender *s);
/* At least one recipient. Lent until DONE. */
void sender_start(struct sender *s, struct sender_transaction *t);
/* All bytes of the latest SEND_BODY are with the kernel. */
void sender_body_sent(struct sender *s);
/* The answer to BEFORE_END. false: nothing more of this mail may be sent; its recipients are
 * reported with SENDER_CAUSE_LEASE and the connection closes. */
void sender_answer(struct sender *s, bool go);
/* TLS (RFC 3207): where it is wanted and offered, START_TLS comes behind the 220. The caller begins
 * the handshake (conn_secure), and calls sender_secured() when it is done; the dialogue begins anew
 * with EHLO, and what was offered before is forgotten. Input from the 220 to sender_secured() is
 * dropped: it was not protected, and would be taken for the peer's word behind the handshake. With
 * implicit TLS, sender_secured() comes before the first step. A handshake that fails is
 * sender_lost() with CLOSE_TLS_FAILED. */
void sender_secured(struct sender *s);
/* AUTH (RFC 4954): the machine carries what the mechanism says, and does not know what it means.
 * ASK_AUTH names the mechanism, at first without data, then with each challenge, and when the peer
 * is content (`over`). It is only done under TLS. The answer, before its encoding, is lent until
 * the next step has returned; to `first`, an empty one means that there is no initial response. */
void sender_auth_answer(struct sender *s, struct span data);
/* The mechanism cannot go on, or the peer has not proved who it is. */
void sender_auth_failed(struct sender *s);
/* Says QUIT without waiting for the reply, when all transactions are over; none can be started. */
void sender_quit(struct sender *s, enum close_reason why);
/* The connection is gone: RESET, PEER_CLOSED, TIMEOUT, or we give it up (SHUTDOWN, …). The outcomes
 * that are still owed come out of the next steps, then CLOSE. */
void sender_lost(struct sender *s, enum close_reason why);

/* What is awaited, for the deadline: start it anew when the phase changes or bytes move. */
enum sender_phase sender_phase(const struct sender *s);
/* Of RFC 5321 4.5.3.2. */
uint32_t sender_phase_timeout_s(enum sender_phase p);
/* Is it up, with no transaction on its way? */
bool sender_is_idle(const struct sender *s);

const char *sender_phase_label(enum sender_phase p);
const char *sender_cause_label(enum sender_cause c);
const char *sender_cause_text(enum sender_cause c);
/* "451 4.4.2 the connection was lost": the reply, or the row of the cause. */
bool sender_outcome_show(const struct sender_outcome *o, struct buf *out);
/* The status of RFC 3463 that fits the class: the peer's where it is of the class, else X.0.0, or
 * the row's. */
struct reply_status sender_outcome_status(const struct sender_outcome *o);

#endif
