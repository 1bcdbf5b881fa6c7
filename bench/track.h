/* SPDX-License-Identifier: Apache-2.0
 *
 * track: what became of every delivery of a run. Shared by the threads of the source and the sink.
 *
 * A delivery is one recipient of one mail, with the number mail * recipients + recipient. Sources
 * take numbers of mails from one counter and write what they learn of them; sinks write arrivals.
 * Each cell is one atomic word, so that an arrival may overtake its own 250. Numbers above the
 * table's size are refused to the source: it stops offering.
 *
 * The id of a mail travels in its first header field, see bench/README.md (TRACK_FIELD).
 */
#ifndef BENCH_TRACK_H
#define BENCH_TRACK_H

#include <stdbool.h>
#include <stdint.h>

#include "bench/histogram.h"
#include "core/base/buf.h"
#include "core/base/span.h"

#define TRACK_FIELD "X-Ringpost-Bench: "

enum {
	TRACK_TAG_DIGITS = 8,
	TRACK_NUMBER_DIGITS = 10,
	/* The value of the field: tag, '-', number. */
	TRACK_ID_SIZE = TRACK_TAG_DIGITS + 1 + TRACK_NUMBER_DIGITS,
};

struct track;

/* What the source has learnt of a mail. */
enum track_fate {
	TRACK_OFFERED,  /* no reply to its end of data yet */
	TRACK_ACCEPTED, /* 250 */
	TRACK_REFUSED,  /* another reply, before or after the data */
	TRACK_IN_DOUBT, /* the connection ended before the reply to the end of data */
};

struct track_numbers {
	uint64_t mails[TRACK_IN_DOUBT + 1]; /* by fate: now; OFFERED: all that were */
	uint64_t recipients_accepted;
	uint64_t recipients_delivered; /* at least once */
	uint64_t recipients_settled;   /* accepted, and delivered */
	uint64_t duplicated;           /* arrivals beyond the first of each */
	uint64_t foreign;              /* arrivals of no mail of this run */
	uint64_t last_arrival_us;      /* of a first one, clock_monotonic_us; 0: none */
};

/* Exact, from all cells, when source and sink have ended. */
struct track_verdict {
	uint64_t lost;                     /* accepted and not delivered */
	uint64_t unacknowledged_delivered; /* delivered, and not accepted */
};

/* `tag` tells this run's mails from others. NULL: no memory. */
struct track *track_new(uint32_t tag, uint32_t recipients, uint64_t mails_max);
void track_free(struct track *t);

/* The next mail, which is to be offered at intended_us (clock_monotonic_us). False: no cell is
 * left. Any source thread. */
bool track_offer(struct track *t, uint64_t intended_us, uint64_t *mail);
/* What became of it at the source. Of a mail that was accepted, the recipients that are not set in
 * `rejected` are; NULL: all. Called once a mail. */
void track_learn(struct track *t, uint64_t mail, enum track_fate fate, const bool *rejected);
/* One recipient of a mail has arrived, at now_us. Any sink thread; `latency` is that thread's. */
void track_arrive(struct track *t, uint64_t mail, uint32_t recipient, uint64_t now_us,
		  struct histogram *latency);
/* An arrival whose id was not understood or is of another run. */
void track_arrive_foreign(struct track *t);

/* Appends the whole field with its CRLF. */
bool track_show_field(const struct track *t, uint64_t mail, struct buf *out);
/* Reads the value of the field; false where it is not of this run. */
bool track_read_id(const struct track *t, struct span value, uint64_t *mail);

void track_count(const struct track *t, struct track_numbers *out);
void track_judge(const struct track *t, struct track_verdict *out);

#endif
