/* SPDX-License-Identifier: Apache-2.0
 *
 * sample: one mail of one recipient with all that is written about it: envelope, trace, records of
 * the spool, events of the log. What the rows measure one by one and the whole path together.
 *
 * All of it is constant and lives as long as the program.
 */
#ifndef BENCH_MICRO_SAMPLE_H
#define BENCH_MICRO_SAMPLE_H

#include "core/log.h"
#include "queue/mail.h"
#include "queue/spool/record.h"
#include "relay/message/trace.h"

enum { SAMPLE_EPOCH = 0x51a7e5, SAMPLE_PLACE = 0x12000, SAMPLE_SEQUENCE = 17 };

const struct mail_envelope *sample_envelope(void);
const struct trace *sample_trace(void);
/* Of a body of MATERIAL_MAIL_SIZE bytes in the log. */
struct record_put sample_put(void);
/* Delivered. */
const struct record_change *sample_outcome(void);
const struct event_received *sample_received(void);
const struct event_delivery *sample_delivery(void);

#endif
