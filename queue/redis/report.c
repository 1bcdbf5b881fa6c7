/* SPDX-License-Identifier: Apache-2.0
 *
 * What the store tells the metrics and the log. It counts for itself (store.h); here its counts
 * become series, and what an operator must know becomes events. A worker without metrics or log
 * (tests) is fine.
 */
#include "core/base/id.h"
#include "core/log.h"
#include "core/metric.h"
#include "queue/redis/internal.h"

void
report_counters(struct redis_end *e)
{
	struct metrics *m = e->queue.worker->metrics;
	const struct redis_counters *c = &e->counters;

	if (m == NULL)
		return;
	METRIC_SET(m, REDIS_TAKEN_OVER, c->taken_over_mails);
	METRIC_SET(m, REDIS_RECOVERED, c->recovered_mails);
	METRIC_SET(m, REDIS_GONE, c->gone_mails);
	METRIC_SET(m, REDIS_CLAIMED, c->claimed_mails);
	METRIC_SET(m, REDIS_RELEASED, c->released_mails);
	METRIC_SET(m, REDIS_OUTCOMES_REPEATED, c->records_repeated);
	METRIC_SET(m, REDIS_OUTCOMES_LOST, c->records_lost);
	METRIC_SET(m, REDIS_UNREPLICATED, c->unreplicated);
	METRIC_SET(m, REDIS_UNREADABLE, c->corrupt);
	METRIC_SET(m, REDIS_SHARE_ASKS, c->share_asks);
	METRIC_SET(m, REDIS_SHARE_WAITS, c->share_waits);
	METRIC_SET(m, REDIS_BODY_BYTES, c->body_bytes);
	METRIC_SET(m, REDIS_STORED_BYTES, c->stored_bytes);
	METRIC_SET_LABEL(m, QUEUE_CANCELS, (unsigned)ERR_OK, c->cancels);
	METRIC_SET_LABEL(m, QUEUE_CANCELS, (unsigned)ERR_IN_DOUBT, c->errands_given_up);
	METRIC_SET_LABEL(m, DUPLICATES_POSSIBLE, LABEL_DUPLICATE_PUT_IN_DOUBT, c->in_doubt);
	METRIC_SET_LABEL(m, DUPLICATES_POSSIBLE, LABEL_DUPLICATE_FAIL_OVER,
			 c->recovered_doubtful + c->claimed_doubtful + c->undone_outcomes);
	METRIC_SET_LABEL(m, DUPLICATES_POSSIBLE, LABEL_DUPLICATE_OWNER_DIED,
			 c->taken_over_doubtful + c->records_given_up);
}

void
report_taken_over(struct redis_end *e, struct mail_id id, struct span owner, uint64_t doubtful)
{
	uint8_t memory[ID_TEXT_SIZE];
	struct buf text = buf_of(memory, sizeof memory);

	if (e->queue.worker->log == NULL)
		return;
	id_write(&text, id.high, id.low);
	event_mail_taken_over(e->queue.worker->log, &(struct event_mail_taken_over){
							    .id = buf_span(&text),
							    .owner = owner,
							    .doubtful = doubtful,
						    });
}

void
report_recovered(struct redis_end *e, struct mail_id id, uint64_t doubtful)
{
	uint8_t memory[ID_TEXT_SIZE];
	struct buf text = buf_of(memory, sizeof memory);

	e->counters.recovered_mails++;
	e->counters.recovered_doubtful += doubtful;
	if (e->queue.worker->log == NULL)
		return;
	id_write(&text, id.high, id.low);
	event_mail_recovered(
		e->queue.worker->log,
		&(struct event_mail_recovered){ .id = buf_span(&text), .doubtful = doubtful });
}

void
report_doubtful(struct redis_end *e, struct mail_id id, uint64_t doubtful)
{
	uint8_t memory[ID_TEXT_SIZE];
	struct buf text = buf_of(memory, sizeof memory);

	e->counters.claimed_doubtful += doubtful;
	if (e->queue.worker->log == NULL || doubtful == 0)
		return;
	id_write(&text, id.high, id.low);
	event_duplicate_possible(e->queue.worker->log,
				 &(struct event_duplicate_possible){ .id = buf_span(&text),
								     .cause = SPAN("fail_over") });
}

void
report_gone(struct redis_end *e, struct mail_id id, uint64_t pending)
{
	uint8_t memory[ID_TEXT_SIZE];
	struct buf text = buf_of(memory, sizeof memory);

	e->counters.gone_mails++;
	if (e->queue.worker->log == NULL)
		return;
	id_write(&text, id.high, id.low);
	event_mail_gone(e->queue.worker->log,
			&(struct event_mail_gone){ .id = buf_span(&text), .pending = pending });
}

void
report_drains(struct redis_end *e, const char *state)
{
	if (e->queue.worker->log != NULL)
		event_node_drains(e->queue.worker->log,
				  &(struct event_node_drains){ .state = span_of_string(state) });
}

void
report_acted(struct redis_end *e, const struct queue_act *a, struct span sender,
	     const struct span *gone, uint32_t gone_count)
{
	static const char *const words[] = { "held", "released", "retried", "removed" };
	uint8_t memory[ID_TEXT_SIZE];
	struct buf text = buf_of(memory, sizeof memory);

	if (e->queue.worker->log == NULL)
		return;
	id_write(&text, a->id.high, a->id.low);
	event_mail_acted(e->queue.worker->log, &(struct event_mail_acted){
						       .id = buf_span(&text),
						       .action = span_of_string(words[a->action]),
						       .who = a->who,
						       .why = a->why,
					       });
	for (uint32_t i = 0; i < gone_count; i++)
		event_recipient_removed(e->queue.worker->log, &(struct event_recipient_removed){
								      .id = buf_span(&text),
								      .sender = sender,
								      .recipient = gone[i],
								      .who = a->who,
								      .why = a->why,
							      });
}

void
report_unread(struct redis_end *e, struct mail_id id, enum err why)
{
	uint8_t memory[ID_TEXT_SIZE];
	struct buf text = buf_of(memory, sizeof memory);

	e->counters.corrupt += why == ERR_CORRUPT;
	if (e->queue.worker->log == NULL)
		return;
	id_write(&text, id.high, id.low);
	event_mail_unreadable(e->queue.worker->log, &(struct event_mail_unreadable){
							    .id = buf_span(&text),
							    .error = span_of_string(err_name(why)),
						    });
}
