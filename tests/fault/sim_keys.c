/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/sim_keys.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_elements.h"

enum { BUCKETS = 4096, NUMBER_SIZE = 40 };
struct keys {
	struct key *buckets[BUCKETS];
	const struct keys_events *events;
	void *context;
	uint64_t now_us;
	bool wrote; /* the command at hand changed something */
};

static void
text_score(struct text *t, double score)
{
	char number[NUMBER_SIZE];
	bool whole = fabs(score) < 1e15 && score == (double)(int64_t)score;
	int size = whole ? snprintf(number, sizeof number, "%" PRId64, (int64_t)score)
			 : snprintf(number, sizeof number, "%.17g", score);

	text_bulk(t, span_of(number, (size_t)size));
}

/* ---- keys ---- */

static uint64_t
now_ms(const struct keys *k)
{
	return k->now_us / 1000;
}

static struct key **
place_of(struct keys *k, struct span name)
{
	struct key **at = &k->buckets[sim_hash(1, name.data, name.size) % BUCKETS];

	while (*at != NULL && !span_eq(blob_span(&(*at)->name), name))
		at = &(*at)->next;
	return at;
}

static void
delete_at(struct key **at)
{
	struct key *key = *at;

	*at = key->next;
	for (size_t i = 0; i < key->count; i++) {
		blob_fini(&key->elements[i].name);
		blob_fini(&key->elements[i].value);
	}
	world_give(key->elements, elements_size(key));
	blob_fini(&key->name);
	blob_fini(&key->string);
	sim_release(key, sizeof *key);
}

/* Where it is, and not expired. */
static struct key **
find(struct keys *k, struct span name)
{
	struct key **at = place_of(k, name);

	if (*at == NULL)
		return NULL;
	if ((*at)->expires_ms != 0 && now_ms(k) > (*at)->expires_ms) {
		delete_at(at); /* and there is the next one of the bucket now */
		return NULL;
	}
	return at;
}

/* NULL: it is not there. A key of another kind is a bug of who asks. */
static struct key *
look_up(struct keys *k, struct span name, enum kind kind)
{
	struct key **at = find(k, name);

	if (at != NULL && (*at)->kind != kind)
		sim_fail("redis: %.*s is of another kind", SPAN_ARG(name));
	return at == NULL ? NULL : *at;
}

static struct key *
look_up_or_make(struct keys *k, struct span name, enum kind kind)
{
	struct key *key = look_up(k, name, kind);

	if (key != NULL)
		return key;
	key = sim_allocate(sizeof *key);
	key->kind = kind;
	blob_set(&key->name, name);
	*place_of(k, name) = key;
	return key;
}

static void
delete_if_empty(struct keys *k, struct key *key)
{
	if (key->count == 0)
		delete_at(place_of(k, blob_span(&key->name)));
}

/* ---- arguments ---- */

static int64_t
number_of(struct span s)
{
	char text[NUMBER_SIZE];
	char *end;

	if (s.size == 0 || s.size >= sizeof text)
		sim_fail("redis: no number: %.*s", SPAN_ARG(s));
	memcpy(text, s.data, s.size);
	text[s.size] = '\0';
	errno = 0;
	int64_t n = strtoll(text, &end, 10);
	if (*end != '\0' || errno != 0)
		sim_fail("redis: no number: %s", text);
	return n;
}

static double
score_of(struct span s)
{
	char text[NUMBER_SIZE];
	char *end;

	ASSERT(s.size > 0 && s.size < sizeof text);
	memcpy(text, s.data, s.size);
	text[s.size] = '\0';
	double score = strtod(text, &end);
	if (*end != '\0')
		sim_fail("redis: no score: %s", text);
	return score;
}

static bool
is_word(struct span s, const char *word)
{
	return span_eq_nocase(s, span_of_string(word));
}

struct command {
	struct keys *k;
	const struct span *words;
	unsigned count;
	struct text *out;
};

/* ---- strings and keys ---- */

static void
run_set(struct command *c)
{
	struct key **at = find(c->k, c->words[1]);
	bool is_setex = is_word(c->words[0], "SETEX");
	uint64_t unit_ms = is_setex || (c->count == 5 && is_word(c->words[3], "EX")) ? 1000
			   : c->count == 5 && is_word(c->words[3], "PX")             ? 1
										     : 0;

	if (unit_ms == 0 && c->count != 3)
		sim_fail("redis: an option of SET that is not modelled");
	if (at != NULL)
		delete_at(at);
	struct key *key = look_up_or_make(c->k, c->words[1], KIND_STRING);
	blob_set(&key->string, c->words[is_setex ? 3 : 2]);
	if (unit_ms > 0)
		key->expires_ms =
			now_ms(c->k) + (uint64_t)number_of(c->words[is_setex ? 2 : 4]) * unit_ms;
	c->k->wrote = true;
	text_status(c->out, "OK");
}

static void
run_get(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_STRING);

	if (key == NULL)
		text_nothing(c->out);
	else
		text_bulk(c->out, blob_span(&key->string));
}

static void
run_getrange(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_STRING);
	int64_t size = key == NULL ? 0 : (int64_t)key->string.size;
	int64_t from = number_of(c->words[2]), to = number_of(c->words[3]);

	from = from < 0 ? (from + size > 0 ? from + size : 0) : from;
	to = to < 0 ? to + size : to < size ? to : size - 1;
	if (from > to)
		text_bulk(c->out, span_none());
	else
		text_bulk(c->out, span_of(key->string.data + from, (size_t)(to - from + 1)));
}

static void
run_strlen(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_STRING);

	text_number(c->out, key == NULL ? 0 : (int64_t)key->string.size);
}

static void
add_to(struct command *c, int64_t by)
{
	struct key *key = look_up_or_make(c->k, c->words[1], KIND_STRING);
	int64_t n = (key->string.size == 0 ? 0 : number_of(blob_span(&key->string))) + by;
	char text[NUMBER_SIZE];
	int size = snprintf(text, sizeof text, "%" PRId64, n);

	blob_set(&key->string, span_of(text, (size_t)size));
	c->k->wrote = true;
	text_number(c->out, n);
}

static void
run_incr(struct command *c)
{
	add_to(c, 1);
}

static void
run_decrby(struct command *c)
{
	add_to(c, -number_of(c->words[2]));
}

static void
run_exists(struct command *c)
{
	int64_t n = 0;

	for (unsigned i = 1; i < c->count; i++)
		n += find(c->k, c->words[i]) != NULL;
	text_number(c->out, n);
}

static void
run_unlink(struct command *c)
{
	int64_t n = 0;

	for (unsigned i = 1; i < c->count; i++) {
		struct key **at = find(c->k, c->words[i]);
		if (at != NULL) {
			delete_at(at);
			n++;
		}
	}
	c->k->wrote = n > 0;
	text_number(c->out, n);
}

static void
run_expire(struct command *c)
{
	struct key **at = find(c->k, c->words[1]);

	if (at != NULL)
		(*at)->expires_ms = now_ms(c->k) + (uint64_t)number_of(c->words[2]) * 1000;
	c->k->wrote = at != NULL;
	text_number(c->out, at != NULL);
}

static void
run_persist(struct command *c)
{
	struct key **at = find(c->k, c->words[1]);
	bool had = at != NULL && (*at)->expires_ms != 0;

	if (had)
		(*at)->expires_ms = 0;
	c->k->wrote = had;
	text_number(c->out, had);
}

static void
run_pttl(struct command *c)
{
	struct key **at = find(c->k, c->words[1]);

	if (at == NULL)
		text_number(c->out, -2);
	else if ((*at)->expires_ms == 0)
		text_number(c->out, -1);
	else
		text_number(c->out, (int64_t)((*at)->expires_ms - now_ms(c->k)));
}

static void
run_type(struct command *c)
{
	static const char *const names[] = { "string", "hash", "set", "zset", "list" };
	struct key **at = find(c->k, c->words[1]);

	text_status(c->out, at == NULL ? "none" : names[(*at)->kind]);
}

static void
drop_expired(struct keys *k)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		struct key **at = &k->buckets[i];
		while (*at != NULL) {
			if ((*at)->expires_ms != 0 && now_ms(k) > (*at)->expires_ms)
				delete_at(at);
			else
				at = &(*at)->next;
		}
	}
}

uint64_t
keys_count(struct keys *k)
{
	uint64_t n = 0;

	drop_expired(k);
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct key *key = k->buckets[i]; key != NULL; key = key->next)
			n++;
	}
	return n;
}

/* Of all keys; patterns are not modelled. */
static void
run_keys(struct command *c)
{
	if (!is_word(c->words[1], "*"))
		sim_fail("redis: KEYS with a pattern is not modelled");
	text_array(c->out, keys_count(c->k));
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct key *key = c->k->buckets[i]; key != NULL; key = key->next)
			text_bulk(c->out, blob_span(&key->name));
	}
}

static void
run_flushall(struct command *c)
{
	keys_clear(c->k);
	c->k->wrote = true;
	text_status(c->out, "OK");
}

static void
run_time(struct command *c)
{
	char text[NUMBER_SIZE];
	int size = snprintf(text, sizeof text, "%" PRIu64, c->k->now_us / 1000000);

	text_array(c->out, 2);
	text_bulk(c->out, span_of(text, (size_t)size));
	size = snprintf(text, sizeof text, "%" PRIu64, c->k->now_us % 1000000);
	text_bulk(c->out, span_of(text, (size_t)size));
}

static void
run_publish(struct command *c)
{
	unsigned n = c->k->events->on_publish(c->k->context, c->words[1], c->words[2]);

	text_number(c->out, n);
}

/* ---- hashes ---- */

static void
reply_value(struct command *c, const struct element *e)
{
	if (e == NULL)
		text_nothing(c->out);
	else
		text_bulk(c->out, blob_span(&e->value));
}

static void
run_hget(struct command *c)
{
	reply_value(c, element_find(look_up(c->k, c->words[1], KIND_HASH), c->words[2]));
}

static void
run_hmget(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_HASH);

	text_array(c->out, c->count - 2);
	for (unsigned i = 2; i < c->count; i++)
		reply_value(c, element_find(key, c->words[i]));
}

static void
run_hexists(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_HASH);

	text_number(c->out, element_find(key, c->words[2]) != NULL);
}

static void
run_hset(struct command *c)
{
	struct key *key = look_up_or_make(c->k, c->words[1], KIND_HASH);
	int64_t added = 0;

	if (c->count % 2 != 0)
		sim_fail("redis: HSET with a field and no value");
	for (unsigned i = 2; i < c->count; i += 2) {
		struct element *e = element_find(key, c->words[i]);
		if (e == NULL) {
			e = element_add(key, 0, c->words[i]);
			added++;
		}
		blob_set(&e->value, c->words[i + 1]);
	}
	c->k->wrote = true;
	text_number(c->out, added);
}

static void
run_hsetnx(struct command *c)
{
	struct key *key = look_up_or_make(c->k, c->words[1], KIND_HASH);

	if (element_find(key, c->words[2]) != NULL) {
		text_number(c->out, 0);
		return;
	}
	struct element *e = element_add(key, 0, c->words[2]);
	blob_set(&e->value, c->words[3]);
	c->k->wrote = true;
	text_number(c->out, 1);
}

static void
run_hgetall(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_HASH);
	size_t count = key == NULL ? 0 : key->count;

	text_array(c->out, 2 * count);
	for (size_t i = 0; i < count; i++) {
		text_bulk(c->out, blob_span(&key->elements[i].name));
		text_bulk(c->out, blob_span(&key->elements[i].value));
	}
}

/* HKEYS and SMEMBERS. */
static void
reply_names(struct command *c, enum kind kind)
{
	struct key *key = look_up(c->k, c->words[1], kind);
	size_t count = key == NULL ? 0 : key->count;

	text_array(c->out, count);
	for (size_t i = 0; i < count; i++)
		text_bulk(c->out, blob_span(&key->elements[i].name));
}

static void
run_hkeys(struct command *c)
{
	reply_names(c, KIND_HASH);
}

/* HDEL, SREM and ZREM. */
static void
remove_names(struct command *c, enum kind kind)
{
	struct key *key = look_up(c->k, c->words[1], kind);
	int64_t removed = 0;

	for (unsigned i = 2; i < c->count && key != NULL; i++) {
		struct element *e = element_find(key, c->words[i]);
		if (e != NULL) {
			element_remove(key, e);
			removed++;
		}
	}
	if (key != NULL)
		delete_if_empty(c->k, key);
	c->k->wrote = removed > 0;
	text_number(c->out, removed);
}

static void
run_hdel(struct command *c)
{
	remove_names(c, KIND_HASH);
}

/* HLEN, SCARD and ZCARD. */
static void
reply_count(struct command *c, enum kind kind)
{
	struct key *key = look_up(c->k, c->words[1], kind);

	text_number(c->out, key == NULL ? 0 : (int64_t)key->count);
}

static void
run_hlen(struct command *c)
{
	reply_count(c, KIND_HASH);
}

/* ---- sets ---- */

static void
run_sadd(struct command *c)
{
	struct key *key = look_up_or_make(c->k, c->words[1], KIND_SET);
	int64_t added = 0;

	for (unsigned i = 2; i < c->count; i++) {
		if (element_find(key, c->words[i]) == NULL) {
			element_add(key, 0, c->words[i]);
			added++;
		}
	}
	c->k->wrote = added > 0;
	text_number(c->out, added);
}

static void
run_srem(struct command *c)
{
	remove_names(c, KIND_SET);
}

static void
run_scard(struct command *c)
{
	reply_count(c, KIND_SET);
}

static void
run_smembers(struct command *c)
{
	reply_names(c, KIND_SET);
}

/* Elements that are drawn, distinct: they change places with the last ones of a list of all. */
static size_t
draw(const struct key *key, size_t most, size_t **drawn)
{
	size_t count = key == NULL ? 0 : key->count;
	size_t *all = calloc(count + 1, sizeof *all);
	size_t n = most < count ? most : count;

	ASSERT(all != NULL);
	for (size_t i = 0; i < count; i++)
		all[i] = i;
	for (size_t i = 0; i < n; i++) {
		size_t other = i + sim_below(count - i);
		size_t kept = all[i];
		all[i] = all[other];
		all[other] = kept;
	}
	*drawn = all;
	return n;
}

static void
run_srandmember(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_SET);
	size_t *drawn;
	size_t n = draw(key, (size_t)number_of(c->words[2]), &drawn);

	text_array(c->out, n);
	for (size_t i = 0; i < n; i++)
		text_bulk(c->out, blob_span(&key->elements[drawn[i]].name));
	free(drawn);
}

/* A replica is told which ones: SREM. */
static void
run_spop(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_SET);
	size_t *drawn;
	size_t n = draw(key, (size_t)number_of(c->words[2]), &drawn);
	struct span *words = calloc(n + 2, sizeof *words);
	struct text names = { 0 };

	ASSERT(words != NULL);
	text_array(c->out, n);
	words[0] = SPAN("SREM");
	words[1] = c->words[1];
	for (size_t i = 0; i < n; i++) {
		text_bulk(c->out, blob_span(&key->elements[drawn[i]].name));
		text_append(&names, key->elements[drawn[i]].name.data,
			    key->elements[drawn[i]].name.size);
	}
	for (size_t i = 0, at = 0; i < n; i++) {
		size_t size = key->elements[drawn[i]].name.size;
		words[2 + i] = span_of(names.data + at, size);
		at += size;
	}
	if (n > 0) {
		struct text ignored = { 0 };
		keys_call(c->k, words, (unsigned)n + 2, &ignored);
		text_fini(&ignored);
	}
	c->k->wrote = false; /* SREM has told it */
	text_fini(&names);
	free(words);
	free(drawn);
}

static uint64_t
scan_place(const struct element *e)
{
	return sim_hash(2, e->name.data, e->name.size) >> 1;
}

/* In the order of hashes: the next cursor is one behind the last that was given. */
static void
run_sscan(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_SET);
	uint64_t from = (uint64_t)number_of(c->words[2]), next = 0;
	size_t most = (size_t)number_of(c->words[4]), n = 0;
	struct text rows = { 0 };
	char cursor[NUMBER_SIZE];

	for (; key != NULL && n <= most; n++) {
		const struct element *best = NULL;
		for (size_t i = 0; i < key->count; i++) {
			const struct element *e = &key->elements[i];
			if (scan_place(e) >= from &&
			    (best == NULL || scan_place(e) < scan_place(best)))
				best = e;
		}
		next = best == NULL ? 0 : scan_place(best);
		if (best == NULL || n == most)
			break;
		text_bulk(&rows, blob_span(&best->name));
		from = scan_place(best) + 1;
	}
	int size = snprintf(cursor, sizeof cursor, "%" PRIu64, next);
	text_array(c->out, 2);
	text_bulk(c->out, span_of(cursor, (size_t)size));
	text_array(c->out, n);
	text_append(c->out, rows.data, rows.size);
	text_fini(&rows);
}

/* ---- sorted sets ---- */

static void
run_zadd(struct command *c)
{
	bool lower = c->count == 5 && is_word(c->words[2], "LT");
	struct span name = c->words[c->count - 1];
	double score = score_of(c->words[c->count - 2]);

	if (c->count != 4 && !lower)
		sim_fail("redis: an option of ZADD that is not modelled");
	struct key *key = look_up_or_make(c->k, c->words[1], KIND_ZSET);
	struct element *e = element_find(key, name);
	text_number(c->out, e == NULL);
	if (e != NULL && (lower ? score >= e->score : score == e->score))
		return;
	if (e != NULL)
		element_remove(key, e);
	element_add(key, score, name);
	c->k->wrote = true;
}

static void
run_zrem(struct command *c)
{
	remove_names(c, KIND_ZSET);
}

static void
run_zcard(struct command *c)
{
	reply_count(c, KIND_ZSET);
}

/* Ranks from..to of what is there, as Redis counts them; false: none. */
static bool
rank_range(const struct key *key, struct span from, struct span to, size_t *first, size_t *last)
{
	int64_t count = key == NULL ? 0 : (int64_t)key->count;
	int64_t a = number_of(from), b = number_of(to);

	a = a < 0 ? (a + count > 0 ? a + count : 0) : a;
	b = b < 0 ? b + count : b < count ? b : count - 1;
	if (a > b)
		return false;
	*first = (size_t)a;
	*last = (size_t)b;
	return true;
}

static void
run_zrange(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_ZSET);
	bool scores = c->count == 5 && is_word(c->words[4], "WITHSCORES");
	size_t first, last;

	if (c->count != 4 && !scores)
		sim_fail("redis: an option of ZRANGE that is not modelled");
	if (!rank_range(key, c->words[2], c->words[3], &first, &last)) {
		text_array(c->out, 0);
		return;
	}
	text_array(c->out, (last - first + 1) * (scores ? 2 : 1));
	for (size_t i = first; i <= last; i++) {
		text_bulk(c->out, blob_span(&key->elements[i].name));
		if (scores)
			text_score(c->out, key->elements[i].score);
	}
}

/* Of scores that are all alike. */
static void
run_zrangebylex(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_ZSET);

	if (c->count != 7 || c->words[2].size == 0 || c->words[2].data[0] != '(' ||
	    !is_word(c->words[3], "+") || !is_word(c->words[4], "LIMIT") ||
	    number_of(c->words[5]) != 0)
		sim_fail("redis: a form of ZRANGEBYLEX that is not modelled");
	size_t room = (size_t)number_of(c->words[6]), n = 0, first = 0;
	struct span after = span_after(c->words[2], 1);
	while (key != NULL && first < key->count &&
	       elements_compare(blob_span(&key->elements[first].name), after) <= 0)
		first++;
	n = key == NULL ? 0 : key->count - first;
	n = n < room ? n : room;
	text_array(c->out, n);
	for (size_t i = 0; i < n; i++)
		text_bulk(c->out, blob_span(&key->elements[first + i].name));
}

/* The score is the place. */
static void
run_rpush(struct command *c)
{
	struct key *key = look_up_or_make(c->k, c->words[1], KIND_LIST);

	for (unsigned i = 2; i < c->count; i++)
		element_add(key, (double)key->count, c->words[i]);
	c->k->wrote = true;
	text_number(c->out, (int64_t)key->count);
}

static void
run_lrange(struct command *c)
{
	if (number_of(c->words[2]) != 0 || number_of(c->words[3]) != -1)
		sim_fail("redis: a form of LRANGE that is not modelled");
	reply_names(c, KIND_LIST);
}

static void
run_zrangebyscore(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_ZSET);
	double most = score_of(c->words[3]);

	if (c->count != 7 || !is_word(c->words[2], "-inf") || !is_word(c->words[4], "LIMIT") ||
	    number_of(c->words[5]) != 0)
		sim_fail("redis: a form of ZRANGEBYSCORE that is not modelled");
	size_t room = (size_t)number_of(c->words[6]), n = 0;
	while (key != NULL && n < key->count && n < room && key->elements[n].score <= most)
		n++;
	text_array(c->out, n);
	for (size_t i = 0; i < n; i++)
		text_bulk(c->out, blob_span(&key->elements[i].name));
}

static void
run_zremrangebyrank(struct command *c)
{
	struct key *key = look_up(c->k, c->words[1], KIND_ZSET);
	size_t first, last;

	if (!rank_range(key, c->words[2], c->words[3], &first, &last)) {
		text_number(c->out, 0);
		return;
	}
	for (size_t i = first; i <= last; i++)
		element_remove(key, &key->elements[first]);
	delete_if_empty(c->k, key);
	c->k->wrote = true;
	text_number(c->out, (int64_t)(last - first + 1));
}

/* ---- all of them ---- */

static const struct row {
	const char *name;
	unsigned words; /* at least */
	int flags;
	void (*run)(struct command *c);
} rows[] = {
	{ "DEL", 2, KEYS_WRITES, run_unlink },
	{ "DECRBY", 3, KEYS_WRITES | KEYS_NEEDS_MEMORY, run_decrby },
	{ "EXISTS", 2, 0, run_exists },
	{ "FLUSHALL", 1, KEYS_WRITES, run_flushall },
	{ "EXPIRE", 3, KEYS_WRITES, run_expire },
	{ "GET", 2, 0, run_get },
	{ "GETRANGE", 4, 0, run_getrange },
	{ "HDEL", 3, KEYS_WRITES, run_hdel },
	{ "HEXISTS", 3, 0, run_hexists },
	{ "HGET", 3, 0, run_hget },
	{ "HGETALL", 2, 0, run_hgetall },
	{ "HKEYS", 2, 0, run_hkeys },
	{ "HLEN", 2, 0, run_hlen },
	{ "HMGET", 3, 0, run_hmget },
	{ "HSET", 4, KEYS_WRITES | KEYS_NEEDS_MEMORY, run_hset },
	{ "HSETNX", 4, KEYS_WRITES | KEYS_NEEDS_MEMORY, run_hsetnx },
	{ "INCR", 2, KEYS_WRITES | KEYS_NEEDS_MEMORY, run_incr },
	{ "KEYS", 2, 0, run_keys },
	{ "LRANGE", 4, 0, run_lrange },
	{ "PERSIST", 2, KEYS_WRITES, run_persist },
	{ "PTTL", 2, 0, run_pttl },
	{ "PUBLISH", 3, 0, run_publish },
	{ "RPUSH", 3, KEYS_WRITES | KEYS_NEEDS_MEMORY, run_rpush },
	{ "SADD", 3, KEYS_WRITES | KEYS_NEEDS_MEMORY, run_sadd },
	{ "SCARD", 2, 0, run_scard },
	{ "SET", 3, KEYS_WRITES | KEYS_NEEDS_MEMORY, run_set },
	{ "SETEX", 4, KEYS_WRITES | KEYS_NEEDS_MEMORY, run_set },
	{ "SMEMBERS", 2, 0, run_smembers },
	{ "SPOP", 3, KEYS_WRITES, run_spop },
	{ "SRANDMEMBER", 3, 0, run_srandmember },
	{ "SREM", 3, KEYS_WRITES, run_srem },
	{ "SSCAN", 5, 0, run_sscan },
	{ "STRLEN", 2, 0, run_strlen },
	{ "TIME", 1, 0, run_time },
	{ "TYPE", 2, 0, run_type },
	{ "UNLINK", 2, KEYS_WRITES, run_unlink },
	{ "ZADD", 4, KEYS_WRITES | KEYS_NEEDS_MEMORY, run_zadd },
	{ "ZCARD", 2, 0, run_zcard },
	{ "ZRANGE", 4, 0, run_zrange },
	{ "ZRANGEBYLEX", 7, 0, run_zrangebylex },
	{ "ZRANGEBYSCORE", 4, 0, run_zrangebyscore },
	{ "ZREM", 3, KEYS_WRITES, run_zrem },
	{ "ZREMRANGEBYRANK", 4, KEYS_WRITES, run_zremrangebyrank },
};

static const struct row *
row_of(struct span name)
{
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		if (is_word(name, rows[i].name))
			return &rows[i];
	}
	return NULL;
}

int
keys_flags(struct span name)
{
	const struct row *row = row_of(name);

	return row == NULL ? -1 : row->flags;
}

struct keys *
keys_new(const struct keys_events *events, void *context)
{
	struct keys *k = sim_allocate(sizeof *k);

	k->events = events;
	k->context = context;
	return k;
}

void
keys_clear(struct keys *k)
{
	for (size_t i = 0; i < BUCKETS; i++) {
		while (k->buckets[i] != NULL)
			delete_at(&k->buckets[i]);
	}
}

void
keys_copy(struct keys *to, const struct keys *from)
{
	keys_clear(to);
	for (size_t i = 0; i < BUCKETS; i++) {
		for (const struct key *key = from->buckets[i]; key != NULL; key = key->next) {
			struct key *copy = look_up_or_make(to, blob_span(&key->name), key->kind);
			copy->expires_ms = key->expires_ms;
			blob_set(&copy->string, blob_span(&key->string));
			for (size_t j = 0; j < key->count; j++) {
				const struct element *e = &key->elements[j];
				struct element *same =
					element_add(copy, e->score, blob_span(&e->name));
				blob_set(&same->value, blob_span(&e->value));
			}
		}
	}
}

void
keys_set_time(struct keys *k, uint64_t now_us)
{
	k->now_us = now_us;
}

bool
keys_call(struct keys *k, const struct span *words, unsigned count, struct text *out)
{
	const struct row *row = row_of(words[0]);
	struct command c = { k, words, count, out };

	if (row == NULL || count < row->words) {
		text_error(out, "ERR unknown command or wrong number of arguments: %.*s",
			   SPAN_ARG(words[0]));
		return false;
	}
	k->wrote = false;
	row->run(&c);
	if (k->wrote)
		k->events->on_write(k->context, words, count);
	return true;
}
