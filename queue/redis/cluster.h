/* SPDX-License-Identifier: Apache-2.0
 *
 * cluster: what a Redis Cluster says of its slots. Pure.
 *
 * A key's slot is the CRC16 (XMODEM) of its hash tag, modulo 16384: of what stands between the
 * first `{` and the next `}`, or of the whole key where that is nothing.
 */
#ifndef QUEUE_REDIS_CLUSTER_H
#define QUEUE_REDIS_CLUSTER_H

#include <stdbool.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum { CLUSTER_SLOTS = 16384 };

struct redisReply;

unsigned cluster_slot(struct span key);
/* Is it a reply to CLUSTER SLOTS, whole and as it should be? */
bool cluster_is_map(const struct redisReply *map);
/* The master of a slot, HOST:PORT; `asked` is the server that has told, which may call itself
 * nothing. False: nobody has it. */
bool cluster_master(const struct redisReply *map, unsigned slot, struct span asked,
		    struct buf *out);
/* "MOVED 3999 192.0.2.1:6381". False: it is none, or does not say where to. */
bool cluster_read_moved(struct span error, unsigned *slot, struct buf *to);

#endif
