/* SPDX-License-Identifier: Apache-2.0
 *
 * date: a date of RFC 5322 3.3, like "Tue, 01 Sep 2026 12:00:00 +0000".
 *
 * Pure: the time is an argument, the offset too; the C library's time zones are not asked. Valid
 * for the years 1970 to 9999; what is beyond is written as the last second of 9999.
 */
#ifndef RELAY_MESSAGE_DATE_H
#define RELAY_MESSAGE_DATE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"

enum { DATE_SIZE = 31 };

/* wall_ms: since 1970 UTC. offset_min: of local time to UTC, from -1439 to 1439. */
bool date_write(struct buf *out, uint64_t wall_ms, int offset_min);

#endif
