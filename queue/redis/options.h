/* SPDX-License-Identifier: Apache-2.0
 *
 * options: from the configuration to struct redis_options, with the files that it names read:
 * passwords, authorities. Blocking; the main thread's, before the workers start.
 */
#ifndef QUEUE_REDIS_OPTIONS_H
#define QUEUE_REDIS_OPTIONS_H

#include "core/config.h"
#include "queue/redis/servers.h"

enum { REDIS_PASSWORD_MOST = 512 };

/* Of a configuration whose store is redis. NULL with one line in `why`: option, file, what is
 * wrong, the remedy. Keeps a reference of the snapshot, whose texts it lends on. */
struct redis_options *redis_options_load(const struct config *config, struct buf *why);
/* Wipes the passwords. No store may use it any more. */
void redis_options_free(struct redis_options *o);
/* What the operator has asked for and should hear of at the start, in one line; false: nothing. */
bool redis_options_warn(const struct redis_options *o, struct buf *out);

#endif
