/* SPDX-License-Identifier: Apache-2.0
 *
 * dovecot_link: a worker's connection to Dovecot's auth service, over which passwords are checked
 * (relay/smtp/dovecot.h). It is opened at the start, or when somebody wants something of it, and
 * kept. Questions go out at once and are answered in any order; each is answered, by Dovecot or,
 * where that does not come in time or cannot be reached, with DOVECOT_UNAVAILABLE, never within
 * dovecot_ask() or dovecot_go_on(). Where it cannot be reached it is not tried again for a moment.
 *
 * A question with a message in place of a name and a password is an exchange: Dovecot may ask back,
 * then it is the asker's turn, for as long as that takes.
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

/* Embedded in who asks, whose spans stay until the answer, or until Dovecot asks back;
 * dovecot_forget() gives it up. */
struct dovecot_question {
	struct list_node link;
	struct span name;
	struct span password;
	struct span message; /* of SCRAM-SHA-256, the client's first; no data: it is a password */
	struct span address; /* the client's IP */
	void (*on_answer)(struct dovecot_question *q, enum dovecot_answer answer, struct span user);
	/* It asks back: dovecot_go_on() is next. */
	void (*on_challenge)(struct dovecot_question *q, struct span challenge);
	uint32_t number; /* 0: it is on no connection */
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
	uint8_t state;       /* enum dovecot_state */
	unsigned mechanisms; /* SASL_BITs; of the last connection */
	unsigned announced;  /* of the one that greets */
	uint32_t last_number;
	uint64_t pause_until_ms;
	struct list waiting; /* struct dovecot_question.link, the oldest first */
	struct list asked;   /* likewise */
	struct list held;    /* likewise: the askers' turn */
	struct timer patience;
};

void dovecot_init(struct dovecot_link *d, struct flow *f);
/* What it can do, as it said when it was last there: SASL_BITs. Connects, where it is not. */
unsigned dovecot_mechanisms(struct dovecot_link *d);
void dovecot_ask(struct dovecot_link *d, struct dovecot_question *q);
/* The answer to a challenge. */
void dovecot_go_on(struct dovecot_link *d, struct dovecot_question *q, struct span message);
/* Nobody waits for it; also for one that was never asked (zeroed). */
void dovecot_forget(struct dovecot_link *d, struct dovecot_question *q);
/* Nobody is left who could ask. */
void dovecot_stop(struct dovecot_link *d);
bool dovecot_is_quiet(const struct dovecot_link *d);

#endif
