/* SPDX-License-Identifier: Apache-2.0
 *
 * functions: what the Redis server does for the store: every change of a mail's state is one
 * function there, atomic, and asked with FCALL. The text is functions.lua and nodes.lua, compiled
 * in.
 */
#ifndef QUEUE_REDIS_FUNCTIONS_H
#define QUEUE_REDIS_FUNCTIONS_H

#include "core/base/span.h"

enum { REDIS_FUNCTIONS_VERSION = 2 };

/* The library for FUNCTION LOAD REPLACE. */
struct span redis_functions(void);

#endif
