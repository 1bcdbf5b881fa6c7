/* SPDX-License-Identifier: Apache-2.0
 *
 * What the spool tells the metrics and the log. The spool counts for itself (spool.h) and knows
 * neither; here its counts become series, and what an operator must know becomes events. A worker
 * without metrics or log (tests) is fine.
 */
#include "core/base/id.h"
#include "core/log.h"
#include "core/metric.h"
#include "queue/spool/internal.h"

void
spool_report(struct spool_end *e)
{
	struct metrics *m = e->queue.worker->metrics;
	const struct spool_counters *c = spool_counters(&e->queue);

	if (m == NULL)
		return;
	METRIC_SET(m, SPOOL_BYTES_WRITTEN, c->bytes_written);
	METRIC_SET(m, SPOOL_BYTES_COPIED, c->copied_bytes);
	METRIC_SET(m, SPOOL_FILES, c->files_created);
	METRIC_SET(m, SPOOL_CORRUPT, c->corrupt_records);
	METRIC_SET(m, SPOOL_TORN, c->torn_tails);
	METRIC_SET(m, QUEUE_RECOVERED, c->recovered_mails);
	METRIC_SET_LABEL(m, SPOOL_ERRORS, (unsigned)ERR_STORAGE,
			 c->write_errors + c->read_errors + c->file_errors);
	METRIC_SET_LABEL(m, SPOOL_SEGMENTS, LABEL_SEGMENT_SPARE, c->segments_spare);
	METRIC_SET_LABEL(m, SPOOL_SEGMENTS, LABEL_SEGMENT_SEALED, c->segments_sealed);
	METRIC_SET_LABEL(m, SPOOL_SEGMENTS, LABEL_SEGMENT_BAD, c->segments_failed);
	METRIC_SET_LABEL(m, QUEUE_CANCELS, (unsigned)ERR_OK, c->cancels);
	METRIC_SET_LABEL(m, QUEUE_CANCELS, (unsigned)ERR_IN_DOUBT, c->in_doubt);
	METRIC_SET_LABEL(m, DUPLICATES_POSSIBLE, LABEL_DUPLICATE_PUT_IN_DOUBT, c->in_doubt);
	METRIC_SET_LABEL(m, DUPLICATES_POSSIBLE, LABEL_DUPLICATE_OWNER_DIED, c->recovered_doubtful);
}

void
spool_report_commit(struct spool_end *e, uint32_t records, uint64_t bytes, uint64_t took_us)
{
	struct metrics *m = e->queue.worker->metrics;

	if (m == NULL)
		return;
	METRIC_OBSERVE(m, BATCH_RECORDS, records);
	METRIC_OBSERVE(m, BATCH_BYTES, bytes);
	METRIC_OBSERVE(m, SPOOL_WRITE_TIME, took_us);
}

void
spool_report_damage(struct worker *w, const char *file, uint64_t offset, uint64_t lsn)
{
	if (w->log != NULL)
		event_spool_corrupt(w->log, &(struct event_spool_corrupt){
						    .file = span_of_string(file),
						    .offset = offset,
						    .lsn = lsn,
					    });
}

void
spool_report_failure(struct worker *w, const char *file, const char *operation)
{
	if (w->log != NULL)
		event_spool_failed(w->log, &(struct event_spool_failed){
						   .file = span_of_string(file),
						   .operation = span_of_string(operation),
						   .error = span_of_string(err_text(ERR_STORAGE)),
					   });
}

void
spool_report_refused(struct worker *w, struct mail_id mail, enum err error)
{
	uint8_t memory[ID_TEXT_SIZE];
	struct buf id = buf_of(memory, sizeof memory);

	if (w->log == NULL)
		return;
	id_write(&id, mail.high, mail.low);
	event_put_cancelled(w->log, &(struct event_put_cancelled){
					    .id = buf_span(&id),
					    .error = span_of_string(err_text(error)),
					    .durable = error == ERR_STORAGE,
				    });
}

void
spool_report_aside(struct worker *w, const char *file)
{
	if (w->log != NULL)
		event_spool_file_aside(
			w->log, &(struct event_spool_file_aside){ .file = span_of_string(file) });
}

void
spool_report_recovery(struct spool *spool, const struct spool_recovered *r)
{
	struct spool_end *first = &spool->ends[0];
	uint64_t mails = 0;
	uint64_t recipients = 0;
	uint64_t doubtful = 0;

	if (first->queue.worker->log == NULL)
		return;
	for (unsigned i = 0; i < spool->store.worker_count; i++) {
		struct spool_end *e = &spool->ends[i];
		mails += e->mail_count;
		recipients += e->turns.item_count;
		doubtful += e->counters.recovered_doubtful;
		spool_report(e);
	}
	event_spool_recovered(first->queue.worker->log, &(struct event_spool_recovered){
								.mails = mails,
								.recipients = recipients,
								.segments = r->segments,
								.torn = r->torn,
								.corrupt = r->corrupt,
								.doubtful = doubtful,
								.duration = r->duration_ms,
							});
}
