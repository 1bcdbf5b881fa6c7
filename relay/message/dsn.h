/* SPDX-License-Identifier: Apache-2.0
 *
 * dsn: composes a delivery status notification: what became of a mail, for its sender.
 *
 * multipart/report (RFC 6522) of a text for people, a message/delivery-status (RFC 3464) with
 * Original-Recipient and Original-Envelope-Id (RFC 3461), and the original or its header. Where an
 * address is not ASCII, message/global-delivery-status, and of a SMTPUTF8 mail message/global or
 * message/global-headers (RFC 6533). Auto-Submitted (RFC 3834).
 *
 * Pure and streaming: dsn_next() appends piece by piece into a buffer that has DSN_PIECE_MAX bytes
 * of room; at DSN_ORIGINAL the caller passes `original_size` bytes of the original on to where the
 * pieces go, showing them to dsn_pass() on the way. Recipients are asked for one at a time, in
 * order, several times, so thousands of them cost no memory; the answers must not change. One
 * notice may hold several actions: each has its own paragraphs, from its own template; the subject
 * is that of the gravest.
 *
 * The boundary holds `token`, which nobody else can know: made at random after the mail had
 * arrived. If the original holds the boundary as a line all the same, dsn_pass() says so, and the
 * caller begins anew with another token. What others chose (addresses, replies) is made safe
 * (dsn_text.h). Our lines are at most 998 bytes; those of the original are what they are.
 */
#ifndef RELAY_MESSAGE_DSN_H
#define RELAY_MESSAGE_DSN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "relay/message/dsn_text.h"

enum { DSN_PIECE_MAX = 8192, DSN_TOKEN_MAX = 40, DSN_BOUNDARY_MAX = 64 };

/* From the gravest. */
enum dsn_action { DSN_FAILED, DSN_DELAYED, DSN_RELAYED, DSN_DELIVERED, DSN_ACTIONS };

/* What of the original is attached. */
enum dsn_part {
	DSN_PART_NONE,   /* it could not be read */
	DSN_PART_HEADER, /* its header section, without the empty line */
	DSN_PART_WHOLE,
};

struct dsn_recipient {
	enum dsn_action action;
	struct span address; /* as we had it in RCPT, without angle brackets */
	struct span orcpt;   /* as it was sent to us: "rfc822;xtext"; empty: not given */
	struct span reply;   /* "550 5.1.1 no such user"; several lines joined by LF */
	bool from_remote;    /* the reply is the remote server's, word for word */
	struct span remote;  /* that server: "mx.example.org", "[192.0.2.1]", or a socket's path */
	uint64_t attempt_ms; /* the last one; 0: none */
};

/* Everything is lent until the end. Times are wall clock milliseconds. */
struct dsn_notice {
	struct span hostname; /* ours */
	struct span from;     /* an address; empty: MAILER-DAEMON at our hostname */
	struct span id;       /* of the notice: its Message-ID's left side */
	struct span token;    /* at most DSN_TOKEN_MAX letters and digits */
	uint64_t now_ms;
	int offset_min; /* of local time to UTC, for dates */

	struct span original_id; /* in the queue */
	struct span sender;      /* of the original's envelope; the notice goes there */
	struct span envid;       /* in xtext, as it was sent to us; empty: not given */
	struct span message_id;  /* of its header, "<...>"; empty: not known */
	uint64_t arrived_ms;
	uint64_t retry_until_ms;
	enum dsn_part part;
	uint64_t original_size; /* bytes of it that will be passed on: of its header, or all */
	bool eight_bit;         /* there may be bytes above 127 in it */
	bool utf8;              /* it came with SMTPUTF8 */

	uint32_t recipient_count; /* at least one */
	void (*recipient)(const void *context, uint32_t index, struct dsn_recipient *out);
	const void *context;
	/* By action; NULL: those of dsn_built_in(). One without a subject is taken from there. */
	const struct dsn_template *templates;
};

enum dsn_event {
	DSN_MORE,     /* the buffer has no more room for a piece */
	DSN_ORIGINAL, /* pass the original on, then call dsn_next() again */
	DSN_DONE,
};

struct dsn {
	const struct dsn_notice *notice;
	uint8_t stage;       /* enum in dsn.c */
	uint8_t action;      /* whose paragraphs are being written */
	bool text_eight_bit; /* the text for people is not ASCII */
	bool global;         /* an address is not ASCII */
	bool in_list;        /* within ${recipients} */
	uint32_t counts[DSN_ACTIONS];
	uint32_t index;    /* next recipient */
	uint32_t listed;   /* blocks written in this list */
	size_t at;         /* in the body of the template */
	uint64_t passed;   /* bytes of the original */
	size_t matched;    /* of the boundary, on the line in hand; SIZE_MAX: it is another line */
	uint8_t last_byte; /* of the original */
	uint8_t boundary_size;
	char boundary[DSN_BOUNDARY_MAX];
};

void dsn_init(struct dsn *d, const struct dsn_notice *n);
enum dsn_event dsn_next(struct dsn *d, struct buf *out);
/* Looks at bytes of the original on their way. False: begin anew with another token. */
bool dsn_pass(struct dsn *d, struct span bytes);

/* Does it need 8BITMIME, does it need SMTPUTF8? Known from dsn_init on. */
bool dsn_is_eight_bit(const struct dsn *d);
bool dsn_is_utf8(const struct dsn *d);

/* "failed" */
const char *dsn_action_name(enum dsn_action a);
const struct dsn_template *dsn_built_in(enum dsn_action a);
/* By action: the texts of a report that stands for one that may not go as it is, for want of TLS
 * (RFC 8689 5). */
const struct dsn_template *dsn_withheld(void);
/* The status (RFC 3463) to report, appended: the reply's own, or what fits its code and the action.
 * A failed recipient whose last reply was temporary has run out of time: 4.4.7. */
void dsn_status(const struct dsn_recipient *r, struct buf *out);

#endif
