/* SPDX-License-Identifier: Apache-2.0
 *
 * mail: what the relay knows of a mail: its id, its envelope (RFC 5321 2.3.1, RFC 3461), its body.
 *
 * These are plain shapes without behaviour, shared by the queue and what stands on it. Spans in an
 * envelope point into memory of whoever made it: the session's arena until the put is done, the
 * queue's memory while an item is claimed. Nobody changes an envelope that was given out, but for
 * the fields state, notified, attempts, retry_at_ms and reply of recipients whose item is not
 * claimed. Times are wall clock milliseconds since 1970 UTC, since they outlive the process.
 */
#ifndef QUEUE_MAIL_H
#define QUEUE_MAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/span.h"

/* 128 random bits; never reused. */
struct mail_id {
	uint64_t high;
	uint64_t low;
};

static inline bool
mail_id_eq(struct mail_id a, struct mail_id b)
{
	return a.high == b.high && a.low == b.low;
}

/* Where a recipient's mail goes: the number of a destination in the table of the worker that keeps
 * the mail; 0: nowhere yet. It is given by the flow at put and at recovery, and is not stored. */
struct site_id {
	uint32_t number;
};

enum recipient_state {
	RECIPIENT_PENDING,   /* to be delivered, now or at retry_at_ms */
	RECIPIENT_DELIVERED, /* accepted by the next hop */
	RECIPIENT_DISCARDED, /* thrown away by a rule */
	RECIPIENT_FAILED,    /* for good; whoever is to be told is told by a mail that is kept */
	RECIPIENT_REMOVED,   /* by a named operator */
};

/* NOTIFY of RFC 3461 4.1; none set: not given. */
enum { NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 };
enum mail_ret { RET_NONE, RET_FULL, RET_HEADERS };

enum mail_flags {
	MAIL_EIGHT_BIT = 1 << 0, /* the body has bytes above 127 */
	MAIL_UTF8 = 1 << 1,      /* SMTPUTF8 was asked for (RFC 6531) */
	MAIL_DOT_LINES = 1 << 2, /* some line starts with a dot: DATA needs stuffing */
	/* RFC 8689; at most one of the two. */
	MAIL_TLS_REQUIRED = 1 << 3, /* REQUIRETLS was given */
	MAIL_TLS_OPTIONAL = 1 << 4, /* its header says "TLS-Required: No" */
};

struct mail_recipient {
	struct span address;
	struct span orcpt; /* as sent, still in xtext; empty: not given */
	uint8_t notify;    /* NOTIFY_… */
	uint8_t state;     /* enum recipient_state */
	bool notified;     /* the sender was told that it is delayed */
	uint16_t attempts; /* that ended in a temporary failure */
	struct site_id site;
	uint64_t retry_at_ms; /* of a pending one; 0: at once */
	struct span reply;    /* the last reply or reason, for people; at most 512 bytes are kept */
};

struct mail_envelope {
	struct mail_id id;
	uint64_t accepted_at_ms;
	uint64_t body_size; /* bytes with our trace fields; known from the put on */
	uint32_t flags;     /* enum mail_flags */
	uint8_t ret;        /* enum mail_ret */
	struct span sender; /* without angle brackets; empty: the null sender */
	struct span envid;  /* as sent, still in xtext */
	struct span client; /* IP of who submitted it, for the log */
	uint32_t recipient_count;
	struct mail_recipient *recipients;
};

#endif
