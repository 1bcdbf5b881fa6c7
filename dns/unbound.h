/* SPDX-License-Identifier: Apache-2.0
 *
 * unbound: libunbound's pluggable event base on a worker's ring and timers.
 *
 * The library asks for events on descriptors and for timers; this maps the first to one-shot polls
 * of the ring, armed again while the event is active (its sockets are read until they are empty, so
 * the readiness must be a level, not an edge), and the second to the worker's wheel. A timer of 0
 * means "in the next turn": each question to the network costs one.
 *
 * An event may be freed while its poll is in the kernel, also from inside its own callback. So the
 * poll is an object of its own, which the event lets go and which is freed when the kernel has.
 *
 * Before the worker runs, on the main thread, only timers may be asked for; the library does not do
 * even that. unbound_stop ends all activity on the worker's thread; afterwards the library's
 * context may be deleted on the main thread, which frees the events and touches no worker any more.
 */
#ifndef DNS_UNBOUND_H
#define DNS_UNBOUND_H

#include <stdbool.h>
#include <stddef.h>

#include "core/worker.h"

struct unbound;
struct ub_event_base;

/* NULL without memory. At most `polls_max` descriptors are watched; more are left to time out. */
struct unbound *unbound_new(struct worker *w, size_t polls_max);
/* For ub_ctx_create_ub_event; lives as long as `u`. */
struct ub_event_base *unbound_base(struct unbound *u);
/* No event fires any more. on_stopped comes when the kernel has nothing of it, never inside the
 * call. */
void unbound_stop(struct unbound *u, void (*on_stopped)(void *context), void *context);
/* After the library's context was deleted: no event and no poll is left. */
void unbound_free(struct unbound *u);
/* Events that exist; for tests. */
size_t unbound_events(const struct unbound *u);

#endif
