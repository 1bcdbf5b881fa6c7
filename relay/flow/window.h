/* SPDX-License-Identifier: Apache-2.0
 *
 * window: how many connections a site may have at a time, learnt from how it takes them.
 *
 * Pure. It is one until the site is known to answer at all, begins low then, doubles with each
 * round of successes until the first failure, and grows by one a round from then on; a failure
 * halves it, to one at least. Only what a connection as a whole meets counts (connecting, the
 * greeting, the hello, a 421, a loss): never a recipient's 4xx. Failures of connections that were
 * under way together are one failure: after a cut, those that come before as many successes or
 * failures as there were connections do not cut again.
 */
#ifndef RELAY_FLOW_WINDOW_H
#define RELAY_FLOW_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct window {
	uint32_t size_256;  /* the window, in units of 1/256 connection */
	uint32_t first;     /* what it begins with */
	uint32_t most;      /* 1 or more */
	uint32_t forgiving; /* failures that are still those of the last cut */
	bool careful;       /* it has failed once: grow by one a round */
	bool proven;        /* it has answered, or is taken to do so */
};

/* 1 <= first; `most` wins where it is less. `proven`: begin at once. */
void window_init(struct window *w, uint32_t first, uint32_t most, bool proven);
/* The options have changed. */
void window_limit(struct window *w, uint32_t first, uint32_t most);
uint32_t window_size(const struct window *w);
/* This many mails were taken by the site, or connections were up. */
void window_success(struct window *w, uint32_t count);
/* This many connections failed. */
void window_failure(struct window *w, uint32_t count);

#endif
