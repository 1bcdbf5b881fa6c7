/* SPDX-License-Identifier: Apache-2.0
 *
 * spool: the store on one disk, without a server. What stands outside of queue.h: counters.
 *
 * In the directory: `format` (version), `lock` (held while in use), `running` (while open, and
 * after a death: what that run wrote began at this sequence), segments/ (the logs), files/ (bodies
 * above the threshold), aside/ (what could not be understood, for people).
 *
 * What a crash may take, and what not:
 * - on_done(ERR_OK) of put, record, attempt, act was called: nothing of it (level `disk`).
 * - a put without on_done: kept or not, whole either way. Kept and refused never go together: a
 *   failed write is answered only when the next segment's head says from which batch on the old
 *   one is void; where that cannot be written either, the answer is ERR_IN_DOUBT, counted.
 * - a record without on_done: each recipient as before or as recorded, all of them alike.
 * - release, requeue, the unlinking of a file, copies, freed segments: done again after it.
 * - files/ may hold files that nothing names: drafts that were on their way.
 *
 * Numbers of workers may differ from start to start. Segments belong to the worker that wrote them
 * or, when recovered, to whom they were dealt, with all mails whose PUT lies in them. Shared
 * between workers are only: the table of sequences in use (atomic, never reused numbers), the next
 * sequence, and the sum of bytes taken.
 */
#ifndef QUEUE_SPOOL_SPOOL_H
#define QUEUE_SPOOL_SPOOL_H

#include "queue/queue.h"

enum {
	SPOOL_BUCKETS = 24
}; /* bucket i counts values of 2^i up to 2^(i+1) - 1; 0 too in the first */

/* Of one worker since its start; written by it alone. */
struct spool_counters {
	uint64_t commits;
	uint64_t records;
	uint64_t batch_records[SPOOL_BUCKETS]; /* histogram: records a commit */
	uint64_t commit_us[SPOOL_BUCKETS];     /* histogram: from submission to durable */
	uint64_t commit_us_longest;
	uint64_t bytes_written;
	uint64_t write_errors;
	uint64_t segments_given_up;
	uint64_t read_errors;
	uint64_t corrupt_records; /* found at start or while reading */
	uint64_t torn_tails;
	uint64_t in_doubt; /* puts that were neither kept nor provably cancelled */
	uint64_t cancels;  /* puts refused after a failed write, provably void */
	uint64_t copied_records;
	uint64_t copied_bytes;
	uint64_t segments_created;
	uint64_t segments_recycled;
	uint64_t files_created;
	uint64_t files_removed;
	uint64_t file_errors;
	uint64_t files_aside;     /* at start */
	uint64_t no_room;         /* refused: disk */
	uint64_t no_memory;       /* refused: memory */
	uint64_t too_many;        /* refused: items_max */
	uint64_t replies_dropped; /* texts not kept in memory: the table was full */
	uint64_t recovered_mails;
	uint64_t recovered_open_starts;
	uint64_t recovered_doubtful; /* recipients that who died may have had in delivery */
	/* Now: */
	uint64_t segments_spare;
	uint64_t segments_sealed;
	uint64_t segments_failed;
	uint64_t bytes_live;
};

struct queue_store *spool_open(const struct queue_options *options, struct worker **workers,
			       unsigned worker_count, const struct queue_hooks *hooks,
			       struct buf *why);
/* On the worker of q, or when no worker runs. */
const struct spool_counters *spool_counters(struct queue *q);

#endif
