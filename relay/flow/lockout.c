/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/lockout.h"

#include "core/network.h"
#include "core/strikes.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"

/* Users and addresses must not meet in the table. */
static const uint64_t user_salt = 0x6c6f636b6f757473u;

static const struct config_lockout *
options_of(const struct session *s)
{
	return &s->routing->config->lockout;
}

static struct strikes *
strikes_of(const struct session *s)
{
	return s->flow->worker->strikes;
}

static uint64_t
user_key(uint64_t key_seed, struct span user)
{
	return span_hash_nocase(user, key_seed ^ user_salt);
}

/* One key of two, each of which is as good as random (the finish of splitmix64). */
static uint64_t
both(uint64_t a, uint64_t b)
{
	uint64_t h = a ^ b * 0x9e3779b97f4a7c15u;

	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 27) * 0x94d049bb133111ebu;
	return h ^ h >> 31;
}

static bool
is_exempt(const struct session *s)
{
	return config_network_contains(&options_of(s)->exempt, &s->peer.any);
}

/* Has the user logged in from here lately? */
static bool
is_at_home(const struct session *s, uint64_t user)
{
	return options_of(s)->known_ms > 0 &&
	       strikes_is_noted(strikes_of(s), both(user, s->limit_key), s->flow->worker->now_ms);
}

bool
lockout_has_address(const struct session *s)
{
	return options_of(s)->address_failures > 0 && !is_exempt(s) &&
	       strikes_look(strikes_of(s), s->limit_key, s->flow->worker->now_ms).locked;
}

struct lockout_answer
lockout_judge(struct session *s, struct span user)
{
	uint64_t key = user_key(s->flow->key_seed, user);
	struct lockout_answer answer = { .row = REPLY_NONE };

	if (lockout_has_address(s)) {
		flow_count_locked_out(s->flow, LOCKOUT_ADDRESS);
		answer.row = REPLY_ADDRESS_LOCKED;
		answer.reason = CLOSE_LOCKED_OUT;
	} else if (options_of(s)->user_failures > 0 &&
		   strikes_look(strikes_of(s), key, s->flow->worker->now_ms).locked &&
		   !is_at_home(s, key)) {
		flow_count_locked_out(s->flow, LOCKOUT_USER);
		answer.row = REPLY_USER_LOCKED;
		answer.delay_ms = options_of(s)->delay_max_ms;
	}
	return answer;
}

/* Remembers its name, in place of the oldest where there is no room. */
static void
remember(struct lockouts *all, enum lockout_kind kind, uint64_t key, struct span name)
{
	struct lockout_name *n;

	if (all->count < LOCKOUT_NAMES) {
		n = &all->names[all->count++];
	} else {
		n = &all->names[all->oldest];
		all->oldest = (all->oldest + 1) % LOCKOUT_NAMES;
	}
	name = span_first(name, LOCKOUT_NAME_MAX);
	n->key = key;
	n->kind = (uint8_t)kind;
	n->size = (uint8_t)name.size;
	if (name.size > 0)
		memcpy(n->text, name.data, name.size);
}

static void
began(struct session *s, enum lockout_kind kind, uint64_t key, struct span name, uint32_t failures)
{
	remember(&s->flow->lockouts, kind, key, name);
	flow_event_locked(s->flow, s, kind, name, failures);
}

/* Counts one failure of the key; says how many there are. */
static uint32_t
count(struct session *s, enum lockout_kind kind, uint64_t key, uint32_t most, struct span name)
{
	const struct config_lockout *o = options_of(s);
	struct strikes_rule rule = {
		.most = most > 0 ? most : STRIKES_MAX,
		.window_ms = o->window_ms,
		.lock_ms = o->duration_ms,
	};
	struct strike strike = strikes_add(strikes_of(s), key, &rule, s->flow->worker->now_ms);

	if (strike.began && most > 0)
		began(s, kind, key, name, strike.count);
	return strike.count;
}

/* Doubled with each failure. */
static uint64_t
delay_ms(const struct config_lockout *o, uint32_t failures)
{
	uint64_t delay = o->delay_ms;

	for (uint32_t i = 1; i < failures && delay < o->delay_max_ms; i++)
		delay *= 2;
	return delay < o->delay_max_ms ? delay : o->delay_max_ms;
}

uint64_t
lockout_failed(struct session *s, struct span user, uint64_t attempt)
{
	const struct config_lockout *o = options_of(s);
	uint64_t now_ms = s->flow->worker->now_ms;
	uint64_t key = user_key(s->flow->key_seed, user);
	uint32_t by_address = 0;
	uint32_t by_user;
	uint8_t memory[64];
	struct buf address = buf_of(memory, sizeof memory);

	if (attempt != 0 &&
	    strikes_note(strikes_of(s), both(attempt, s->limit_key), o->window_ms, now_ms)) {
		by_address = strikes_look(strikes_of(s), s->limit_key, now_ms).count;
		by_user = strikes_look(strikes_of(s), key, now_ms).count;
	} else {
		net_address_show_ip(&s->peer, &address);
		if (!is_exempt(s))
			by_address = count(s, LOCKOUT_ADDRESS, s->limit_key, o->address_failures,
					   buf_span(&address));
		by_user = count(s, LOCKOUT_USER, key, o->user_failures, user);
	}
	return delay_ms(o, by_user > by_address && !is_at_home(s, key) ? by_user : by_address);
}

void
lockout_ok(struct session *s, struct span user)
{
	uint64_t now_ms = s->flow->worker->now_ms;
	uint64_t key = user_key(s->flow->key_seed, user);

	/* A lock stays for those who are elsewhere. */
	if (!strikes_look(strikes_of(s), key, now_ms).locked)
		strikes_clear(strikes_of(s), key, now_ms);
	if (options_of(s)->known_ms > 0)
		strikes_note(strikes_of(s), both(key, s->limit_key), options_of(s)->known_ms,
			     now_ms);
}

uint64_t
lockout_until(const struct strikes *all, const struct lockout_name *n, uint64_t now_ms)
{
	struct strike strike = strikes_look(all, n->key, now_ms);

	return strike.locked ? strike.until_ms : 0;
}

/* The key of an address as sessions have it; false where the name is none. */
static bool
address_key(uint64_t key_seed, struct span name, uint64_t *key)
{
	struct net_address address;
	struct ip ip;

	if (!ip_parse(name, &ip))
		return false;
	net_address_of_ip(ip.bytes, sizeof ip.bytes, 0, &address);
	*key = net_address_hash_ip(&address, key_seed);
	return true;
}

bool
lockout_lift(struct strikes *all, uint64_t key_seed, struct span name, uint64_t now_ms)
{
	uint64_t key;

	if (!address_key(key_seed, name, &key))
		key = user_key(key_seed, name);
	return strikes_clear(all, key, now_ms);
}
