/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/outcome.h"

#include "core/base/clock.h"
#include "relay/flow/bounce.h"
#include "relay/flow/dispatch.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"
#include "relay/flow/job.h"

enum { RECORD_AGAIN_MS = 1000 /* the store could not record an outcome */ };

/* The outcomes were not recorded, or their report could not be made. */
static void
record_later(struct job *j, enum err e)
{
	struct flow *f = j->owner;

	bounce_dropped(j, e);
	if (f->cut_off) {
		/* A drain does not wait for a store that cannot write: the mail stays queued as it
		 * was, and what was delivered of it comes again after the next start. */
		flow_event_outcome_given_up(f, j, e);
		j->due_at_ms = f->worker->now_wall_ms;
		dispatch_release(j);
		return;
	}
	/* The item stays ours. Nothing is lost: the outcome is recorded when the store can, and a
	 * crash before that is the duplicate of invariant 4 (a). */
	flow_event_record_failed(f, j, e);
	timer_set(&f->worker->timers, &j->again, f->worker->now_ms + RECORD_AGAIN_MS);
}

void
outcome_forget(struct job *j)
{
	struct flow *f = j->owner;
	uint32_t delivered = 0;

	bounce_dropped(j, ERR_LOST);
	if (j->record.may_be_kept)
		flow_event_outcomes_unknown(f, j, ERR_LOST);
	for (uint32_t i = 0; i < j->result_count; i++) {
		if (j->results[i].state == RECIPIENT_DELIVERED)
			delivered++;
		else
			j->results[i].tried = false; /* no event tells of it */
	}
	if (delivered > 0)
		flow_event_outcomes(f, j);
	if (!j->record.may_be_kept)
		flow_event_taken_over(f, j, delivered);
	dispatch_end(j);
}

static void
on_recorded(struct queue_record *r, enum err e)
{
	struct job *j = CONTAINER_OF(r, struct job, record);

	if (e == ERR_LOST) {
		if (r->notice_is_kept)
			bounce_left(j);
		outcome_forget(j);
		return;
	}
	if (e != ERR_OK) {
		record_later(j, e);
		return;
	}
	flow_event_outcomes(j->owner, j);
	bounce_recorded(j);
	dispatch_end(j);
}

static void
on_bounce(struct job *j, enum err e)
{
	if (e != ERR_OK) {
		record_later(j, e);
		return;
	}
	j->record.notice = bounce_put(j);
	j->record.tells_deliveries_only = bounce_tells_deliveries_only(j);
	queue_record(j->owner->worker->queue, &j->record);
}

/* With the report that the outcomes call for: both are kept, or neither. */
static void
record(struct job *j)
{
	j->record.notice = NULL;
	if (bounce_is_wanted(j))
		bounce_make(j, on_bounce);
	else
		queue_record(j->owner->worker->queue, &j->record);
}

static void
on_record_again(struct timer *t)
{
	record(CONTAINER_OF(t, struct job, again));
}

struct schedule
outcome_schedule(const struct flow *f)
{
	const struct config_retry *retry = &f->routing->config->retry;

	return (struct schedule){
		.pauses_ms = retry->schedule_ms,
		.pause_count = retry->schedule_count,
		.jitter_percent = retry->jitter,
		.lifetime_ms = retry->lifetime_ms,
	};
}

/* When a recipient that failed temporarily is tried again; false: its time is over. */
static bool
schedule_retry(const struct job *j, struct queue_result *r)
{
	const struct mail_envelope *e = j->mail->envelope;
	uint64_t now_ms = j->owner->worker->now_wall_ms;
	struct schedule schedule = outcome_schedule(j->owner);

	r->retry_at_ms = now_ms;
	if (!r->tried)
		return true;
	if (schedule_is_over(&schedule, e->accepted_at_ms, now_ms))
		return false;
	size_t i = (size_t)(r - j->results);
	uint64_t next_ms = schedule_next_ms(&schedule, j->attempts[i] + 1U, now_ms, random_u64());
	/* Neither the end of its time nor the word to its sender waits for a pause of hours. */
	next_ms = schedule_no_later_than(next_ms, now_ms, bounce_delay_at_ms(j, (uint32_t)i));
	r->retry_at_ms = schedule_no_later_than(next_ms, now_ms,
						schedule_ends_ms(&schedule, e->accepted_at_ms));
	return true;
}

void
outcome_record(struct job *j)
{
	ASSERT(job_is_resolved(j));
	for (uint32_t i = 0; i < j->result_count; i++) {
		struct queue_result *r = &j->results[i];
		if (r->state == RECIPIENT_PENDING && !schedule_retry(j, r))
			r->state = RECIPIENT_FAILED;
	}
	j->record = (struct queue_record){
		.item = j->item,
		.results = j->results,
		.result_count = j->result_count,
		.on_done = on_recorded,
	};
	timer_init(&j->again, on_record_again);
	bounce_judge(j);
	record(j);
}
