/* SPDX-License-Identifier: Apache-2.0
 *
 * sender: whose turn it is. Mails that come from one source share a key: the envelope sender in
 * lower case without what follows a '+' in its local part, so that the variable return paths (VERP)
 * and subaddresses of one sender fall together. Pure.
 */
#ifndef QUEUE_SENDER_H
#define QUEUE_SENDER_H

#include <stdint.h>

#include "core/base/span.h"

/* Longer keys are cut: what is compared is long enough, what is counted is in the hash. */
enum { SENDER_KEY_MOST = 255 };

/* Into `memory`; the null sender has the empty key. */
struct span sender_key(struct span sender, uint8_t memory[SENDER_KEY_MOST]);
/* `seed`: whoever can choose addresses should not know which ones share a hash. */
uint32_t sender_key_hash(struct span key, uint64_t seed);

#endif
