/* SPDX-License-Identifier: Apache-2.0
 *
 * drive_spool: what the parts of the store's driver share: how a mail of the oracle is offered, and
 * the notices that are put with outcomes.
 */
#ifndef TESTS_FAULT_DRIVE_SPOOL_H
#define TESTS_FAULT_DRIVE_SPOOL_H

#include "queue/queue.h"
#include "tests/fault/oracle.h"

/* An envelope with its texts. */
struct offer {
	struct mail_envelope envelope;
	struct mail_recipient recipients[ORACLE_RECIPIENTS_MAX];
	char texts[ORACLE_RECIPIENTS_MAX + 1][64];
};

void offer_fill(struct offer *o, const struct oracle_mail *m);

/* A mail that is kept with the outcomes of another one, or not at all. */
struct notice {
	struct queue_put put;
	struct oracle_mail *m;
	struct offer offer;
};

/* Of this mail, with its body in the draft; NULL where the store, or the oracle, has no room for
 * it. */
struct notice *notice_new(struct queue *q, struct mail_id about);

/* Asks for one mail and compares what is shown; *open counts those under way. */
void show_start(struct queue_store *store, const struct oracle_mail *m, unsigned *open);

#endif
