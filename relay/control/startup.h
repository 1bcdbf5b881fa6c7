/* SPDX-License-Identifier: Apache-2.0
 *
 * startup: what a process needs from its surroundings before it can take mail, and one line with
 * the remedy where it does not get it. Main thread, before any other thread exists.
 *
 * Each function returns false after it has put one line for people into `why`.
 */
#ifndef RELAY_CONTROL_STARTUP_H
#define RELAY_CONTROL_STARTUP_H

#include "core/base/buf.h"
#include "core/config.h"
#include "dns/resolver.h"

/* Kernel 6.1 or newer. */
bool startup_check_kernel(struct buf *why);
/* Raises the soft limit of descriptors to the hard one; false where not even a small relay could
 * run. */
bool startup_raise_descriptors(struct buf *why);
/* Binds listener `index` once for each worker: fds[worker]. */
bool startup_listen(const struct config *config, size_t index, unsigned workers, int *fds,
		    struct buf *why);
/* What the group `dns` says; `out` points into the configuration. */
void startup_resolver_options(const struct config *config, struct resolver_options *out);
/* Is there a route whose next hops are found by the DNS? */
bool startup_asks_dns(const struct config *config);
/* Becomes config->user; refuses to stay root unless allow_root. */
bool startup_drop_user(const struct config *config, struct buf *why);
/* Keeps the process's memory out of core dumps and from debuggers, unless config->core_dumps. For
 * the user that the process has become. */
bool startup_hide(const struct config *config, struct buf *why);

/* The directory of what this host remembers, where the queue is not there: made where it does not
 * exist. For the user that the process has become. */
bool startup_state_directory(const struct config *config, struct buf *why);

#endif
