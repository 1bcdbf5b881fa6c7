/* SPDX-License-Identifier: Apache-2.0 */
#include "queue/redis/promise.h"

static const struct span sections[] = {
	SPAN("server"),
	SPAN("memory"),
	SPAN("persistence"),
	SPAN("replication"),
};

static const struct span settings[] = {
	SPAN("appendonly"),       SPAN("appendfsync"),           SPAN("no-appendfsync-on-rewrite"),
	SPAN("maxmemory-policy"), SPAN("min-replicas-to-write"),
};

const struct span *
promise_sections(unsigned *count)
{
	*count = sizeof sections / sizeof sections[0];
	return sections;
}

const struct span *
promise_settings(unsigned *count)
{
	*count = sizeof settings / sizeof settings[0];
	return settings;
}

bool
promise_asks_settings(const struct redis_options *wish)
{
	return wish->durability != REDIS_MEMORY && !wish->promises_declared;
}

/* ---- reading ---- */

static void
keep(struct span value, char *out, size_t size)
{
	value = span_first(value, size - 1);
	if (value.size > 0)
		memcpy(out, value.data, value.size);
	out[value.size] = 0;
}

#define KEEP(value, array) keep(value, array, sizeof(array))

static void
read_line(struct span line, struct promise_facts *f)
{
	size_t colon = span_find(line, ':', 0);
	struct span name = span_first(line, colon);
	struct span value = span_after(line, colon + 1);
	uint64_t number;

	if (span_eq(name, SPAN("redis_version"))) {
		KEEP(value, f->version);
		if (span_to_u64(span_first(value, span_find(value, '.', 0)), &number))
			f->version_major = number < 1000 ? (unsigned)number : 1000;
	} else if (span_eq(name, SPAN("run_id"))) {
		f->run = span_hash_nocase(value, 1);
	} else if (span_eq(name, SPAN("role"))) {
		f->is_master = span_eq(value, SPAN("master"));
	} else if (span_eq(name, SPAN("loading"))) {
		f->is_loading = !span_eq(value, SPAN("0"));
	} else if (span_eq(name, SPAN("aof_enabled"))) {
		f->aof_is_off = !span_eq(value, SPAN("1"));
	} else if (span_eq(name, SPAN("aof_last_write_status"))) {
		f->aof_fails = !span_eq(value, SPAN("ok"));
	} else if (span_eq(name, SPAN("maxmemory_policy"))) {
		KEEP(value, f->eviction);
	}
}

void
promise_read_info(struct span text, struct promise_facts *out)
{
	while (text.size > 0) {
		size_t end = span_find(text, '\n', 0);
		struct span line = span_first(text, end);
		if (line.size > 0 && line.data[line.size - 1] == '\r')
			line.size--;
		read_line(line, out);
		text = span_after(text, end + 1);
	}
}

void
promise_read_setting(struct span name, struct span value, struct promise_facts *out)
{
	out->has_settings = true;
	if (span_eq(name, SPAN("appendonly"))) {
		out->appends = span_eq(value, SPAN("yes"));
	} else if (span_eq(name, SPAN("appendfsync"))) {
		KEEP(value, out->fsync);
	} else if (span_eq(name, SPAN("no-appendfsync-on-rewrite"))) {
		out->fsync_pauses = !span_eq(value, SPAN("no"));
	} else if (span_eq(name, SPAN("maxmemory-policy"))) {
		KEEP(value, out->eviction);
	} else if (span_eq(name, SPAN("min-replicas-to-write"))) {
		if (!span_to_u64(value, &out->replicas_least))
			out->replicas_least = 0;
	}
}

/* ---- judging ---- */

static bool
is(const char *text, const char *wanted)
{
	return span_eq(span_of_string(text), span_of_string(wanted));
}

static bool
may_lose(struct buf *why, struct span server, const char *is_so, const char *remedy)
{
	buf_printf(why,
		   "redis %.*s may lose mail: %s; set `%s`, or ask for less with "
		   "queue.redis.durability",
		   SPAN_ARG(server), is_so, remedy);
	return false;
}

static bool
is_usable(const struct promise_facts *f, struct span server, struct buf *why)
{
	if (f->version_major == 0) {
		buf_printf(why, "redis %.*s does not say its version: let the user call INFO",
			   SPAN_ARG(server));
		return false;
	}
	if (f->version_major < PROMISE_VERSION_LEAST) {
		buf_printf(why,
			   "redis %.*s is version %s: install %d.0 or newer, which has functions",
			   SPAN_ARG(server), f->version, PROMISE_VERSION_LEAST);
		return false;
	}
	if (f->is_loading) {
		buf_printf(why, "redis %.*s still loads its data: wait until it has",
			   SPAN_ARG(server));
		return false;
	}
	if (!f->is_master) {
		buf_printf(
			why,
			"redis %.*s is a replica: name its master, or the Sentinels that know it",
			SPAN_ARG(server));
		return false;
	}
	return true;
}

static bool
keeps_on_disk(const struct promise_facts *f, struct span server, struct buf *why)
{
	char is_so[64];
	struct buf text = buf_of(is_so, sizeof is_so - 1);

	if (!f->appends || f->aof_is_off)
		return may_lose(why, server, "appendonly is no", "appendonly yes");
	if (!is(f->fsync, "always")) {
		buf_printf(&text, "appendfsync is %s", f->fsync[0] == 0 ? "unknown" : f->fsync);
		is_so[text.size] = 0;
		return may_lose(why, server, is_so, "appendfsync always");
	}
	if (f->fsync_pauses)
		return may_lose(why, server, "no-appendfsync-on-rewrite is yes",
				"no-appendfsync-on-rewrite no");
	if (f->aof_fails) {
		buf_printf(why,
			   "redis %.*s cannot write its append-only file (aof_last_write_status): "
			   "make "
			   "room on its disk",
			   SPAN_ARG(server));
		return false;
	}
	return true;
}

static bool
keeps_in_memory(const struct promise_facts *f, struct span server, struct buf *why)
{
	char is_so[64];
	struct buf text = buf_of(is_so, sizeof is_so - 1);

	if (is(f->eviction, "noeviction"))
		return true;
	buf_printf(&text, "maxmemory-policy is %s", f->eviction[0] == 0 ? "unknown" : f->eviction);
	is_so[text.size] = 0;
	return may_lose(why, server, is_so, "maxmemory-policy noeviction");
}

static bool
has_replicas(const struct promise_facts *f, unsigned wanted, struct span server, struct buf *why)
{
	char is_so[64], remedy[64];
	struct buf text = buf_of(is_so, sizeof is_so - 1);
	struct buf setting = buf_of(remedy, sizeof remedy - 1);

	if (f->replicas_least >= wanted)
		return true;
	buf_printf(&text, "min-replicas-to-write is %llu", (unsigned long long)f->replicas_least);
	is_so[text.size] = 0;
	buf_printf(&setting, "min-replicas-to-write %u", wanted);
	remedy[setting.size] = 0;
	return may_lose(why, server, is_so, remedy);
}

bool
promise_holds(const struct promise_facts *f, const struct redis_options *wish, struct span server,
	      struct buf *why)
{
	if (!is_usable(f, server, why))
		return false;
	if (!promise_asks_settings(wish))
		return true;
	if (!f->has_settings) {
		buf_printf(
			why,
			"redis %.*s does not show its settings: let the user call CONFIG GET, or "
			"vouch for them with `promises: declared` in queue.redis",
			SPAN_ARG(server));
		return false;
	}
	return keeps_in_memory(f, server, why) && keeps_on_disk(f, server, why) &&
	       (wish->durability != REDIS_REPLICA || has_replicas(f, wish->replicas, server, why));
}
