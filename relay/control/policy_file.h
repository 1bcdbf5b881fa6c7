/* SPDX-License-Identifier: Apache-2.0
 *
 * policy_file: policies of MTA-STS (relay/flow/sts.h) as lines of a file, so that they survive a
 * restart. PURE.
 *
 *   ringpost-sts 1
 *   DOMAIN ID MODE MAX_AGE FETCHED_AT PATTERN,PATTERN,...
 *
 * FETCHED_AT is in milliseconds since 1970; a policy without patterns has `-`. What is no such line
 * is left out: a policy that is lost is fetched again.
 */
#ifndef RELAY_CONTROL_POLICY_FILE_H
#define RELAY_CONTROL_POLICY_FILE_H

#include "core/base/buf.h"
#include "relay/flow/sts.h"

enum { POLICY_FILE_MAX = 1 << 30 };

/* Bytes that policy_file_line() needs at most. */
size_t policy_file_size(const struct sts_held *h);
bool policy_file_head(struct buf *out);
bool policy_file_line(const struct sts_held *h, struct buf *out);

/* Takes the first line off `text`: true where it is the head of a file that can be read. */
bool policy_file_read_head(struct span *text);
/* Takes the next line off; NULL where it is no policy, or there is no memory. */
struct sts_held *policy_file_read(struct span *text);

#endif
