/* SPDX-License-Identifier: Apache-2.0
 *
 * dovecot_link: a worker's connection to Dovecot's auth service, over which passwords are checked
 * (relay/smtp/dovecot.h). It is opened when the first question comes, and kept. Questions go out at
 * once and are answered in any order; each is answered, by Dovecot or, where that does not come in
 * time or cannot be reached, with DOVECOT_UNAVAILABLE, never within dovecot_ask(). Where it cannot
 * be reached it is not tried again for a moment.
 */
#ifndef RELAY_FLOW_DOVECOT_LINK_H
#define RELAY_FLOW_DOVECOT_LINK_H

#include "core/conn.h"
#include "relay/smtp/dovecot.h"

struct flow;

enum dovecot_answer {
	DOVECOT_FITS,     /* user: its name, as Dovecot has it */
	DOVECOT_WRONG,    /* no such user, or not the password */
	DOVECOT_DISABLED, /* who may not log in now */
	DOVECOT_UNAVAILABLE,
};

/* Embedded in who asks, whose name, password and address stay until the answer; list_unlink(&link)
 * gives it up. */
struct dovecot_question {
	struct list_node link;
	struct span name;
	struct span password;
	struct span address; /* the client's IP */
	void (*on_answer)(struct dovecot_question *q, enum dovecot_answer answer, struct span user);
	uint32_t number;
	uint64_t until_ms;
};

enum dovecot_state {
	DOVECOT_CLOSED,
	DOVECOT_CONNECTING,
	DOVECOT_GREETED, /* waits for DONE */
	DOVECOT_READY,
	DOVECOT_CLOSING,
};

struct dovecot_link {
	struct conn conn; /* first */
	struct flow *flow;
	struct net_address address;
	uint8_t state; /* enum dovecot_state */
	bool knows_plain;
	uint32_t last_number;
	uint64_t pause_until_ms;
	struct list waiting; /* struct dovecot_question.link, the oldest first */
	struct list asked;   /* likewise */
	struct timer patience;
};

void dovecot_init(struct dovecot_link *d, struct flow *f);
void dovecot_ask(struct dovecot_link *d, struct dovecot_question *q);
/* Nobody is left who could ask. */
void dovecot_stop(struct dovecot_link *d);
bool dovecot_is_quiet(const struct dovecot_link *d);
bool dovecot_owns(const struct conn *c);

#endif
