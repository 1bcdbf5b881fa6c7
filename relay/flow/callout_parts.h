/* SPDX-License-Identifier: Apache-2.0
 *
 * callout_parts: what callout.c (the table of questions and answers) and callout_line.c (the way to
 * the next hop) owe each other. Private to these two.
 */
#ifndef RELAY_FLOW_CALLOUT_PARTS_H
#define RELAY_FLOW_CALLOUT_PARTS_H

#include "relay/flow/callout.h"

/* A connection; `line` is NULL once it takes no more questions and waits for its end. */
struct callout_conn {
	struct conn conn; /* first */
	struct probe probe;
	struct probe_options options;
	struct flow *flow;
	struct routing *routing; /* lends the options their texts */
	struct callout_line *line;
	struct plan *plan;
	unsigned host; /* of the plan */
	bool was_up;   /* it has greeted and taken our name */
	bool failed;   /* a question could not be asked for its sake */
};

/* ---- callout.c ---- */

/* Tells all that wait for it; what was learnt is kept, else the entry is gone. */
void callout_settle(struct callout_entry *e, enum callout_answer answer, struct span why);
/* Frees a line that nothing needs any more. */
void callout_line_check(struct callout_line *l);

/* ---- callout_line.c ---- */

void callout_line_init(struct callout_line *l);
/* There are questions, or a drain: it looks at what it has to do soon. */
void callout_line_wake(struct callout_line *l);
/* Gives its connection up, and fails what is open. */
void callout_line_stop(struct callout_line *l);

#endif
