/* SPDX-License-Identifier: Apache-2.0
 *
 * spy: stands between relay/flow and the store, in the place of the store's driver, and tells the
 * oracle what is put, handed out and recorded, and what the store says to it. It changes nothing.
 */
#ifndef TESTS_FAULT_SPY_H
#define TESTS_FAULT_SPY_H

#include "queue/queue.h"

/* On all ends of the store; before any of them is used. Once an incarnation. */
void spy_watch(struct queue_store *store, unsigned worker_count);
/* This node is no more, and its requests will not end. */
void spy_forget(unsigned node);

#endif
