/* SPDX-License-Identifier: Apache-2.0
 *
 * show: an answer of the admin socket as text for people: the members of an object one below the
 * other, lists as tables. What there is to show and of which kind it is comes from the shapes
 * (relay/admin/shape.h). PURE: the time is an argument.
 *
 * Times are shown as how long ago they were, durations and sizes with two places. Texts come from
 * mail: what could steer a terminal (controls, DEL, C1) becomes '?'.
 */
#ifndef RELAY_CTL_SHOW_H
#define RELAY_CTL_SHOW_H

#include <stdint.h>

#include "core/base/buf.h"
#include "relay/admin/protocol.h"

/* `result` is a json_t of the answer's result. */
void show_result(struct buf *out, enum admin_command command, const void *result,
		 uint64_t now_wall_ms);
/* 90061000: "1d 1h"; 0: "0s". */
void show_duration(struct buf *out, uint64_t ms);
/* 1536: "1.5 KiB". */
void show_size(struct buf *out, uint64_t bytes);

#endif
