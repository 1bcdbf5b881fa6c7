/* SPDX-License-Identifier: Apache-2.0
 *
 * shares: the end's part of limits that hold for all nodes (queue/shares.h), over the links of the
 * store. What the server does for it is shares.lua, a library of its own, which is loaded where the
 * first limit is asked for: who has no limits has none of it.
 */
#ifndef QUEUE_REDIS_SHARES_H
#define QUEUE_REDIS_SHARES_H

#include <stdbool.h>

#include "core/base/span.h"

struct queue;
struct redis_end;
struct shares;

/* The library for FUNCTION LOAD. */
struct span redis_share_functions(void);

bool shares_init(struct redis_end *e);
void shares_fini(struct redis_end *e);
struct shares *redis_shares(struct queue *q);
/* What was published about limits: "free KEY". Empty: something may have been missed. */
void shares_hear(struct redis_end *e, struct span message);
/* The end stops: what it has is given back; nothing is asked for any more. */
void shares_stop(struct redis_end *e);

#endif
