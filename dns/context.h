/* SPDX-License-Identifier: Apache-2.0
 *
 * context: a context of libunbound, configured for one worker.
 *
 * Main thread, one after the other: the library keeps a part of its configuration for the whole
 * process, so all contexts get the same options, and it reads trust anchors only when the first
 * question comes, so context_new asks one that needs no network and thereby finds out whether the
 * context can work.
 *
 * Not for names of the configuration: neither hosts files nor search lists reach the library.
 */
#ifndef DNS_CONTEXT_H
#define DNS_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "dns/resolver.h"

struct ub_ctx;
struct unbound;

/* How many questions whose askers have gone the library may have beside each that is asked for. */
enum { ORPHANS_PER_PLACE = 3 };

/* What one worker gets of the budgets of the process. */
struct context_share {
	unsigned queries_max;
	unsigned sockets; /* for UDP; a part of that, for TCP, comes on top */
	unsigned streams;
	uint64_t cache_bytes; /* of the library's own caches */
};

struct context_share context_share(const struct resolver_options *options, unsigned worker_count);
/* A copy of the options with the forwarders of this host, where they are wanted. Without the file
 * that names them, or without any in it, the roots are asked. */
void context_forwarders(const struct resolver_options *options, struct resolver_options *own);
/* All that a context is told before its first question; false with a line in `why`. */
bool context_configure(struct ub_ctx *c, const struct resolver_options *options,
		       const struct context_share *share, struct buf *why);
/* NULL with a line in `why`: what is wrong, and the remedy. */
struct ub_ctx *context_new(struct unbound *u, const struct resolver_options *options,
			   const struct context_share *share, struct buf *why);
void context_free(struct ub_ctx *context);

#endif
