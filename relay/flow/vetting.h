/* SPDX-License-Identifier: Apache-2.0
 *
 * vetting: may this client send in the name of this sender, and who is it? SPF (dns/spf_check.h)
 * and the client's name (dns/iprev.h) for one mail, what follows from them by the options of the
 * listener, and what is written of them into the header.
 *
 * Part of a transaction. It begins at MAIL or at the first RCPT, as the options say; meanwhile the
 * session waits for on_done, and what its client has pipelined behind waits too; where all answers
 * are at hand (most of the time) nothing waits. All questions
 * together have the deadline of the options; what is not known then is a temperror. Once SPF is
 * done the client's name has two seconds more. Sessions whose mail is ours to send are not asked
 * about (vetting_is_wanted).
 *
 * HELO is checked where the sender is null, and by option ahead of each sender. Then it ends the
 * vetting where it is a fail that is refused or deferred; else the sender's own result counts.
 */
#ifndef RELAY_FLOW_VETTING_H
#define RELAY_FLOW_VETTING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "core/config.h"
#include "core/timer.h"
#include "dns/iprev.h"
#include "dns/spf_check.h"
#include "relay/smtp/replies.h"

struct session;
struct transaction;

enum {
	VETTING_FIELDS_MAX = 16 * 1024, /* room that is always enough for vetting_write() */
	VETTING_TEXT_MAX = 128,
};

/* What SPF said of one identity, in the transaction's memory. */
struct vetted {
	bool is_known;
	enum spf_result result;
	enum config_spf_action action;
	struct span domain;
	struct span mechanism;        /* that matched, or empty */
	struct span mechanism_domain; /* whose record has it */
	struct span problem;          /* or empty */
};

enum vetting_state {
	VETTING_OFF,  /* not wanted */
	VETTING_DUE,  /* wanted, and not begun */
	VETTING_OPEN, /* waits for answers */
	VETTING_DONE,
};

/* Embedded in the transaction. */
struct vetting {
	uint8_t state;    /* enum vetting_state */
	bool spf_is_open; /* one of these two, while OPEN */
	bool iprev_is_open;
	bool is_answered; /* MAIL was refused: the transaction goes when that is said */
	struct transaction *transaction;
	struct spf_check spf;
	struct iprev iprev;
	struct timer deadline;
	uint64_t started_us;     /* monotonic: the check that is under way */
	struct vetted of[2];     /* by enum spf_identity */
	struct span client_name; /* that leads back to its address; empty: it has none */
	bool iprev_is_known;
	enum iprev_result iprev_result;
	enum reply_row row; /* what it comes to: REPLY_NONE, or why the mail is not taken */
	struct span more;   /* in the domain's own words, in the transaction's memory */
	uint8_t text_size;
	uint8_t text[VETTING_TEXT_MAX];
	void (*on_done)(struct transaction *t);
};

/* Is the client one of those whom the listener asks about? */
bool vetting_is_wanted(const struct session *s);
/* Begins what is DUE. True: it is done already; else on_done comes, never inside the call. */
bool vetting_start(struct transaction *t, void (*on_done)(struct transaction *t));
/* on_done will not come any more. */
void vetting_cancel(struct transaction *t);
/* Whose check it is that `v` says, for events: HELO where the sender's own was not made. */
const struct vetted *vetting_of(const struct transaction *t);
/* Appends the fields of the header that tell of it: Authentication-Results, and by option
 * Received-SPF. Nothing where nothing is to be told. */
void vetting_write(const struct transaction *t, struct buf *out);

#endif
