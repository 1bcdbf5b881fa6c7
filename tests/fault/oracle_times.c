/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of the oracle that judges when things happen: the times between attempts, the end of a
 * mail's time, and the word to its sender that it is late.
 *
 * What is permitted follows from the terms of the incarnation that decides, from the moment when
 * the mail was taken in, and from what the store has confirmed: nothing is asked of the product.
 * A pause is exact where the outcome is recorded in the turn in which it was decided. Where a
 * report is made first, or the store could not record, the decision lies between the moment when
 * the mail was handed out and now.
 *
 * Each recipient has to be tried within the slack behind the moment at which it is due, or at which
 * the relay came up. That alone would not see a relay that puts the moment off for ever: therefore
 * no moment may lie behind the end of the mail's time, and at an attempt behind that end the
 * recipient must fail.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "tests/fault/oracle.h"
#include "tests/fault/sim.h"

enum {
	WATCH_MS = 60 * 1000,
	UNDER_WAY_MS = 20 * 60 * 1000,
	/* The relay counts from the beginning of its turn, and the clock goes on within it. */
	TURN_MS = 10,
};

uint64_t
oracle_wall_ms(void)
{
	return world->wall_ms + world->now_us / 1000;
}

void
oracle_terms(const struct terms *t)
{
	struct oracle *o = world->oracle;

	o->terms = *t;
	o->up_since_ms = o->watched_ms = oracle_wall_ms();
}

bool
oracle_wants(const struct oracle_recipient *r, unsigned what)
{
	return r->notify == 0 ? what != NOTIFY_SUCCESS : (r->notify & what) != 0;
}

static long long
seconds(uint64_t later_ms, uint64_t earlier_ms)
{
	return ((long long)later_ms - (long long)earlier_ms) / 1000;
}

/* ---- in the relay's hands ---- */

void
oracle_accepted(struct oracle_mail *m, uint64_t accepted_at_ms)
{
	m->put_at_ms = accepted_at_ms;
	/* So far it is the time at which its client began with it. */
	if (accepted_at_ms + 1 < m->accepted_at_ms || accepted_at_ms > oracle_wall_ms())
		sim_fail("mail %u is put as accepted %lld s after it was offered", m->number,
			 seconds(accepted_at_ms, m->accepted_at_ms));
	m->accepted_at_ms = accepted_at_ms;
}

void
oracle_taken_in(struct oracle_mail *m)
{
	for (uint32_t i = 0; i < m->recipient_count; i++) {
		struct oracle_recipient *r = &m->recipients[i];
		r->due_is_known = true;
		r->claimed_ms = oracle_wall_ms();
	}
}

/* When it was due at the latest, were the relay up. */
static uint64_t
due_ms(const struct oracle_mail *m, const struct oracle_recipient *r)
{
	uint64_t due = r->retry_at_ms > m->accepted_at_ms ? r->retry_at_ms : m->accepted_at_ms;

	/* What was asked for last may be durable, although nobody was told. */
	if (!r->due_is_known && r->asked_retry_ms > due)
		due = r->asked_retry_ms;
	due = due > m->free_since_ms ? due : m->free_since_ms;
	due = due > world->oracle->refused_ms ? due : world->oracle->refused_ms;
	due = due > world->oracle->resumed_ms[r->site] ? due : world->oracle->resumed_ms[r->site];
	return due > world->oracle->up_since_ms ? due : world->oracle->up_since_ms;
}

/* Is a time that comes back the one that was recorded? */
static bool
is_time(uint64_t seen_ms, uint64_t recorded_ms)
{
	uint64_t slack_ms = world->oracle->clock_slack_ms;

	return seen_ms + slack_ms >= recorded_ms && seen_ms <= recorded_ms + slack_ms;
}

static void
see(struct oracle_mail *m, uint32_t recipient, const struct mail_recipient *seen)
{
	struct oracle_recipient *r = &m->recipients[recipient];
	uint8_t notified = seen->notified ? 2 : 1;

	if (seen->attempts < r->attempts_least || seen->attempts > r->attempts_most)
		sim_fail("mail %u recipient %u is handed out with %u attempts, not %u to %u",
			 m->number, recipient, seen->attempts, r->attempts_least, r->attempts_most);
	if (!(r->notified & notified))
		sim_fail("mail %u recipient %u is handed out, and it was %s that it is delayed",
			 m->number, recipient, seen->notified ? "never told" : "told");
	if (r->due_is_known && !is_time(seen->retry_at_ms, r->retry_at_ms))
		sim_fail("mail %u recipient %u is handed out as due %lld s after the time that was "
			 "recorded",
			 m->number, recipient, seconds(seen->retry_at_ms, r->retry_at_ms));
	r->attempts_least = r->attempts_most = seen->attempts;
	r->notified = notified;
	r->retry_at_ms = seen->retry_at_ms;
	r->due_is_known = true;
	r->may_be_over = false;
	r->asked = r->executed = 0;
}

void
oracle_claimed(struct oracle_mail *m, const struct queue_item *item, uint64_t now_ms)
{
	const struct mail_envelope *e = item->mail->envelope;
	uint64_t first_ms = UINT64_MAX;

	if (!is_time(e->accepted_at_ms, m->put_at_ms))
		sim_fail("mail %u is handed out as accepted %lld s after it was", m->number,
			 seconds(e->accepted_at_ms, m->put_at_ms));
	m->accepted_at_ms = e->accepted_at_ms; /* what follows is counted from there */
	for (uint32_t i = queue_item_recipient(item, 0); i < e->recipient_count;
	     i = queue_item_recipient(item, i + 1)) {
		uint32_t number = oracle_recipient_of(m, e->recipients[i].address);
		struct oracle_recipient *r = &m->recipients[number];
		see(m, number, &e->recipients[i]);
		first_ms = r->retry_at_ms < first_ms ? r->retry_at_ms : first_ms;
		uint64_t due = due_ms(m, r);
		uint64_t late_ms = now_ms > due ? now_ms - due : 0;
		if (late_ms > world->oracle->latest_ms)
			world->oracle->latest_ms = late_ms;
		r->claimed_ms = now_ms;
		r->repeated = false;
	}
	/* Recipients of one site are tried together, when the first of them is due. */
	if (first_ms != UINT64_MAX && now_ms < first_ms)
		sim_fail("mail %u is handed out %llu ms before any of it is due", m->number,
			 (unsigned long long)(first_ms - now_ms));
}

/* ---- outcomes ---- */

/* When its sender is to be told of the delay; UINT64_MAX: never. */
static uint64_t
late_at_ms(const struct oracle_mail *m, const struct oracle_recipient *r)
{
	uint64_t delay_ms = world->oracle->terms.delay_ms;

	return delay_ms != 0 && oracle_wants(r, NOTIFY_DELAY) ? m->accepted_at_ms + delay_ms
							      : UINT64_MAX;
}

/* An attempt may be early where one of these moments would be passed otherwise. */
static void
judge_pause(const struct oracle_mail *m, uint32_t recipient, uint64_t retry_at_ms, uint64_t from_ms,
	    uint64_t now_ms)
{
	const struct oracle_recipient *r = &m->recipients[recipient];
	const struct terms *t = &world->oracle->terms;
	unsigned attempts = r->attempts_most + 1U;
	uint64_t end_ms = m->accepted_at_ms + t->lifetime_ms;
	uint64_t late_ms = r->notified == 1 ? late_at_ms(m, r) : UINT64_MAX;
	bool is_moved = retry_at_ms == end_ms || retry_at_ms == late_ms;

	world->oracle->moved_attempts += is_moved;
	if (retry_at_ms + TURN_MS < terms_earliest_ms(t, attempts, from_ms) && !is_moved)
		sim_fail("mail %u recipient %u is tried again %lld s after attempt %u, too early",
			 m->number, recipient, seconds(retry_at_ms, now_ms), attempts);
	if (retry_at_ms > terms_latest_ms(t, attempts, now_ms))
		sim_fail("mail %u recipient %u is tried again %lld s after attempt %u, too late",
			 m->number, recipient, seconds(retry_at_ms, now_ms), attempts);
	if (end_ms > now_ms && retry_at_ms > end_ms)
		sim_fail("mail %u recipient %u waits for %lld s beyond the end of its time",
			 m->number, recipient, seconds(retry_at_ms, end_ms));
	if (late_ms > now_ms && late_ms != UINT64_MAX && retry_at_ms > late_ms)
		sim_fail("mail %u recipient %u waits for %lld s beyond the time at which its "
			 "sender is to be told",
			 m->number, recipient, seconds(retry_at_ms, late_ms));
}

static void
judge_delay(const struct oracle_mail *m, uint32_t recipient, bool told, uint64_t from_ms,
	    uint64_t now_ms)
{
	const struct oracle_recipient *r = &m->recipients[recipient];
	uint64_t late_ms = late_at_ms(m, r);

	if (told && late_ms == UINT64_MAX)
		sim_fail("mail %u recipient %u: its sender is told of the delay, unasked",
			 m->number, recipient);
	if (told && now_ms < late_ms)
		sim_fail("mail %u recipient %u: its sender is told of the delay %lld s too early",
			 m->number, recipient, seconds(late_ms, now_ms));
	if (told && r->notified == 2)
		sim_fail("mail %u recipient %u: its sender is told of the delay again", m->number,
			 recipient);
	if (!told && r->notified == 1 && from_ms >= late_ms && !r->repeated &&
	    !world->oracle->is_scarce)
		sim_fail("mail %u recipient %u is late for %lld s, and its sender is not told",
			 m->number, recipient, seconds(now_ms, late_ms));
}

static void
judge(struct oracle_mail *m, const struct queue_result *result, uint64_t from_ms, uint64_t now_ms)
{
	struct oracle_recipient *r = &m->recipients[result->recipient];
	uint64_t end_ms = m->accepted_at_ms + world->oracle->terms.lifetime_ms;

	r->asked |= (uint8_t)(1 << result->state);
	r->counts = result->tried;
	r->tells_delay = result->notified;
	r->asked_retry_ms = result->retry_at_ms;
	r->executed = 0;
	r->is_orphan = false;
	r->asked_by = (uint8_t)world->node;
	if (result->state == RECIPIENT_FAILED) {
		if (now_ms < end_ms && !r->refused)
			sim_fail(
				"mail %u recipient %u fails %lld s before its time is over, and no "
				"sink has refused it",
				m->number, result->recipient, seconds(end_ms, now_ms));
		if (now_ms >= end_ms && !r->expired)
			r->expired_us = world->now_us;
		r->expired |= now_ms >= end_ms;
		r->possible |= 1 << RECIPIENT_FAILED;
	}
	if (result->state != RECIPIENT_PENDING)
		return;
	if (!result->tried) {
		if (result->retry_at_ms > now_ms)
			sim_fail("mail %u recipient %u was not tried, and has to wait for it",
				 m->number, result->recipient);
		return;
	}
	if (from_ms >= end_ms)
		sim_fail("mail %u recipient %u is to be tried again %lld s after its time was over",
			 m->number, result->recipient, seconds(now_ms, end_ms));
	judge_pause(m, result->recipient, result->retry_at_ms, from_ms, now_ms);
	judge_delay(m, result->recipient, result->notified, from_ms, now_ms);
}

/* Is this recorded in the turn that has decided it: no report was, or had to be, made before? */
static bool
is_prompt(const struct oracle_mail *m, const struct queue_result *results, uint32_t count,
	  uint64_t now_ms)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct oracle_recipient *r = &m->recipients[results[i].recipient];
		bool reports = results[i].state != RECIPIENT_PENDING ||
			       (r->notified == 1 && now_ms >= late_at_ms(m, r));
		if (r->repeated || reports)
			return false;
	}
	return true;
}

void
oracle_judge_times(struct oracle_mail *m, const struct queue_result *results, uint32_t count,
		   bool has_notice, uint64_t now_ms)
{
	bool prompt = !has_notice && is_prompt(m, results, count, now_ms);

	for (uint32_t i = 0; i < count; i++) {
		const struct oracle_recipient *r = &m->recipients[results[i].recipient];
		judge(m, &results[i], prompt ? now_ms : r->claimed_ms, now_ms);
	}
}

void
oracle_judge_report(struct oracle_mail *m, const struct queue_record *q, uint64_t now_ms)
{
	uint64_t end_ms =
		q->item->mail->envelope->accepted_at_ms + world->oracle->terms.lifetime_ms;

	for (uint32_t i = 0; i < q->result_count; i++) {
		if (q->results[i].state != RECIPIENT_FAILED)
			continue;
		/* No sink refuses one. */
		if (now_ms < end_ms)
			sim_fail("mail %u: a report on it fails %lld s before its time is over",
				 m->number, seconds(end_ms, now_ms));
		m->report_lost = true;
	}
}

void
oracle_times_recorded(struct oracle_mail *m, const struct queue_result *result)
{
	struct oracle *o = world->oracle;
	struct oracle_recipient *r = &m->recipients[result->recipient];

	r->repeated = false;
	r->asked = r->executed = 0;
	r->retry_at_ms = result->retry_at_ms;
	r->due_is_known = true;
	if (result->notified)
		r->notified = 2;
	r->delay_recorded |= result->notified;
	o->delays += result->notified;
	o->expired += result->state == RECIPIENT_FAILED && !r->refused;
	if (result->state != RECIPIENT_PENDING || !result->tried)
		return;
	o->attempts++;
	r->attempts_least++;
	r->attempts_most = r->attempts_least;
}

void
oracle_times_failed(struct oracle_mail *m, const struct queue_result *results, uint32_t count)
{
	world->oracle->refused_ms = oracle_wall_ms();
	for (uint32_t i = 0; i < count; i++)
		m->recipients[results[i].recipient].repeated = true;
}

void
oracle_times_ended(struct oracle_recipient *r)
{
	bool pending = r->asked & 1 << RECIPIENT_PENDING;

	if (r->asked != 0 && !oracle_settle(r)) {
		r->due_is_known = false;
		if (pending && r->counts)
			r->attempts_most++;
		if (pending && r->tells_delay)
			r->notified |= 2;
		if (r->asked & ~(1 << RECIPIENT_PENDING))
			r->may_be_over = true;
	}
	r->asked = r->executed = 0;
	r->repeated = r->counts = r->tells_delay = r->is_orphan = false;
}

void
oracle_holding(struct mail_id id, bool hold)
{
	struct oracle_mail *m = oracle_find(id);

	if (m != NULL && hold)
		m->held |= 2;
}

void
oracle_held(struct mail_id id, bool hold)
{
	struct oracle_mail *m = oracle_find(id);

	if (m == NULL)
		return; /* a report */
	m->held = hold ? 2 : 1;
	m->free_since_ms = oracle_wall_ms();
}

void
oracle_suspended(unsigned site, bool suspended)
{
	struct oracle *o = world->oracle;

	if (o->suspended[site] && !suspended)
		o->resumed_ms[site] = oracle_wall_ms();
	if (!o->suspended[site] && suspended)
		o->suspended_ms[site] = oracle_wall_ms();
	o->suspended[site] = suspended;
	sim_note("suspended", site, suspended);
}

void
oracle_connects(unsigned site)
{
	const struct oracle *o = world->oracle;

	if (o->suspended[site] && oracle_wall_ms() > o->suspended_ms[site] + UNDER_WAY_MS)
		sim_fail("a connection to site %u, which has been suspended for %lld s", site,
			 seconds(oracle_wall_ms(), o->suspended_ms[site]));
}

/* ---- the watch ---- */

static bool
is_waiting(const struct oracle_mail *m, const struct oracle_recipient *r)
{
	return r->offered && m->alive && !world->oracle->suspended[r->site] && m->held == 1 &&
	       !r->may_be_over && r->recorded[RECIPIENT_DELIVERED] == 0 &&
	       r->recorded[RECIPIENT_FAILED] == 0;
}

static void
watch(const struct oracle_mail *m, uint32_t recipient, uint64_t now_ms)
{
	struct oracle *o = world->oracle;
	const struct oracle_recipient *r = &m->recipients[recipient];
	uint64_t due = due_ms(m, r);
	uint64_t late_ms = late_at_ms(m, r);
	uint64_t end_ms = m->accepted_at_ms + o->terms.lifetime_ms;
	uint64_t slack_us = o->terms.slack_ms * 1000;
	uint64_t lost_us = o->unreachable_until_us[r->site];

	/* What a dead incarnation leaves comes all at once, or what was in delivery one after the
	 * other, each alone, and anew for each death: a turn at a silent next hop takes minutes. */
	uint64_t grace_ms = o->terms.grace_ms;
	if (lost_us != 0)
		grace_ms *= o->is_remote ? 2 : o->incarnation;
	end_ms = end_ms > due ? end_ms : due;
	if (now_ms > end_ms + grace_ms)
		sim_fail("mail %u recipient %u (site %u) is queued, and its time has been over for "
			 "%lld s",
			 m->number, recipient, r->site, seconds(now_ms, end_ms));
	bool was_lost =
		lost_us != 0 && (lost_us == UINT64_MAX || world->now_us < lost_us + slack_us);
	if (now_ms > due + o->terms.slack_ms && !was_lost)
		sim_fail("mail %u recipient %u has been due for %lld s", m->number, recipient,
			 seconds(now_ms, due));
	if (late_ms == UINT64_MAX || r->notified != 1 || r->repeated || o->is_scarce)
		return;
	late_ms = late_ms > due ? late_ms : due;
	if (now_ms > late_ms + grace_ms)
		sim_fail("mail %u recipient %u is late for %lld s, and its sender was not told",
			 m->number, recipient, seconds(now_ms, late_ms));
}

void
oracle_watch_times(void)
{
	struct oracle *o = world->oracle;
	uint64_t now_ms = oracle_wall_ms();

	if (now_ms < o->watched_ms + WATCH_MS)
		return;
	o->watched_ms = now_ms;
	for (uint32_t i = 0; i < o->mail_count; i++)
		for (uint32_t k = 0; k < o->mails[i].recipient_count; k++)
			if (is_waiting(&o->mails[i], &o->mails[i].recipients[k]))
				watch(&o->mails[i], k, now_ms);
}
