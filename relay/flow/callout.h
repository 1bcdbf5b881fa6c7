/* SPDX-License-Identifier: Apache-2.0
 *
 * callout: asks the next hop of a domain of ours whether a recipient exists, before the client gets
 * its reply to RCPT.
 *
 * One worker's. Each target of a route has a line: the questions that wait, one connection with a
 * probe (relay/smtp/probe.h) that asks several of them at a time and is kept for a while, and the
 * hosts of the target, tried one after the other. Answers are kept: yes and no for as long as the
 * options say, in a table of bounded size from which the least recently used goes first. That
 * nothing was learnt is not kept; but a target none of whose hosts could be asked is left alone
 * for CALLOUT_PAUSE_MS.
 *
 * The connection is protected as one for mail on the same route (protection.h), AUTH included. A
 * host that cannot be asked in that way is not asked: the question fails. Where TLS may be left
 * out, one whose handshake fails is asked in plain text, for a while (delivery.tls_broken_for).
 *
 * A question that is asked already is joined. Every question ends within the deadline of the
 * options. Who asked and goes away forgets his waiter; the question goes on for the next one.
 * on_answer runs never inside callout_ask, and must not ask.
 */
#ifndef RELAY_FLOW_CALLOUT_H
#define RELAY_FLOW_CALLOUT_H

#include "core/conn.h"
#include "dns/mx.h"
#include "relay/flow/plan.h"
#include "relay/flow/routing.h"
#include "relay/smtp/address.h"
#include "relay/smtp/probe.h"

struct flow;

enum {
	CALLOUT_TEXT_MAX = 128, /* bytes of a reason */
	CALLOUT_PAUSE_MS = 5000,
	CALLOUT_CONNS_MAX = 1024, /* of a worker, those that are closing included */
	CALLOUT_BUCKETS = 8192,
	CALLOUT_TRIES_MAX = 4, /* of one question */
};

enum callout_answer {
	CALLOUT_KNOWN,
	CALLOUT_UNKNOWN,
	CALLOUT_FAILED,  /* nothing was learnt */
	CALLOUT_PENDING, /* on_answer comes */
};

/* Embedded in who asks, zeroed but for on_answer. */
struct callout_waiter {
	struct list_node link;
	void (*on_answer)(struct callout_waiter *w, enum callout_answer answer, struct span why);
};

/* One recipient that was asked for; callout.c's. */
struct callout_entry {
	struct callout_entry *next; /* in its bucket */
	struct list_node link; /* line->waiting, line->asked, or of the answers by their last use */
	struct list waiters;
	struct callout_line *line;
	struct probe_question question; /* its address is the key */
	uint64_t hash;
	uint64_t until_ms; /* while it is open: its deadline; else how long its answer counts */
	bool open;
	uint8_t answer; /* enum callout_answer */
	uint8_t tries;
	uint8_t why_size;
	uint8_t why[CALLOUT_TEXT_MAX];
	uint8_t address[];
};

/* One target; callout.c's. */
struct callout_line {
	struct list_node link; /* of callouts.lines */
	struct flow *flow;
	struct routing *routing; /* to which `target` and `way` belong */
	const struct config_target *target;
	const struct routing_way *way;
	struct callout_conn *conn; /* NULL: none */
	struct list waiting;       /* struct callout_entry, the oldest first */
	struct list asked;         /* likewise */
	size_t entries;            /* all that name it */
	struct plan *plan;
	uint64_t plan_until_ms;
	struct mx_lookup lookup;
	struct mx_hosts **answers; /* while it is looking: by host of the target */
	size_t looking_for;
	bool looking;
	unsigned host;        /* of the plan, to try next */
	unsigned hosts_tried; /* in vain, since one was up */
	/* Whose handshakes fail, and may be asked in plain text: of the plan's hosts. */
	uint32_t tls_broken;
	uint64_t tls_broken_until_ms;
	uint64_t pause_until_ms;
	struct task pump;
	struct timer deadline;
	uint8_t why_size; /* why it is paused */
	uint8_t why[CALLOUT_TEXT_MAX];
};

struct callouts {
	struct callout_entry *buckets[CALLOUT_BUCKETS];
	struct list lines;
	struct list answers; /* struct callout_entry, the least recently used first */
	size_t answer_count;
	size_t open_count;
	size_t looking_count;
	size_t conn_count;
	struct pool conns;
};

void callouts_init(struct flow *f);
/* No connection may be left. */
void callouts_fini(struct flow *f);

/* Does the next hop have it? `why` is a text for people behind any answer but KNOWN, good until the
 * next call. `r` leads the domain to a target with hosts of its own. */
enum callout_answer callout_ask(struct flow *f, struct routing *r, const struct address *a,
				struct callout_waiter *w, struct span *why);
/* on_answer will not come any more. Also allowed when it is not expected. */
void callout_forget(struct callout_waiter *w);

/* For a drain: connections that are idle end now, the others when they are. */
void callouts_drain(struct flow *f);
/* Ends all at once; questions that are open fail. */
void callouts_stop(struct flow *f);
bool callouts_are_quiet(const struct flow *f);
/* Is it one of ours? */
bool callout_owns(const struct conn *c);

#endif
