/* SPDX-License-Identifier: Apache-2.0
 *
 * receiver: the server side of SMTP (RFC 5321) as a pure machine, bytes in, actions out.
 *
 * PURE: no descriptor, no clock, no memory of its own. It keeps the state of the dialogue, counts
 * and limits; the envelope and the message are the caller's (relay/flow), and so is policy: the
 * caller answers questions. It offers TLS and authentication, and knows nothing of either: bytes of
 * TLS never come here, and what is in a line of a SASL exchange is the caller's business.
 *
 * The loop: give receiver_step() all bytes that are held, act on its one action, then drop the
 * bytes that it consumed (it may be none). Spans of an action point into `in`, into the action or
 * into static memory: they are good until the input is dropped or the action is reused. What was
 * not consumed is given again with more behind it; less than line_max bytes stay unconsumed at
 * NEED_INPUT, so an input buffer of line_max bytes suffices, and of RECEIVER_SASL_LINE_MAX where
 * authentication is offered. What comes out does not depend on how the bytes were cut.
 *
 * Order: first what is due to be sent, then an open question (WAIT), and only then input. So
 * replies leave in the order of the commands. A question is open from its ASK_ action until
 * receiver_answer(), which may be called at once or much later.
 *
 * TLS (RFC 3207). After START_TLS the caller drops what it holds and begins the handshake, and
 * calls receiver_secured() behind it: the dialogue starts anew without a banner. Where TLS comes
 * first (implicit), it calls that before the first step.
 *
 * AUTH (RFC 4954). ASK_AUTH and then ASK_AUTH_DATA bring what the client says, decoded; answers are
 * rows AUTH_CONTINUE (with a challenge), AUTH_OK, AUTH_FAILED, AUTH_UNAVAILABLE, BAD_BASE64. The
 * exchange lives with the caller until it has answered with another row than AUTH_CONTINUE, or
 * until CANCEL_AUTH. It is offered behind TLS only: no password is asked for in plain text.
 *
 * Early input. HELO, EHLO, DATA, STARTTLS, AUTH and its lines, VRFY, NOOP and what is not
 * implemented must be last in a pipelined group (RFC 2920 3.1), and a client must wait for the
 * banner. What has arrived only the caller
 * knows, who says with its answer whether it holds bytes behind those that the question consumed.
 * If so, 554 5.5.0 is sent and the session closes: bytes behind DATA that came before the 354 are
 * how one mail is smuggled inside another. So the result follows from input and answers, never from
 * the cutting. QUIT is not asked about: what follows it is dropped.
 */
#ifndef RELAY_SMTP_RECEIVER_H
#define RELAY_SMTP_RECEIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/close.h"
#include "core/base/span.h"
#include "relay/smtp/address.h"
#include "relay/smtp/body_in.h"
#include "relay/smtp/params.h"
#include "relay/smtp/replies.h"
#include "relay/smtp/sasl.h"

enum {
	RECEIVER_TEXT_MAX = 128,       /* bytes kept of an answer's text; the rest is cut off */
	RECEIVER_REPLY_MAX = 1400,     /* bytes of the longest reply, a challenge */
	RECEIVER_CHALLENGE_MAX = 1024, /* bytes of an answer's challenge */
	RECEIVER_MORE_MAX = 1000,      /* bytes of an answer's further lines; the rest is cut off */
	/* Bytes of the longest line of a SASL exchange with its CRLF (RFC 4954 4), and of what
	 * stands in it. */
	RECEIVER_SASL_LINE_MAX = 12288,
	RECEIVER_SASL_DATA_MAX = RECEIVER_SASL_LINE_MAX / 4 * 3,
	RECEIVER_LINE_FLOOD = 65536, /* bytes of a too long line that are dropped before CLOSE */
};

/* What one listener offers; must outlive every receiver that was given it. */
struct receiver_options {
	struct span hostname;    /* ours, 1 to 255 bytes */
	uint64_t size_max;       /* bytes of a message, advertised with SIZE; at least 1 */
	uint64_t discard_max;    /* bytes of a refused body that are dropped before CLOSE */
	uint32_t recipients_max; /* of one mail, advertised as RCPTMAX; at least 1 */
	uint32_t mails_max;      /* MAIL commands of a session, as MAILMAX; 0 is no limit */
	uint32_t line_max;       /* bytes of a command line with its CRLF; 512 to 16384 */
	/* 5xx replies, policy's too, and commands that send no mail (HELO EHLO RSET NOOP VRFY
	 * HELP), each counted anew behind a mail that was queued; at the limit 421 and CLOSE. At
	 * least 1. */
	uint32_t errors_max;
	uint32_t junk_max;
	/* REJECT: a bare CR, bare LF or NUL refuses the message or the command line it is in.
	 * NORMALIZE: in a message a bare CR or LF becomes CRLF, and a command line may end in a
	 * bare LF. Only CRLF.CRLF ends a message in either mode (body_in.h). */
	enum body_in_newlines bare_newline;
	bool starttls; /* offered until there is TLS */
	/* Mechanisms that are offered behind TLS: SASL_BITs; 0: AUTH is not known. EXTERNAL only
	 * where receiver_secured() said that a certificate tells who the client is. */
	uint8_t auth;
	bool auth_required; /* MAIL is refused before AUTH (RFC 6409 4.3) */
	bool require_tls;   /* REQUIRETLS is offered behind TLS (RFC 8689) */
};

enum receiver_action_kind {
	RECEIVER_NONE, /* never leaves receiver_step() */
	RECEIVER_NEED_INPUT,
	RECEIVER_WAIT,
	RECEIVER_REPLY, /* data: bytes to send; code */
	/* The first action of all. Yes sends the banner, a row >= 400 is sent and closes. */
	RECEIVER_ASK_GREETING,
	RECEIVER_ASK_HELO, /* name, ehlo; a transaction before it was ended with ABORT */
	RECEIVER_ASK_MAIL, /* path, mail: an envelope begins */
	RECEIVER_ASK_RCPT, /* path, rcpt: one recipient more */
	/* A body is to follow, by DATA or the first BDAT (chunked): the caller makes a draft. If it
	 * refuses, the envelope stays for DATA and is aborted for BDAT (RFC 3030 2). */
	RECEIVER_ASK_DATA,
	RECEIVER_ASK_SYNC,      /* nothing to decide: only input_waiting is asked */
	RECEIVER_ASK_STARTTLS,  /* is TLS to be had? */
	RECEIVER_ASK_AUTH,      /* mechanism, has_data, data: an exchange begins */
	RECEIVER_ASK_AUTH_DATA, /* data: the client's answer to the challenge, may be empty */
	/* data: bytes of the message, at least one, without dot-stuffing, for DATA and BDAT alike.
	 * 8-bit bytes are taken as they are, whatever BODY= said. A message from BDAT without a
	 * final CRLF is given one, beyond size_max if it must be. */
	RECEIVER_BODY,
	/* size: the body is complete. Yes means that it is durable. The transaction is over then,
	 * whatever the answer. */
	RECEIVER_ASK_COMMIT,
	/* The transaction is over without a commit: drop the envelope and the draft, where they
	 * still exist. RSET, EHLO, or a bad body as soon as it is known to be bad: the rest is read
	 * and dropped, and its reply leaves behind its true end. */
	RECEIVER_ABORT,
	/* The exchange is over without an answer: drop it. */
	RECEIVER_CANCEL_AUTH,
	/* Send what is queued, drop all input that is held, begin the handshake. Until
	 * receiver_secured() it says WAIT. */
	RECEIVER_START_TLS,
	/* reason: send what is queued, then close. Implies ABORT and CANCEL_AUTH. */
	RECEIVER_CLOSE,
	RECEIVER_ACTION_COUNT
};

struct receiver_action {
	enum receiver_action_kind kind;
	enum close_reason reason;
	unsigned code;      /* REPLY: its code, for counters */
	enum reply_row row; /* REPLY: likewise */
	bool ehlo;          /* ASK_HELO: EHLO, not HELO */
	bool chunked;       /* ASK_DATA: BDAT, not DATA */
	uint64_t size; /* ASK_COMMIT: bytes of the message; ASK_DATA: of the first chunk, or 0 */
	struct span
		data; /* REPLY, BODY, ASK_AUTH, ASK_AUTH_DATA: secrets are wiped by the caller */
	enum sasl_mechanism mechanism; /* ASK_AUTH */
	bool has_data; /* ASK_AUTH: the client has sent `data`, if only nothing, with the command */
	struct span name;        /* ASK_HELO: the argument as given: 1 to 255 printable bytes */
	struct address path;     /* ASK_MAIL, ASK_RCPT */
	struct mail_params mail; /* ASK_MAIL */
	struct rcpt_params rcpt; /* ASK_RCPT */
	/* Behind `data` of rendered replies and of ASK_AUTH...; not to be copied. */
	uint8_t memory[RECEIVER_SASL_DATA_MAX];
};

/* Yes is `{ .row = REPLY_NONE }`: the usual reply. Any other row is sent as it is; its class says
 * yes (2xx) or no (4xx, 5xx), and a 421 also closes, with `reason`. */
struct receiver_answer {
	enum reply_row row;
	enum close_reason reason; /* for a row that closes; CLOSE_NONE means CLOSE_REFUSED */
	struct span text;         /* in place of the row's text, copied; empty means the row's */
	/* Text behind it, on lines of their own, where `text` is given and the row does not close.
	 * Not copied: it stays until the REPLY has come. */
	struct span more;
	/* Of AUTH_CONTINUE, not encoded; not copied: it stays until the REPLY has come. */
	struct span challenge;
	bool input_waiting; /* bytes behind those consumed are held at this moment */
};

/* What the session is waiting for, to choose a timeout (RFC 5321 4.5.3.2). */
enum receiver_phase {
	RECEIVER_PHASE_OURS,      /* for an answer or to be stepped: no timeout of the client's */
	RECEIVER_PHASE_COMMAND,   /* for a command: 5 minutes */
	RECEIVER_PHASE_DATA,      /* for bytes of a message: 3 minutes, for each piece anew */
	RECEIVER_PHASE_HANDSHAKE, /* for TLS */
	RECEIVER_PHASE_CLOSED,
};

/* What the client has said so far. Which verb is legal where is a column of the verb table. */
enum receiver_state {
	RECEIVER_START,   /* until the greeting is answered */
	RECEIVER_EARLY,   /* the client spoke before it: the next byte says of what kind it is */
	RECEIVER_GREETED, /* banner sent, no HELO */
	RECEIVER_READY,   /* HELO or EHLO accepted, no transaction */
	RECEIVER_MAIL,    /* MAIL accepted, no recipient */
	RECEIVER_RCPT,    /* at least one recipient accepted */
	RECEIVER_CHUNKS,  /* between two BDATs of one message */
	RECEIVER_DATA,    /* in a body, up to CRLF.CRLF */
	RECEIVER_CHUNK,   /* in a chunk, chunk_left bytes to come */
	RECEIVER_LINE,    /* in a line that is too long, up to its LF */
	RECEIVER_AUTH,    /* AUTH accepted: lines of the exchange */
	RECEIVER_TLS,     /* STARTTLS accepted, up to receiver_secured() */
	RECEIVER_CLOSED,
	RECEIVER_STATE_COUNT
};

/* Embedded by value; the members are receiver's own. */
struct receiver {
	uint32_t magic;
	uint8_t state;    /* enum receiver_state */
	uint8_t resume;   /* state behind a line or a chunk that is dropped: GREETED ... CHUNKS */
	uint8_t question; /* enum receiver_action_kind, NONE where none is open */
	uint8_t due;      /* what is to be emitted before anything else: bits of enum due */
	uint8_t held;     /* of due, while ASK_SYNC is open */
	uint8_t row;      /* enum reply_row: the reply due; with a question open, its yes */
	uint8_t farewell; /* enum reply_row: a 421 that is due behind it */
	uint8_t refusal; /* enum reply_row: why this body is being dropped, NONE where it is kept */
	uint8_t reason;  /* enum close_reason: of the CLOSE that is due */
	uint8_t text_size; /* an answer's text for the reply due; 0 for none */
	bool helo;         /* HELO or EHLO was accepted in this session */
	bool smtputf8;     /* asked for in this transaction */
	bool last;         /* the chunk is the last one */
	bool secure;       /* behind TLS */
	bool external;     /* the client's certificate says who it is */
	bool authenticated;
	uint8_t withheld; /* SASL_BITs of the options' mechanisms that are not offered */
	struct body_in body;
	uint32_t recipients;
	uint32_t recipients_refused;
	uint32_t mails;
	uint32_t errors;
	uint32_t junk;
	uint32_t commands;
	uint64_t size;       /* bytes of the message so far */
	uint64_t dropped;    /* bytes of a refused body, or of a too long line, dropped so far */
	uint64_t chunk_left; /* bytes of the chunk that are still to come */
	const struct receiver_options *options;
	struct span lent; /* the caller's, for the reply due: the challenge, or more text */
	uint8_t text[RECEIVER_TEXT_MAX];
};

void receiver_init(struct receiver *r, const struct receiver_options *options);
void receiver_fini(struct receiver *r);
/* What comes from now on comes through TLS: behind START_TLS, or before the first step. external:
 * the client has shown a certificate that maps to a user. */
void receiver_secured(struct receiver *r, bool external);
/* These mechanisms of the options are not to be had in this session: SASL_BITs. */
void receiver_withhold(struct receiver *r, unsigned mechanisms);

/* Consumes a prefix of `in`, emits exactly one action, and says how much it consumed. After CLOSE
 * it says CLOSE again. */
size_t receiver_step(struct receiver *r, struct span in, struct receiver_action *out);
/* Answers the open question; there must be one. */
void receiver_answer(struct receiver *r, const struct receiver_answer *answer);
/* The caller could not keep bytes of this body: ABORT is due, the rest is dropped, and `row` (4xx
 * or 5xx) is sent at its end. From BODY until ASK_COMMIT; the first refusal stays. */
void receiver_refuse_body(struct receiver *r, enum reply_row row);
/* Ends the session from outside (timeout, shutdown, memory): `row`, a 421, and CLOSE are due. An
 * open question is forgotten; where it is ASK_COMMIT the caller must know what it does. */
void receiver_end(struct receiver *r, enum reply_row row, enum close_reason reason);

enum receiver_phase receiver_phase(const struct receiver *r);
/* No transaction and nothing due: a session that a shutdown may end without harm. */
bool receiver_is_idle(const struct receiver *r);
/* Debug text with state names, one line, for dumps. */
void receiver_show(const struct receiver *r, struct buf *out);

#endif
