/* SPDX-License-Identifier: Apache-2.0
 *
 * blocking: one question to the DNS after the other, for tools that have nothing else to do.
 *
 * A context of libunbound with a thread of its own, configured as a worker's (resolver.h), and
 * without any cache of ours. The caller's thread waits, at most until the time that it says. Not
 * for the daemon. Answers are those of resolver.h, as immutable.
 */
#ifndef DNS_BLOCKING_H
#define DNS_BLOCKING_H

#include "core/base/buf.h"
#include "dns/resolver.h"

struct blocking;

/* NULL with a line in `why`. Of the options, those that are about who is asked and who is
 * believed. */
struct blocking *blocking_new(const struct resolver_options *options, struct buf *why);
void blocking_free(struct blocking *b);
/* With one reference for the caller; never NULL. `until_ms` is of the monotonic clock; where it
 * passes, the outcome is FAILED. */
struct dns_answer *blocking_ask(struct blocking *b, struct span name, enum dns_type type,
				uint64_t until_ms);

#endif
