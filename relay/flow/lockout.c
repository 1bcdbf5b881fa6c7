/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/lockout.h"

#include <inttypes.h>

#include "core/network.h"
#include "core/strikes.h"
#include "queue/shares.h"
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

/* One key of two, each of which is as good as random (the finish of splitmix64). */
static uint64_t
both(uint64_t a, uint64_t b)
{
	uint64_t h = a ^ b * 0x9e3779b97f4a7c15u;

	h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 27) * 0x94d049bb133111ebu;
	return h ^ h >> 31;
}

/* Of a hash that is the same on all nodes (what they tell each other) one that nobody can aim for.
 */
static uint64_t
user_key_of_hash(uint64_t key_seed, uint64_t hash)
{
	return both(key_seed ^ user_salt, hash);
}

static uint64_t
user_hash(struct span user)
{
	return span_hash_nocase(user, user_salt);
}

static uint64_t
user_key(uint64_t key_seed, struct span user)
{
	return user_key_of_hash(key_seed, user_hash(user));
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

/* ---- what all nodes know ---- */

static const struct span kinds[] = {
	[LOCKOUT_ADDRESS] = { (const uint8_t *)"address", 7 },
	[LOCKOUT_USER] = { (const uint8_t *)"user", 4 },
};

static struct shares *
shares_of(const struct flow *f)
{
	return queue_shares(f->worker->queue);
}

/* An address as all nodes name it: of IPv6 its /64. */
static struct span
address_name(struct ip ip, struct buf *out)
{
	if (!ip_is_v4(&ip))
		memset(ip.bytes + 8, 0, 8);
	ip_show(&ip, out);
	return buf_span(out);
}

static struct span
user_name(struct span user, struct buf *out)
{
	buf_printf(out, "%016" PRIx64, user_hash(user));
	return buf_span(out);
}

static struct span
peer_name(const struct session *s, struct buf *out)
{
	struct ip ip;

	return ip_of_sockaddr(&s->peer.any, &ip) ? address_name(ip, out) : span_none();
}

static bool
hash_of_hex(struct span text, uint64_t *out)
{
	*out = 0;
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];
		bool is_digit = c >= '0' && c <= '9';
		if (!is_digit && (c < 'a' || c > 'f'))
			return false;
		*out = *out << 4 | (uint64_t)(is_digit ? c - '0' : c - 'a' + 10);
	}
	return text.size == 16;
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

/* The key of what another node names. */
static bool
key_of_name(const struct flow *f, struct span kind, struct span name, uint64_t *key)
{
	uint64_t hash;

	if (span_eq(kind, kinds[LOCKOUT_ADDRESS]))
		return address_key(f->key_seed, name, key);
	if (!span_eq(kind, kinds[LOCKOUT_USER]) || !hash_of_hex(name, &hash))
		return false;
	*key = user_key_of_hash(f->key_seed, hash);
	return true;
}

static void
on_strike(void *context, const struct share_strike *s)
{
	struct flow *f = context;
	struct strikes *all = f->worker->strikes;
	enum lockout_kind kind =
		span_eq(s->kind, kinds[LOCKOUT_USER]) ? LOCKOUT_USER : LOCKOUT_ADDRESS;
	const struct strike strike = {
		.count = s->count,
		.locked = s->locked,
		.until_ms = s->until_ms,
	};
	uint64_t key;

	if (!key_of_name(f, s->kind, s->name, &key))
		return;
	bool was_locked = strikes_look(all, key, f->worker->now_ms).locked;
	strikes_raise(all, key, &strike, f->worker->now_ms);
	if (s->locked && !was_locked && s->shown.size > 0)
		remember(&f->lockouts, kind, key, s->shown);
	if (s->began)
		flow_event_locked(f, NULL, kind, s->shown, s->count);
}

static void
on_lifted(void *context, struct span kind, struct span name)
{
	struct flow *f = context;
	uint64_t key;

	if (key_of_name(f, kind, name, &key))
		strikes_clear(f->worker->strikes, key, f->worker->now_ms);
}

/* A lock stays for those who are elsewhere. */
static void
forgive(struct flow *f, uint64_t key)
{
	struct strikes *all = f->worker->strikes;

	if (!strikes_look(all, key, f->worker->now_ms).locked)
		strikes_clear(all, key, f->worker->now_ms);
}

static void
on_forgiven(void *context, struct span kind, struct span name)
{
	struct flow *f = context;
	uint64_t key;

	if (key_of_name(f, kind, name, &key))
		forgive(f, key);
}

/* "USER ADDRESS": he has logged in from there. */
static void
on_told(void *context, struct span text)
{
	struct flow *f = context;
	struct span user = span_first(text, span_find(text, ' ', 0));
	struct span address = span_after(text, user.size < text.size ? user.size + 1 : text.size);
	uint64_t known_ms = f->routing->config->lockout.known_ms;
	uint64_t user_at, address_at;

	if (known_ms > 0 && key_of_name(f, kinds[LOCKOUT_USER], user, &user_at) &&
	    address_key(f->key_seed, address, &address_at))
		strikes_note(f->worker->strikes, both(user_at, address_at), known_ms,
			     f->worker->now_ms);
}

void
lockout_watch(struct flow *f)
{
	static const struct share_watcher watcher = { on_strike, on_lifted, on_forgiven, on_told };
	const struct config *c = f->routing->config;

	for (size_t i = 0; i < c->listeners_count; i++) {
		if (c->listeners[i].role == ROLE_SUBMISSION) {
			queue_watch_shares(f->worker->queue, &watcher, f);
			return;
		}
	}
}

/* Names that no user has are not shown to other nodes: they may be passwords. */
static struct span
shown_name(const struct session *s, enum lockout_kind kind, struct span name)
{
	const struct routing *r = s->flow->routing;

	if (kind == LOCKOUT_USER && (r == NULL || users_find(r->users, name) == NULL))
		return span_none();
	return name;
}

static void
tell_failure(struct session *s, enum lockout_kind kind, struct span name, bool locked,
	     const struct strikes_rule *rule)
{
	struct shares *shares = shares_of(s->flow);
	uint8_t memory[64];
	struct buf text = buf_of(memory, sizeof memory);
	struct share_strike strike = { .kind = kinds[kind], .locked = locked };

	if (shares == NULL)
		return;
	strike.name = kind == LOCKOUT_USER ? user_name(name, &text) : peer_name(s, &text);
	strike.shown = kind == LOCKOUT_USER ? shown_name(s, kind, name) : strike.name;
	if (strike.name.size > 0)
		shares_strike(shares, &strike, rule);
}

static void
tell_success(struct session *s, struct span user, bool is_new)
{
	struct shares *shares = shares_of(s->flow);
	uint8_t memory[128];
	struct buf text = buf_of(memory, sizeof memory);

	if (shares == NULL)
		return;
	shares_forgive(shares, kinds[LOCKOUT_USER], user_name(user, &text));
	if (!is_new)
		return;
	buf_append_byte(&text, ' ');
	peer_name(s, &text);
	shares_tell(shares, buf_span(&text));
}

enum err
lockout_lift_everywhere(struct flow *f, struct span name, struct share_lift *l)
{
	struct shares *shares = shares_of(f);
	uint8_t memory[64];
	struct buf text = buf_of(memory, sizeof memory);
	struct ip ip;

	if (shares == NULL)
		return ERR_NOT_FOUND;
	if (ip_parse(name, &ip))
		return shares_lift(shares, kinds[LOCKOUT_ADDRESS], address_name(ip, &text), l);
	return shares_lift(shares, kinds[LOCKOUT_USER], user_name(name, &text), l);
}

/* ---- failures and successes ---- */

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
	if (most > 0)
		tell_failure(s, kind, name, strike.locked, &rule);
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

	forgive(s->flow, key);
	bool is_new =
		options_of(s)->known_ms > 0 && !strikes_note(strikes_of(s), both(key, s->limit_key),
							     options_of(s)->known_ms, now_ms);
	tell_success(s, user, is_new);
}

uint64_t
lockout_until(const struct strikes *all, const struct lockout_name *n, uint64_t now_ms)
{
	struct strike strike = strikes_look(all, n->key, now_ms);

	return strike.locked ? strike.until_ms : 0;
}

bool
lockout_lift(struct strikes *all, uint64_t key_seed, struct span name, uint64_t now_ms)
{
	uint64_t key;

	if (!address_key(key_seed, name, &key))
		key = user_key(key_seed, name);
	return strikes_clear(all, key, now_ms);
}
