/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/quota.h"

#include <stdlib.h>

#include "core/limits.h"
#include "core/windows.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"
#include "relay/flow/policy.h"

enum { HOUR_MS = 3600 * 1000, DAY_MS = 24 * HOUR_MS };

struct quotas {
	struct windows *hours;
	struct windows *days;
};

/* The windows of a day are longer, and those of an hour count the other things apart. */
static const uint64_t salts[USER_LIMITS] = {
	[USER_MAILS_PER_HOUR] = 0x6d61696c73u,    [USER_MAILS_PER_DAY] = 0x6d61696c73u,
	[USER_RECIPIENTS_PER_HOUR] = 0x72637074u, [USER_RECIPIENTS_PER_DAY] = 0x72637074u,
	[USER_CONNECTIONS] = 0x636f6e6eu,
};

static const enum reply_row rows[USER_LIMITS] = {
	[USER_MAILS_PER_HOUR] = REPLY_MAILS_PER_HOUR,
	[USER_MAILS_PER_DAY] = REPLY_MAILS_PER_DAY,
	[USER_RECIPIENTS_PER_HOUR] = REPLY_RECIPIENTS_PER_HOUR,
	[USER_RECIPIENTS_PER_DAY] = REPLY_RECIPIENTS_PER_DAY,
	[USER_CONNECTIONS] = REPLY_USER_CONNECTIONS,
};

struct quotas *
quotas_new(size_t slots)
{
	struct quotas *q = calloc(1, sizeof *q);

	if (q == NULL)
		return NULL;
	q->hours = windows_new(slots, HOUR_MS);
	q->days = windows_new(slots, DAY_MS);
	if (q->hours == NULL || q->days == NULL) {
		quotas_free(q);
		return NULL;
	}
	return q;
}

void
quotas_free(struct quotas *q)
{
	if (q == NULL)
		return;
	windows_free(q->hours);
	windows_free(q->days);
	free(q);
}

uint32_t
quota_limit(const struct config *config, const struct user *u, enum user_limit which)
{
	const struct config_users_defaults *d = &config->users.defaults;

	if (u->limits[which] == USER_LIMIT_NONE)
		return 0;
	if (u->limits[which] != USER_LIMIT_STANDARD)
		return u->limits[which];
	switch (which) {
	case USER_MAILS_PER_HOUR:
		return d->mails_per_hour;
	case USER_MAILS_PER_DAY:
		return d->mails_per_day;
	case USER_RECIPIENTS_PER_HOUR:
		return d->recipients_per_hour;
	case USER_RECIPIENTS_PER_DAY:
		return d->recipients_per_day;
	case USER_CONNECTIONS:
		return d->connections;
	case USER_LIMITS:
		break;
	}
	return 0;
}

static uint32_t
limit_of(const struct session *s, enum user_limit which)
{
	return quota_limit(s->routing->config, s->user, which);
}

static uint64_t
key_of(const struct session *s, enum user_limit which)
{
	return span_hash_nocase(s->user->name, s->flow->key_seed ^ salts[which]);
}

static struct windows *
windows_of(const struct session *s, enum user_limit which)
{
	const struct quotas *q = s->flow->worker->quotas;

	return which == USER_MAILS_PER_HOUR || which == USER_RECIPIENTS_PER_HOUR ? q->hours
										 : q->days;
}

/* ---- counted by this node ---- */

static bool
take(const struct transaction *t, enum user_limit which)
{
	const struct session *s = t->session;
	uint32_t most = limit_of(s, which);

	if (most == 0 || windows_take(windows_of(s, which), key_of(s, which), most, t->started_ms))
		return true;
	flow_event_user_limit(s->flow, s, which, most);
	return false;
}

static void
give(const struct transaction *t, enum user_limit which)
{
	const struct session *s = t->session;

	if (limit_of(s, which) != 0)
		windows_give(windows_of(s, which), key_of(s, which), t->started_ms);
}

/* ---- counted by all nodes ---- */

/* In the order of shares' bits, which are those of enum user_limit. */
static const struct share_count shared_counts[SHARE_COUNTS] = {
	[USER_MAILS_PER_HOUR] = { .name = "mh", .period_ms = HOUR_MS },
	[USER_MAILS_PER_DAY] = { .name = "md", .period_ms = DAY_MS },
	/* Most mails have few recipients: they ask once. */
	[USER_RECIPIENTS_PER_HOUR] = { .name = "rh", .period_ms = HOUR_MS, .ahead = 4 },
	[USER_RECIPIENTS_PER_DAY] = { .name = "rd", .period_ms = DAY_MS, .ahead = 4 },
};

_Static_assert((unsigned)USER_CONNECTIONS == SHARE_COUNTS, "all limits but that are shared");

static unsigned
day_of(unsigned hour)
{
	return hour == USER_MAILS_PER_HOUR ? USER_MAILS_PER_DAY : USER_RECIPIENTS_PER_DAY;
}

static unsigned
bits_of(enum user_limit hour)
{
	return 1U << hour | 1U << day_of(hour);
}

static struct shares *
shares_of(const struct transaction *t)
{
	return queue_shares(t->session->flow->worker->queue);
}

static enum reply_row
refused(const struct transaction *t, enum user_limit which)
{
	const struct session *s = t->session;

	flow_event_user_limit(s->flow, s, which, limit_of(s, which));
	return rows[which];
}

static void
count_booked(struct transaction *t, enum user_limit hour)
{
	if (hour == USER_MAILS_PER_HOUR)
		t->quota.mail = true;
	else
		t->quota.recipients++;
}

static enum reply_row
row_of_share(struct transaction *t, enum share_answer answer)
{
	struct quota_booking *b = &t->quota;

	if (answer == SHARE_YES)
		count_booked(t, b->hour);
	else if (answer == SHARE_NO)
		return refused(t, b->use.used_up);
	else if (answer == SHARE_AWAY)
		return policy_row_of_err(t->session->flow, ERR_AWAY);
	return REPLY_NONE;
}

static void
on_answer(struct share_use *u, enum share_answer answer)
{
	struct transaction *t = CONTAINER_OF(u, struct transaction, quota.use);

	ASSERT(t->quota.waits);
	t->quota.waits = false;
	t->quota.on_booked(t, row_of_share(t, answer));
}

static enum reply_row
book_shared(struct transaction *t, struct shares *shares, enum user_limit hour)
{
	const struct session *s = t->session;
	struct share_count counts[SHARE_COUNTS];
	unsigned soon = hour == USER_MAILS_PER_HOUR ? bits_of(USER_RECIPIENTS_PER_HOUR) : 0;

	memcpy(counts, shared_counts, sizeof counts);
	for (unsigned i = 0; i < SHARE_COUNTS; i++)
		counts[i].most = limit_of(s, i);
	t->quota.hour = hour;
	t->quota.use.on_answer = on_answer;
	enum share_answer answer = shares_use(shares, SPAN("user"), s->user->name, counts,
					      bits_of(hour), soon, &t->quota.use);
	t->quota.waits = answer == SHARE_WAIT;
	return row_of_share(t, answer);
}

static void
give_both(const struct transaction *t, enum user_limit hour)
{
	struct shares *shares = shares_of(t);

	/* The store came or went meanwhile: it counts as sent, wherever that was. */
	if (t->quota.apart || shares != t->quota.shares)
		return;
	if (shares != NULL) {
		shares_unuse(shares, SPAN("user"), t->session->user->name, bits_of(hour),
			     t->started_ms);
		return;
	}
	give(t, hour);
	give(t, day_of(hour));
}

/* ---- booking ---- */

/* Both by the hour and the day, or neither. */
static enum reply_row
book(struct transaction *t, enum user_limit hour,
     void (*on_booked)(struct transaction *t, enum reply_row row))
{
	struct shares *shares = shares_of(t);

	ASSERT(!t->quota.waits);
	t->quota.apart = t->quota.mail && (t->quota.apart || shares != t->quota.shares);
	t->quota.shares = shares;
	t->quota.on_booked = on_booked;
	if (shares != NULL)
		return book_shared(t, shares, hour);
	if (!take(t, hour))
		return rows[hour];
	if (!take(t, day_of(hour))) {
		give(t, hour);
		return rows[day_of(hour)];
	}
	count_booked(t, hour);
	return REPLY_NONE;
}

enum reply_row
quota_mail(struct transaction *t, void (*on_booked)(struct transaction *t, enum reply_row row))
{
	ASSERT(!t->quota.mail);
	return book(t, USER_MAILS_PER_HOUR, on_booked);
}

enum reply_row
quota_recipient(struct transaction *t, void (*on_booked)(struct transaction *t, enum reply_row row))
{
	return book(t, USER_RECIPIENTS_PER_HOUR, on_booked);
}

void
quota_forget(struct transaction *t)
{
	shares_forget(&t->quota.use);
	t->quota.waits = false;
}

void
quota_drop_recipient(struct transaction *t)
{
	ASSERT(t->quota.recipients > 0);
	t->quota.recipients--;
	give_both(t, USER_RECIPIENTS_PER_HOUR);
}

void
quota_give_back(struct transaction *t)
{
	quota_forget(t);
	while (t->quota.recipients > 0)
		quota_drop_recipient(t);
	if (!t->quota.mail)
		return;
	t->quota.mail = false;
	give_both(t, USER_MAILS_PER_HOUR);
}

enum reply_row
quota_connect(struct session *s)
{
	uint32_t most = limit_of(s, USER_CONNECTIONS);

	ASSERT(s->user != NULL && !s->counted_user);
	if (most == 0)
		return REPLY_NONE;
	s->counted_user = limits_take(s->flow->worker->limits, key_of(s, USER_CONNECTIONS), most);
	if (s->counted_user)
		return REPLY_NONE;
	flow_event_user_limit(s->flow, s, USER_CONNECTIONS, most);
	return rows[USER_CONNECTIONS];
}

void
quota_disconnect(struct session *s)
{
	if (s->counted_user)
		limits_give(s->flow->worker->limits, key_of(s, USER_CONNECTIONS));
	s->counted_user = false;
}
