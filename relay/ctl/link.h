/* SPDX-License-Identifier: Apache-2.0
 *
 * link: one request to ringpostd and its answer, over the admin socket, waiting.
 */
#ifndef RELAY_CTL_LINK_H
#define RELAY_CTL_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"

/* Sends the line and waits for that of the answer, which is allocated and ends with a NUL instead
 * of its line end. NULL, with what is wrong and the remedy in `why`, where that takes longer than
 * the timeout or ringpostd cannot be reached. */
char *link_ask(const char *path, struct span line, uint64_t timeout_ms, struct buf *why);

#endif
