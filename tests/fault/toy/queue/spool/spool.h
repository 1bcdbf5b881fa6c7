/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/queue.h"
struct queue_store *spool_open(const struct queue_options *options, struct worker **workers,
			       unsigned worker_count, const struct queue_hooks *hooks,
			       struct buf *why);
