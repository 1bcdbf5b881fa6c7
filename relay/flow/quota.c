/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/quota.h"

#include <stdlib.h>

#include "core/limits.h"
#include "core/windows.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"

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

/* Both, or neither. */
static enum reply_row
take_both(const struct transaction *t, enum user_limit hour, enum user_limit day)
{
	if (!take(t, hour))
		return rows[hour];
	if (take(t, day))
		return REPLY_NONE;
	give(t, hour);
	return rows[day];
}

enum reply_row
quota_mail(struct transaction *t)
{
	enum reply_row row = take_both(t, USER_MAILS_PER_HOUR, USER_MAILS_PER_DAY);

	ASSERT(!t->mail_booked);
	t->mail_booked = row == REPLY_NONE;
	return row;
}

enum reply_row
quota_recipient(struct transaction *t)
{
	enum reply_row row = take_both(t, USER_RECIPIENTS_PER_HOUR, USER_RECIPIENTS_PER_DAY);

	t->recipients_booked += row == REPLY_NONE;
	return row;
}

void
quota_drop_recipient(struct transaction *t)
{
	ASSERT(t->recipients_booked > 0);
	t->recipients_booked--;
	give(t, USER_RECIPIENTS_PER_HOUR);
	give(t, USER_RECIPIENTS_PER_DAY);
}

void
quota_give_back(struct transaction *t)
{
	while (t->recipients_booked > 0)
		quota_drop_recipient(t);
	if (!t->mail_booked)
		return;
	t->mail_booked = false;
	give(t, USER_MAILS_PER_HOUR);
	give(t, USER_MAILS_PER_DAY);
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
