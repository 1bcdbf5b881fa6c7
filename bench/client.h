/* SPDX-License-Identifier: Apache-2.0
 *
 * client: the loading side of one SMTP connection as a machine: replies in, commands out. PURE.
 *
 * Much less than relay/smtp/sender.h, and cheaper: it knows before it begins what it will say. Two
 * ways of speaking:
 * - lockstep: each command waits for its reply.
 * - pipelined: MAIL, RCPT, DATA (or BDAT and the message) of a mail leave as one group, and the
 *   group of the next mail goes out behind the end of the present one without waiting for the reply
 *   to it. So one mail is ahead, never more, and by DATA a mail costs one round trip. A peer that
 *   does not offer PIPELINING is spoken to in lockstep.
 *
 * Two more ways send no mail, to load what comes before one; the "mail" that is offered is then
 * - login: an AUTH, on a connection of its own, over when it is answered, by yes or no;
 * - connect: the connection itself, over with the reply to QUIT.
 *
 * With STARTTLS (options.starttls) the client asks for START_TLS once, behind the server's 220;
 * client_secured() goes on. Over implicit TLS it need not know.
 *
 * client_step() consumes a prefix of the peer's bytes and emits one action; call it until it says
 * NEED_INPUT. NEED_MAIL is NEED_INPUT with a place for another mail: give one with client_offer(),
 * then or later, or say client_quit(). A mail is lent until its OUTCOME; two may be lent at a time.
 * Text of WRITE lives until the next step; SEND_BODY means the message behind all text so far. What
 * comes out does not depend on how lines were cut; what a peer says without having been asked ends
 * the connection, or is taken for the reply to what was said meanwhile.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "relay/smtp/reply.h"

enum { CLIENT_ADDRESS_MAX = 256, CLIENT_LOGIN_MAX = 512 };

enum client_mode { CLIENT_PIPELINED, CLIENT_LOCKSTEP, CLIENT_LOGIN, CLIENT_CONNECT };

struct client_options {
	enum client_mode mode;
	struct span hello;  /* the name for EHLO */
	struct span sender; /* of all mails that have none of their own; without brackets */
	struct span login;  /* the answer of AUTH PLAIN, in base64; empty: no AUTH */
	bool starttls;
	bool bdat;          /* the peer must offer CHUNKING */
	bool lmtp;          /* LHLO, and a reply a recipient at the end */
	uint64_t mails_max; /* on one connection; 0: no limit */
};

struct client_mail {
	uint64_t size;      /* bytes of the message, before dot-stuffing */
	struct span sender; /* or empty; at most CLIENT_ADDRESS_MAX */
	uint32_t recipient_count;
	/* Appends the address of recipient i, without brackets; at most CLIENT_ADDRESS_MAX. */
	bool (*show_recipient)(const struct client_mail *m, uint32_t i, struct buf *out);
	bool *rejected; /* by recipient, zeroed; set where it was refused */
};

enum client_event {
	CLIENT_NEED_INPUT,
	CLIENT_NEED_MAIL,
	CLIENT_WRITE,     /* send `text` */
	CLIENT_START_TLS, /* the handshake begins; client_secured() is owed */
	CLIENT_SEND_BODY, /* send the message of `mail`: by DATA stuffed and with its end */
	CLIENT_OUTCOME,   /* `mail` is over */
	CLIENT_CLOSE,     /* the last */
};

enum client_fate {
	CLIENT_ACCEPTED, /* by 250 to the end of data, 235 to AUTH, 221 to QUIT */
	CLIENT_REFUSED,  /* by another reply, or the connection ended before the end of data */
	/* The end of data was sent, the reply did not come. By LMTP, where some recipients have
	 * theirs and one of them is good, the mail is accepted, and those without are rejected. */
	CLIENT_IN_DOUBT,
};

struct client_action {
	enum client_event event;
	struct span text;
	struct client_mail *mail;
	enum client_fate fate;
	const struct reply *reply; /* OUTCOME, CLOSE: what decided it; NULL: none, or all is well */
	const char *why;           /* CLOSE: what was wrong; NULL: it ends in peace */
};

/* A mail on its way: what is to be sent of it next, and which reply is next. */
struct client_flight {
	struct client_mail *mail; /* NULL: the place is free */
	uint8_t due;              /* enum due, in client.c */
	uint8_t awaits;           /* enum awaits, in client.c */
	bool refused;             /* MAIL was */
	bool body_sent;           /* with its end */
	uint32_t at;              /* recipient whose command or reply is next */
	uint32_t taken;           /* recipients accepted at RCPT */
	uint32_t kept;            /* recipients accepted at the end of data */
};

struct client {
	const struct client_options *options;
	struct buf *scratch;             /* for text; empty between steps */
	struct client_flight flights[2]; /* [0] is answered first */
	struct reply reply;
	uint8_t state;   /* enum state, in client.c */
	bool chunking;   /* the peer offers it */
	bool pipelining; /* the peer offers it, and it was asked for */
	bool secure;     /* TLS is up, by STARTTLS */
	bool dirty;      /* the peer may hold a transaction: RSET before the next MAIL */
	bool quitting;   /* no mail will be offered any more */
	const char *why;
	const struct reply *lost_by; /* the reply that ended it; NULL: none did */
	uint64_t mails;              /* offered on this connection */
};

/* Bytes of scratch that mails with so many recipients need. */
size_t client_scratch_size(uint32_t recipients);
/* The peer is expected to greet. */
void client_init(struct client *c, const struct client_options *options, struct buf *scratch);
size_t client_step(struct client *c, struct span in, struct client_action *out);
/* After START_TLS: the handshake has ended well. */
void client_secured(struct client *c);
/* After NEED_MAIL, once. */
void client_offer(struct client *c, struct client_mail *m);
/* No more mails: QUIT once all are over. */
void client_quit(struct client *c);
/* The connection is gone, for this reason: the next steps give the outcomes that are owed, then
 * CLOSE. */
void client_lost(struct client *c, const char *why);

#endif
