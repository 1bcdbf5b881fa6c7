/* SPDX-License-Identifier: Apache-2.0
 *
 * rows: the table of everything that is measured, and the functions that do it.
 *
 * rows.c has the table; the functions are in the file of their part. A function may serve several
 * rows, which give it their text or number. See micro.h for what it owes.
 */
#ifndef BENCH_MICRO_ROWS_H
#define BENCH_MICRO_ROWS_H

#include <stddef.h>

#include "bench/micro/micro.h"

extern const struct micro_row micro_rows[];
extern const size_t micro_row_count;

/* rows_smtp.c */
void measure_path(struct micro_run *run);     /* text: a path in angle brackets */
void measure_session(struct micro_run *run);  /* greeting and EHLO */
void measure_command(struct micro_run *run);  /* text: a command line, legal behind a recipient */
void measure_receive(struct micro_run *run);  /* number: enum client_way; a mail of 1 KiB */
void measure_body(struct micro_run *run);     /* number: enum client_way; a long prose */
void measure_connect(struct micro_run *run);  /* number: enum peer_kind */
void measure_send(struct micro_run *run);     /* number: enum peer_kind */
void measure_reply(struct micro_run *run);    /* text: one reply */
void measure_body_in(struct micro_run *run);  /* number: enum material_text */
void measure_body_out(struct micro_run *run); /* number: enum material_text */
void measure_dots(struct micro_run *run);     /* number: enum material_text */

/* rows_store.c */
void measure_header(struct micro_run *run); /* number: 0 the small one, 1 the large one */
void measure_trace(struct micro_run *run);
void measure_put_write(struct micro_run *run);
void measure_put_parse(struct micro_run *run);
void measure_outcome_write(struct micro_run *run);
void measure_outcome_parse(struct micro_run *run);
void measure_frame(struct micro_run *run);
void measure_crc32c(struct micro_run *run); /* number: bytes */
void measure_crc32c_portable(struct micro_run *run);

/* rows_core.c */
void measure_id(struct micro_run *run);
void measure_peer_name(struct micro_run *run); /* text: an address with its port */
void measure_log_write(struct micro_run *run); /* what the worker does */
void measure_log_line(struct micro_run *run);  /* what the log thread does */
void measure_metric_add(struct micro_run *run);
void measure_metric_observe(struct micro_run *run);
void measure_timer_set(struct micro_run *run);
void measure_timer_move(struct micro_run *run);
void measure_timer_fire(struct micro_run *run);
void measure_pool(struct micro_run *run);
void measure_arena(struct micro_run *run);
void measure_mailbox(struct micro_run *run);

/* rows_dns.c */
void measure_packet(struct micro_run *run);      /* number: 0 an answer of A, 1 of MX */
void measure_mx_warm(struct micro_run *run);     /* a lookup of hosts that are known, of 1000 */
void measure_answer_warm(struct micro_run *run); /* an answer that is known, of 1000 */

/* rows_spf.c */
void measure_spf_record(struct micro_run *run); /* a record is parsed */
void measure_spf_warm(struct micro_run *run);   /* a mail, of 1000 domains that are known */

/* whole.c */
void measure_whole(struct micro_run *run); /* number: enum client_way */

#endif
