/* SPDX-License-Identifier: Apache-2.0
 *
 * dispatch: brings claimed items to connections and their outcomes back to the queue.
 *
 * The way of an item on its owner's worker: dispatch_items (from a put or a claim) makes a job →
 * its destination finds the site → the site's line → dispatch_pump gives it to a channel here, or
 * hands it over to the site's home → dispatch_served on the worker that served it → back to the
 * owner → outcome_record (outcome.h) → events, and the job ends. What cannot be served now (too
 * many wait, the site is down, the relay drains) goes back to the queue untried: waiting costs an
 * item of the queue, not a job.
 *
 * Each site has its own line, and its destinations claim their own items for it, so one that stalls
 * holds nothing of another's. All functions run on the worker of their flow or site.
 */
#ifndef RELAY_FLOW_DISPATCH_H
#define RELAY_FLOW_DISPATCH_H

#include "queue/queue.h"
#include "relay/flow/job.h"

struct channel;

/* Takes claimed items of this worker (struct queue_item.link). receive_ms: how long it took to
 * receive the mail, 0 for items that were claimed. */
void dispatch_items(struct flow *f, struct list *items, uint64_t receive_ms);
/* A job of this worker gets in the site's line. */
void dispatch_wait(struct site *s, struct job *j);
/* A claimed item whose site does not work, untried: the outcome of an attempt where its time is
 * over or its sender is to be told of the delay; else it goes back. */
void dispatch_overdue(struct flow *f, struct queue_item *item);
/* A job of this worker is over, whatever came of it; its item is not its any more. */
void dispatch_end(struct job *j);
/* Likewise, and its item goes back to the queue, due at j->due_at_ms. */
void dispatch_release(struct job *j);
/* A job of this worker goes back to the queue untried, due after this time. */
void dispatch_put_back(struct job *j, uint64_t pause_ms);
/* May the site's line take one more job, or the flow more claims? */
bool dispatch_site_has_room(const struct site *s);
bool dispatch_may_claim(struct flow *f);
/* Items that one claim for this site (NULL: none) may bring. */
uint32_t dispatch_claim_most(const struct site *s, const struct flow *f);
/* Does for a site whatever can be done now. */
void dispatch_pump(struct site *s);
/* A channel has no more to do for this job: resolved, or to be tried on. */
void dispatch_served(struct site *s, struct job *j);
/* A connection of this worker's budget has become free. */
void dispatch_connection_free(struct flow *f);
/* Connections that have been made for too long give way to others that are wanted. */
void dispatch_on_patience(struct timer *t);
/* Begins the job that waits to run alone, if it may now: to be called when a job of this worker has
 * ended, and when its last channel has got rid of its job. */
void dispatch_suspect(struct flow *f);

#endif
