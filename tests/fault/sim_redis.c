/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/sim_redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "core/base/list.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_lua.h"
#include "tests/fault/sim_net.h"

enum { WORDS_MOST = 65536, PARAMETERS = 16, IN_MULTI_MOST = 1024 };

/* A write that the replica has not got yet. */
struct entry {
	struct list_node node;
	uint64_t number;
	uint64_t command;  /* that made it: what a function writes gets there together */
	uint64_t made_us;  /* by the server's clock, which its expiries count from */
	uint64_t there_us; /* by the world's: when the replica has it */
	struct blob words; /* RESP */
};

struct parameter {
	const char *name, *value;
};

struct sim_redis {
	struct net_address address;
	struct sim_redis_faults faults;
	struct keys *keys;
	struct keys *replica;
	struct list journal; /* struct entry */
	uint64_t written;    /* number of the last write */
	uint64_t replicated;
	uint64_t last_there_us;
	uint64_t last_command;
	void (*on_lost)(void *context, const struct span *words, unsigned count);
	void *lost_context;
	struct list channels;
	struct list spent; /* channels that are gone: whoever calls one may look at it once more */
	struct blob library; /* texts of FUNCTION LOAD, one behind the other */
	struct parameter parameters[PARAMETERS];
	const char *user, *password;
	int64_t offset_ms;
	uint64_t down_until_us;
	uint64_t no_memory_until_us;
	uint64_t no_disk_until_us;
	uint64_t lives; /* restarts */
	uint64_t cut_until_us[SIM_REDIS_NODES];
	struct sim_redis_numbers numbers;
};

/* A connection to it. Replaced memory is the world's, like the server's own. */
struct channel {
	struct sim_peer peer; /* first */
	struct list_node node_link;
	struct sim_redis *server;
	unsigned node;
	struct blob in, out;
	size_t in_at, out_at;
	uint64_t wakes_us;     /* until then it neither executes nor answers */
	bool was_delayed;      /* the command at the front had its delay */
	bool is_authenticated; /* or need not be */
	bool in_multi, multi_failed;
	unsigned queued; /* commands of the MULTI */
	struct blob queue;
	uint64_t last_write;              /* of its own: what WAIT waits for */
	uint64_t wait_for, wait_until_us; /* a WAIT that has not ended; 0: none */
	struct blob *topics;              /* one name; subscribed where not NULL */
	bool closes;
};

static sim_redis_watch_fn watch;

void
sim_redis_watch(sim_redis_watch_fn on_function)
{
	watch = on_function;
}

static uint64_t
clock_us(const struct sim_redis *r)
{
	return (uint64_t)((int64_t)world->wall_ms + r->offset_ms) * 1000 + world->now_us;
}

/* ---- RESP ---- */

/* A line of kind and number; 0: it is cut, else what it takes. A bad one ends the run: the relay
 * has written nonsense. */
static size_t
take_count(struct span in, char kind, uint64_t *n)
{
	size_t end = span_find(in, '\r', 0);

	if (end + 1 >= in.size)
		return 0;
	if (in.data[0] != kind || !span_to_u64(span_of(in.data + 1, end - 1), n) ||
	    in.data[end + 1] != '\n')
		sim_fail("redis: not RESP: %.*s", SPAN_ARG(span_first(in, 40)));
	return end + 2;
}

/* One command at the front of `in`: 0 where it is cut, else what it takes. */
static size_t
take_command(struct span in, struct span *words, unsigned *count)
{
	uint64_t n, size;
	size_t at = take_count(in, '*', &n);

	if (at == 0)
		return 0;
	if (n == 0 || n > WORDS_MOST)
		sim_fail("redis: a command of %" PRIu64 " words", n);
	for (unsigned i = 0; i < n; i++) {
		size_t head = take_count(span_after(in, at), '$', &size);
		if (head == 0 || in.size - at - head < size + 2)
			return 0;
		words[i] = span_of(in.data + at + head, size);
		at += head + size + 2;
		if (in.data[at - 2] != '\r' || in.data[at - 1] != '\n')
			sim_fail("redis: a word without its end");
	}
	*count = (unsigned)n;
	return at;
}

static void
put_command(struct blob *out, const struct span *words, unsigned count)
{
	struct text t = { 0 };

	text_array(&t, count);
	for (unsigned i = 0; i < count; i++)
		text_bulk(&t, words[i]);
	blob_append(out, span_of(t.data, t.size));
	text_fini(&t);
}

static bool
is_word(struct span s, const char *word)
{
	return span_eq_nocase(s, span_of_string(word));
}

/* ---- the replica ---- */

static void
forget_entry(struct entry *e)
{
	list_unlink(&e->node);
	blob_fini(&e->words);
	sim_release(e, sizeof *e);
}

/* What has reached it by now. */
static void
replicate(struct sim_redis *r)
{
	static struct span words[WORDS_MOST];
	struct list_node *n;
	unsigned count;

	while ((n = list_first(&r->journal)) != NULL) {
		struct entry *e = LIST_ITEM(n, struct entry, node);
		struct text ignored = { 0 };
		if (e->there_us > world->now_us)
			return;
		take_command(blob_span(&e->words), words, &count);
		keys_set_time(r->replica, e->made_us);
		keys_call(r->replica, words, count, &ignored);
		text_fini(&ignored);
		r->replicated = e->number;
		forget_entry(e);
	}
}

static void
on_write(void *context, const struct span *words, unsigned count)
{
	struct sim_redis *r = context;

	r->written++;
	if (r->replica == NULL)
		return;
	struct entry *e = sim_allocate(sizeof *e);
	e->number = r->written;
	e->made_us = clock_us(r);
	e->command = r->numbers.commands;
	/* In order, and mostly soon. */
	e->there_us =
		world->now_us + (sim_chance(100) ? sim_below(r->faults.lag_us) : sim_below(1000));
	if (e->there_us < r->last_there_us || e->command == r->last_command)
		e->there_us = r->last_there_us;
	r->last_there_us = e->there_us;
	r->last_command = e->command;
	put_command(&e->words, words, count);
	list_append(&r->journal, &e->node);
}

static void
on_replica_write(void *context, const struct span *words, unsigned count)
{
	(void)context;
	(void)words;
	(void)count;
}

/* ---- publishing ---- */

static unsigned
on_publish(void *context, struct span topic, struct span message)
{
	struct sim_redis *r = context;
	unsigned n = 0;

	r->numbers.published++;
	for (struct list_node *node = list_first(&r->channels); node != NULL;
	     node = list_next(&r->channels, node)) {
		struct channel *c = LIST_ITEM(node, struct channel, node_link);
		struct text t = { 0 };
		if (c->topics == NULL || !span_eq(blob_span(c->topics), topic))
			continue;
		text_array(&t, 3);
		text_bulk(&t, SPAN("message"));
		text_bulk(&t, topic);
		text_bulk(&t, message);
		blob_append(&c->out, span_of(t.data, t.size));
		text_fini(&t);
		sim_peer_wake(&c->peer, world->now_us + 1); /* flushed there: it may be ours */
		n++;
	}
	return n;
}

static unsigned
on_replica_publish(void *context, struct span topic, struct span message)
{
	(void)context;
	(void)topic;
	(void)message;
	return 0;
}

static const struct keys_events master_events = { on_write, on_publish };
static const struct keys_events replica_events = { on_replica_write, on_replica_publish };

/* ---- what is said of the server ---- */

static void
run_config(struct sim_redis *r, const struct span *words, unsigned count, struct text *out)
{
	size_t found = 0;
	struct text rows = { 0 };

	for (unsigned i = 0; i < PARAMETERS && r->parameters[i].name != NULL; i++) {
		const struct parameter *p = &r->parameters[i];
		if (strcmp(p->name, "hidden") == 0) {
			text_fini(&rows);
			text_error(out, "ERR unknown command 'CONFIG'");
			return;
		}
		for (unsigned j = 2; j < count; j++) {
			if (is_word(words[j], p->name)) {
				text_bulk(&rows, span_of_string(p->name));
				text_bulk(&rows, span_of_string(p->value));
				found += 2;
			}
		}
	}
	if (count < 3 || !is_word(words[1], "GET"))
		sim_fail("redis: CONFIG %.*s is not modelled", SPAN_ARG(words[1]));
	text_array(out, found);
	text_append(out, rows.data, rows.size);
	text_fini(&rows);
}

/* All sections, whichever is asked for. */
static void
run_info(struct sim_redis *r, struct text *out)
{
	char info[1024];
	bool has_disk = world->now_us >= r->no_disk_until_us;
	int size = snprintf(
		info, sizeof info,
		"# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n"
		"run_id:%040" PRIx64 "\r\n# Persistence\r\nloading:0\r\naof_enabled:1\r\n"
		"aof_last_write_status:%s\r\n# Memory\r\nused_memory:%" PRIu64
		"\r\nmaxmemory:0\r\n# Replication\r\nrole:master\r\nconnected_slaves:%d\r\n"
		"master_repl_offset:%" PRIu64 "\r\n# Cluster\r\ncluster_enabled:0\r\n",
		r->lives, has_disk ? "ok" : "err", keys_count(r->keys) * 1000, r->replica != NULL,
		r->written);

	text_bulk(out, span_of(info, (size_t)size));
}

static void
run_role(struct sim_redis *r, struct text *out)
{
	text_array(out, 3);
	text_bulk(out, SPAN("master"));
	text_number(out, (int64_t)r->written);
	text_array(out, r->replica != NULL);
	if (r->replica != NULL) {
		text_array(out, 3);
		text_bulk(out, SPAN("127.0.0.1"));
		text_bulk(out, SPAN("6380"));
		text_bulk(out, SPAN("0"));
	}
}

/* "#!lua name=NAME" of a library. */
static struct span
first_line(struct span library)
{
	return span_first(library, span_find(library, '\n', 0));
}

/* What is loaded without the library of that name; false: it is not there. */
static bool
without_library(struct span all, struct span name, struct text *out)
{
	bool was_there = false, skips = false;

	while (all.size > 0) {
		struct span line = span_first(all, span_find(all, '\n', 0) + 1);
		if (span_starts_with(line, SPAN("#!lua name=")))
			skips = span_eq(first_line(line), name);
		was_there |= skips;
		if (!skips)
			text_append(out, line.data, line.size);
		all = span_after(all, line.size);
	}
	return was_there;
}

static void
load_library(struct sim_redis *r, struct span text, bool replaces, struct text *out)
{
	struct span line = first_line(text);
	struct span name = span_after(line, SPAN("#!lua name=").size);
	struct text all = { 0 };

	if (without_library(blob_span(&r->library), line, &all) && !replaces) {
		text_error(out, "ERR Library '%.*s' already exists", SPAN_ARG(name));
	} else {
		text_append(&all, text.data, text.size);
		if (sim_lua_load(span_of(all.data, all.size), out)) {
			blob_set(&r->library, span_of(all.data, all.size));
			text_bulk(out, name);
		}
	}
	text_fini(&all);
}

static void
run_function(struct sim_redis *r, const struct span *words, unsigned count, struct text *out)
{
	if (count >= 3 && is_word(words[1], "LOAD")) {
		load_library(r, words[count - 1], count > 3, out);
	} else if (count >= 2 && is_word(words[1], "LIST")) {
		text_array(out, r->library.size > 0);
		if (r->library.size > 0) {
			text_array(out, 2);
			text_bulk(out, SPAN("library_name"));
			text_bulk(out, SPAN("ringpost_1"));
		}
	} else {
		text_error(out, "ERR unknown subcommand");
	}
}

/* ---- one command ---- */

/* An error, where the server would not do it now for want of memory or disk. */
static bool
is_refused(struct sim_redis *r, const struct span *words, unsigned count, struct text *out)
{
	bool writes, grows;

	if (is_word(words[0], "FCALL") && count > 1) {
		int flags = sim_lua_flags(blob_span(&r->library), words[1]);
		writes = flags >= 0 && !(flags & LUA_NO_WRITES);
		grows = writes && !(flags & LUA_ALLOW_OOM);
	} else {
		int flags = keys_flags(words[0]);
		writes = flags >= 0 && (flags & KEYS_WRITES);
		grows = flags >= 0 && (flags & KEYS_NEEDS_MEMORY);
	}
	if (grows && world->now_us < r->no_memory_until_us)
		text_error(out, "OOM command not allowed when used memory > 'maxmemory'.");
	else if (writes && world->now_us < r->no_disk_until_us)
		text_error(out, "MISCONF Errors writing to the AOF file: No space left on device");
	else
		return false;
	r->numbers.refused++;
	return true;
}

/* What needs no connection. */
static void
execute(struct sim_redis *r, const struct span *words, unsigned count, struct text *out)
{
	keys_set_time(r->keys, clock_us(r));
	r->numbers.commands++;
	if (is_refused(r, words, count, out))
		return;
	if (is_word(words[0], "FCALL") || is_word(words[0], "FCALL_RO")) {
		r->numbers.functions++;
		size_t at = out->size;
		sim_lua_call(blob_span(&r->library), r->keys, words + 1, count - 1, out);
		struct span reply = span_of(out->data + at, out->size - at);
		/* Half of a function would have run: the model is behind it. */
		if (span_starts_with(reply, SPAN("-ERR unknown command")))
			sim_fail("redis: %.*s", SPAN_ARG(reply));
		if (watch != NULL)
			watch(words, count, reply);
	} else if (is_word(words[0], "FUNCTION")) {
		run_function(r, words, count, out);
	} else if (is_word(words[0], "CONFIG")) {
		run_config(r, words, count, out);
	} else if (is_word(words[0], "INFO")) {
		run_info(r, out);
	} else if (is_word(words[0], "ROLE")) {
		run_role(r, out);
	} else if (is_word(words[0], "CLIENT") || is_word(words[0], "SELECT")) {
		text_status(out, "OK");
	} else if (is_word(words[0], "HELLO")) {
		text_error(out, "NOPROTO unsupported protocol version");
	} else {
		keys_call(r->keys, words, count, out);
	}
}

void
sim_redis_ask(struct sim_redis *r, const struct span *words, unsigned count, struct text *out)
{
	uint64_t memory = r->no_memory_until_us, disk = r->no_disk_until_us;

	r->no_memory_until_us = r->no_disk_until_us = 0;
	execute(r, words, count, out);
	r->no_memory_until_us = memory;
	r->no_disk_until_us = disk;
}

/* ---- what belongs to a connection ---- */

static void
run_auth(struct channel *c, const struct span *words, unsigned count, struct text *out)
{
	const struct sim_redis *r = c->server;
	struct span user = count == 3 ? words[1] : SPAN("default");

	if (r->password == NULL) {
		text_error(out, "ERR AUTH <password> called without any password configured");
		return;
	}
	c->is_authenticated = span_eq(user, span_of_string(r->user)) &&
			      span_eq(words[count - 1], span_of_string(r->password));
	if (c->is_authenticated)
		text_status(out, "OK");
	else
		text_error(out, "WRONGPASS invalid username-password pair or user is disabled.");
}

static void
run_exec(struct channel *c, struct text *out)
{
	static struct span words[WORDS_MOST];
	struct span queue = blob_span(&c->queue);
	unsigned count;

	if (!c->in_multi) {
		text_error(out, "ERR EXEC without MULTI");
	} else if (c->multi_failed) {
		text_error(out, "EXECABORT Transaction discarded because of previous errors.");
	} else {
		text_array(out, c->queued);
		while (queue.size > 0) {
			queue = span_after(queue, take_command(queue, words, &count));
			execute(c->server, words, count, out);
		}
	}
	c->in_multi = c->multi_failed = false;
	c->queued = 0;
	blob_fini(&c->queue);
}

/* Inside MULTI. */
static void
enqueue(struct channel *c, const struct span *words, unsigned count, struct text *out)
{
	bool is_other = is_word(words[0], "FCALL") || is_word(words[0], "FUNCTION");

	if (is_refused(c->server, words, count, out) || (keys_flags(words[0]) < 0 && !is_other)) {
		if (out->size == 0)
			text_error(out, "ERR unknown command");
		c->multi_failed = true;
		return;
	}
	c->queued++;
	ASSERT(c->queued <= IN_MULTI_MOST);
	put_command(&c->queue, words, count);
	text_status(out, "QUEUED");
}

static void
run_subscribe(struct channel *c, const struct span *words, unsigned count, struct text *out)
{
	if (count != 2 || c->topics != NULL)
		sim_fail("redis: more than one subscription is not modelled");
	c->topics = sim_allocate(sizeof *c->topics);
	blob_set(c->topics, words[1]);
	text_array(out, 3);
	text_bulk(out, SPAN("subscribe"));
	text_bulk(out, words[1]);
	text_number(out, 1);
}

/* Answered at once, or when the replica has it, or at its end (on_time). */
static void
run_wait(struct channel *c, const struct span *words, struct text *out)
{
	uint64_t asked = 0, timeout_ms = 0;

	if (!span_to_u64(words[1], &asked) || !span_to_u64(words[2], &timeout_ms))
		sim_fail("redis: WAIT without numbers");
	replicate(c->server);
	bool there = c->server->replica != NULL && c->server->replicated >= c->last_write;
	if (asked == 0 || there) {
		text_number(out, c->server->replica != NULL && there);
		return;
	}
	c->wait_for = c->last_write;
	c->wait_until_us = timeout_ms == 0 ? UINT64_MAX : world->now_us + timeout_ms * 1000;
	sim_peer_wake(&c->peer, world->now_us + 100);
}

static void
serve(struct channel *c, const struct span *words, unsigned count, struct text *out)
{
	struct span name = words[0];
	uint64_t before = c->server->written;

	if (is_word(name, "AUTH")) {
		run_auth(c, words, count, out);
	} else if (!c->is_authenticated) {
		text_error(out, "NOAUTH Authentication required.");
	} else if (is_word(name, "EXEC")) {
		run_exec(c, out);
	} else if (is_word(name, "DISCARD")) {
		c->in_multi = c->multi_failed = false;
		c->queued = 0;
		blob_fini(&c->queue);
		text_status(out, "OK");
	} else if (c->in_multi) {
		enqueue(c, words, count, out);
	} else if (is_word(name, "MULTI")) {
		c->in_multi = true;
		text_status(out, "OK");
	} else if (is_word(name, "PING") && c->topics != NULL) {
		text_array(out, 2);
		text_bulk(out, SPAN("pong"));
		text_bulk(out, span_none());
	} else if (is_word(name, "PING")) {
		text_status(out, "PONG");
	} else if (is_word(name, "QUIT")) {
		text_status(out, "OK");
		c->closes = true;
	} else if (is_word(name, "SUBSCRIBE")) {
		run_subscribe(c, words, count, out);
	} else if (is_word(name, "WAIT") && count == 3) {
		run_wait(c, words, out);
	} else {
		execute(c->server, words, count, out);
	}
	if (c->server->written != before)
		c->last_write = c->server->written;
}

/* ---- connections ---- */

static void
channel_free(struct channel *c)
{
	list_unlink(&c->node_link);
	blob_fini(&c->in);
	blob_fini(&c->out);
	blob_fini(&c->queue);
	if (c->topics != NULL) {
		blob_fini(c->topics);
		sim_release(c->topics, sizeof *c->topics);
	}
	sim_peer_wake(&c->peer, 0);
	list_unlink(&c->peer.node);
	list_append(&c->server->spent, &c->node_link);
}

static void
drop(struct channel *c)
{
	c->server->numbers.dropped++;
	sim_peer_reset(&c->peer);
	channel_free(c);
}

static void
flush(struct channel *c)
{
	struct span rest = span_after(blob_span(&c->out), c->out_at);

	if (world->now_us < c->wakes_us)
		return;
	if (rest.size > 0)
		c->out_at += sim_peer_write(&c->peer, rest);
	if (c->out_at < c->out.size)
		return;
	c->out.size = c->out_at = 0;
	if (c->closes)
		sim_peer_end(&c->peer);
}

static void
rest_until(struct channel *c, uint64_t at_us)
{
	c->wakes_us = at_us;
	sim_peer_wake(&c->peer, at_us);
}

/* Something that befalls the whole server at this command; true: it is down. */
static bool
befalls(struct sim_redis *r)
{
	const struct sim_redis_faults *f = &r->faults;

	if (sim_chance(f->no_memory))
		r->no_memory_until_us = world->now_us + sim_between(1, f->trouble_us);
	if (sim_chance(f->no_disk))
		r->no_disk_until_us = world->now_us + sim_between(1, f->trouble_us);
	if (sim_chance(f->restarts))
		sim_redis_restart(r, sim_between(1, f->down_us));
	else if (sim_chance(f->fails_over))
		sim_redis_fail_over(r, sim_between(1, f->down_us));
	else
		return false;
	return true;
}

/* Executes the command at the front, and what may go wrong with it. False: the channel is gone, or
 * it waits. */
static bool
step(struct channel *c, const struct span *words, unsigned count, size_t taken)
{
	const struct sim_redis_faults *f = &c->server->faults;
	struct text out = { 0 };

	if (sim_chance(f->drops_before)) {
		drop(c);
		return false;
	}
	if (!c->was_delayed && sim_chance(f->delays)) {
		c->was_delayed = true;
		rest_until(c, world->now_us + sim_between(1, f->delay_us));
		return false;
	}
	c->was_delayed = false;
	world->node = c->node;
	sim_note("redis", sim_hash(4, words[0].data, words[0].size), count);
	serve(c, words, count, &out);
	blob_append(&c->out, span_of(out.data, out.size));
	text_fini(&out);
	c->in_at += taken;
	if (sim_chance(f->drops_after)) {
		drop(c);
		return false;
	}
	if (befalls(c->server))
		return false;
	if (sim_chance(f->answers_late))
		rest_until(c, world->now_us + sim_between(1, f->delay_us));
	return true;
}

static void
run(struct channel *c)
{
	static struct span words[WORDS_MOST];
	unsigned count;

	while (!c->closes && c->wait_until_us == 0 && world->now_us >= c->wakes_us) {
		struct span rest = span_after(blob_span(&c->in), c->in_at);
		size_t taken = take_command(rest, words, &count);
		if (taken == 0)
			break;
		if (!step(c, words, count, taken))
			return;
	}
	if (c->in_at == c->in.size)
		c->in.size = c->in_at = 0;
	flush(c);
}

static struct channel *
channel_of(struct sim_peer *p)
{
	return CONTAINER_OF(p, struct channel, peer);
}

static void
on_open(struct sim_peer *p)
{
	(void)p;
}

static void
on_bytes(struct sim_peer *p, struct span bytes)
{
	struct channel *c = channel_of(p);

	blob_append(&c->in, bytes);
	run(c);
}

static void
on_room(struct sim_peer *p)
{
	flush(channel_of(p));
}

static void
on_gone(struct sim_peer *p)
{
	sim_peer_reset(p);
	channel_free(channel_of(p));
}

static void
on_time(struct sim_peer *p)
{
	struct channel *c = channel_of(p);
	struct sim_redis *r = c->server;
	struct text out = { 0 };

	if (c->wait_until_us != 0) {
		replicate(r);
		bool there = r->replica != NULL && r->replicated >= c->wait_for;
		if (!there && world->now_us < c->wait_until_us) {
			sim_peer_wake(p, world->now_us + 1000);
			return;
		}
		c->wait_until_us = 0;
		text_number(&out, there);
		blob_append(&c->out, span_of(out.data, out.size));
		text_fini(&out);
	}
	if (world->now_us < c->wakes_us)
		sim_peer_wake(p, c->wakes_us); /* somebody else's message came between */
	else
		run(c);
}

static const struct sim_peer_events peer_events = {
	.on_open = on_open,
	.on_bytes = on_bytes,
	.on_room = on_room,
	.on_end = on_gone,
	.on_broken = on_gone,
	.on_time = on_time,
};

static struct sim_peer *
on_connect(void *context, const struct net_address *address)
{
	struct sim_redis *r = context;

	if (world->now_us < r->down_until_us || world->now_us < r->cut_until_us[world->node])
		return NULL;
	struct list_node *n = list_shift(&r->spent);
	struct channel *c =
		n != NULL ? LIST_ITEM(n, struct channel, node_link) : sim_allocate(sizeof *c);
	*c = (struct channel){ .server = r, .node = world->node };
	c->is_authenticated = r->password == NULL;
	sim_peer_init(&c->peer, &peer_events, address);
	list_append(&r->channels, &c->node_link);
	return &c->peer;
}

/* ---- the server ---- */

struct sim_redis *
sim_redis_new(const struct net_address *address, const struct sim_redis_faults *faults)
{
	static const struct parameter usual[] = {
		{ "appendonly", "yes" },
		{ "appendfsync", "always" },
		{ "no-appendfsync-on-rewrite", "no" },
		{ "maxmemory-policy", "noeviction" },
		{ "maxmemory", "0" },
		{ "min-replicas-to-write", "0" },
		{ "min-replicas-max-lag", "10" },
	};
	struct sim_redis *r = sim_allocate(sizeof *r);

	r->address = *address;
	r->faults = *faults;
	r->keys = keys_new(&master_events, r);
	if (faults->lag_us > 0)
		r->replica = keys_new(&replica_events, r);
	list_init(&r->journal);
	list_init(&r->channels);
	list_init(&r->spent);
	memcpy(r->parameters, usual, sizeof usual);
	sim_net_serve(address, on_connect, r);
	return r;
}

void
sim_redis_calm(struct sim_redis *r)
{
	uint64_t lag_us = r->faults.lag_us;

	r->faults = (struct sim_redis_faults){ .lag_us = lag_us };
	r->down_until_us = r->no_memory_until_us = r->no_disk_until_us = 0;
	memset(r->cut_until_us, 0, sizeof r->cut_until_us);
}

void
sim_redis_configure(struct sim_redis *r, const char *name, const char *value)
{
	unsigned i = 0;

	while (i < PARAMETERS && r->parameters[i].name != NULL &&
	       strcmp(r->parameters[i].name, name) != 0)
		i++;
	ASSERT(i < PARAMETERS);
	r->parameters[i] = (struct parameter){ name, value };
}

void
sim_redis_require(struct sim_redis *r, const char *user, const char *password)
{
	r->user = user;
	r->password = password;
}

void
sim_redis_move_clock(struct sim_redis *r, int64_t offset_ms)
{
	r->offset_ms = offset_ms;
}

void
sim_redis_break_connections(struct sim_redis *r)
{
	struct list_node *n;

	while ((n = list_first(&r->channels)) != NULL)
		drop(LIST_ITEM(n, struct channel, node_link));
}

void
sim_redis_cut(struct sim_redis *r, unsigned node, uint64_t until_us)
{
	struct list_node *next;

	ASSERT(node < SIM_REDIS_NODES);
	r->cut_until_us[node] = until_us;
	for (struct list_node *n = list_first(&r->channels); n != NULL; n = next) {
		struct channel *c = LIST_ITEM(n, struct channel, node_link);
		next = list_next(&r->channels, n);
		if (c->node == node)
			drop(c);
	}
}

void
sim_redis_restart(struct sim_redis *r, uint64_t down_us)
{
	sim_note("redis restarts", down_us, 0);
	r->lives++;
	sim_redis_break_connections(r);
	r->down_until_us = world->now_us + down_us;
}

/* The replica takes the place of the master, and a new one is made of it at once. */
void
sim_redis_fail_over(struct sim_redis *r, uint64_t down_us)
{
	static struct span words[WORDS_MOST];
	struct list_node *n;
	uint64_t lost = 0;
	unsigned count;

	ASSERT(r->replica != NULL);
	replicate(r);
	r->replicated = r->written;
	keys_copy(r->keys, r->replica);
	sim_redis_restart(r, down_us);
	while ((n = list_first(&r->journal)) != NULL) {
		struct entry *e = LIST_ITEM(n, struct entry, node);
		take_command(blob_span(&e->words), words, &count);
		if (r->on_lost != NULL)
			r->on_lost(r->lost_context, words, count);
		forget_entry(e);
		lost++;
	}
	r->numbers.lost += lost;
	r->numbers.fail_overs += lost > 0;
}

void
sim_redis_watch_losses(struct sim_redis *r,
		       void (*on_lost)(void *context, const struct span *words, unsigned count),
		       void *context)
{
	r->on_lost = on_lost;
	r->lost_context = context;
}

struct sim_redis_numbers
sim_redis_count(const struct sim_redis *r)
{
	return r->numbers;
}
