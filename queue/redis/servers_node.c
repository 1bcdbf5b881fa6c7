/* SPDX-License-Identifier: Apache-2.0
 *
 * One server that holds shards, and what makes its link ready: it must promise what is asked for,
 * have our functions, and hold a queue of our form. Each is one flight of questions. What it
 * promises is asked again while the link is ready, and a server that promises less by then is left.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/log.h"
#include "queue/redis/functions.h"
#include "queue/redis/servers_parts.h"

enum { FORMAT_VERSION = 1, WORDS_MOST = 8 };

typedef void (*reply_fn)(struct redis_call *c, enum err e, const struct redisReply *reply);

static struct span
text_of(const struct redisReply *r)
{
	bool has_text =
		r != NULL && (r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS ||
			      r->type == REDIS_REPLY_ERROR);

	return has_text ? span_of(r->str, r->len) : span_none();
}

/* ---- what is said ---- */

/* Once a reason, not once an attempt; where they listen, as each worker's do. */
static bool
is_news(struct redis_node *n, struct span problem)
{
	bool is_new = !span_eq(buf_span(&n->said), problem);

	buf_reset(&n->said);
	buf_append(&n->said, problem);
	return is_new && n->servers->listens && n->servers->worker->log != NULL;
}

static void
say_up(struct redis_node *n)
{
	buf_reset(&n->said);
	if (n->servers->listens && n->servers->worker->log != NULL)
		event_redis_up(n->servers->worker->log,
			       &(struct event_redis_up){ .server = n->name });
}

static void
say_down(struct redis_node *n)
{
	struct span problem = redis_link_problem(n->link);

	if (is_news(n, problem))
		event_redis_down(
			n->servers->worker->log,
			&(struct event_redis_down){ .server = n->name, .problem = problem });
}

static void
reject(struct redis_node *n, struct span why)
{
	if (is_news(n, why))
		event_redis_rejected(
			n->servers->worker->log,
			&(struct event_redis_rejected){ .server = n->name, .problem = why });
	redis_link_reject(n->link, why);
}

static void
reject_saying(struct redis_node *n, const char *what, struct span details)
{
	uint8_t memory[SERVERS_PROBLEM_MOST];
	struct buf why = buf_of(memory, sizeof memory);

	buf_printf(&why, "redis %.*s %s", SPAN_ARG(n->name), what);
	if (details.size > 0) {
		buf_append(&why, SPAN(": "));
		buf_append(&why, span_first(details, 200));
	}
	reject(n, buf_span(&why));
}

/* ---- asking ---- */

static void
ask(struct redis_node *n, struct redis_call *c, reply_fn on_reply, const struct span *words,
    unsigned count)
{
	n->setup.left++;
	*c = (struct redis_call){ .on_reply = on_reply };
	redis_send(n->link, c, words, count);
}

/* An answer has come. Is it the last one of its flight, and is the link still there? Where it was
 * not executed for a reason that passes, the server is left for now. */
static bool
is_last(struct redis_node *n, enum err e, const struct redisReply *reply)
{
	n->setup.left--;
	if (n->link == NULL || reply == NULL)
		return false;
	if (e == ERR_AGAIN) {
		reject_saying(n, "cannot be used now", text_of(reply));
		return false;
	}
	return n->setup.left == 0;
}

/* ---- the form of the queue ---- */

static void ask_format(struct redis_node *n);

static struct span
format_key(const struct redis_node *n, uint8_t memory[SERVER_ADDRESS_MOST])
{
	struct buf key = buf_of(memory, SERVER_ADDRESS_MOST);

	buf_printf(&key, "{%.*s}:format", SPAN_ARG(n->servers->options->prefix));
	return buf_span(&key);
}

static void
set_ask_again(struct redis_node *n)
{
	struct worker *w = n->servers->worker;

	if (n->servers->options->ask_again_ms > 0)
		timer_set(&w->timers, &n->ask_again, w->now_ms + n->servers->options->ask_again_ms);
}

static void
use(struct redis_node *n)
{
	redis_link_ready(n->link);
	if (!redis_link_is_ready(n->link))
		return;
	set_ask_again(n);
	say_up(n);
	servers_note_problem(n->servers);
	n->servers->events->on_up(n->servers, n->servers->context);
}

static void
judge_format(struct redis_node *n, uint64_t version, uint64_t shards)
{
	char what[160];
	struct buf text = buf_of(what, sizeof what - 1);

	if (version > FORMAT_VERSION)
		buf_printf(&text,
			   "holds a queue of a newer Ringpost (format %" PRIu64
			   "): upgrade this node",
			   version);
	else if (shards != n->servers->options->shards)
		buf_printf(&text,
			   "holds a queue of %" PRIu64 " shards, not of %u: set queue.redis.shards "
			   "to %" PRIu64 ", which stays as it was first",
			   shards, n->servers->options->shards, shards);
	what[text.size] = 0;
	if (text.size > 0)
		reject_saying(n, what, span_none());
	else
		use(n);
}

/* The answers to HSETNX; what is there in the end is looked at anew. */
static void
note_written(struct redis_node *n, enum err e, const struct redisReply *reply)
{
	if (e != ERR_OK && e != ERR_AGAIN && reply != NULL)
		reject_saying(n, "does not let us begin a queue", text_of(reply));
	if (!is_last(n, e, reply))
		return;
	n->setup.wrote_format = true;
	ask_format(n);
}

static void
on_version_written(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	note_written(CONTAINER_OF(c, struct redis_node, setup.format[1]), e, reply);
}

static void
on_shards_written(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	note_written(CONTAINER_OF(c, struct redis_node, setup.format[2]), e, reply);
}

static void
on_created_written(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	note_written(CONTAINER_OF(c, struct redis_node, setup.format[3]), e, reply);
}

static void
write_field(struct redis_node *n, unsigned step, reply_fn on_reply, struct span field,
	    uint64_t value)
{
	uint8_t key[SERVER_ADDRESS_MOST], memory[32];
	struct buf text = buf_of(memory, sizeof memory);

	buf_append_number(&text, value);
	ask(n, &n->setup.format[step], on_reply,
	    (struct span[]){ SPAN("HSETNX"), format_key(n, key), field, buf_span(&text) }, 4);
}

/* Of each field whoever comes first says it, and all are bound to it. */
static void
write_format(struct redis_node *n)
{
	write_field(n, 1, on_version_written, SPAN("version"), FORMAT_VERSION);
	write_field(n, 2, on_shards_written, SPAN("shards"), n->servers->options->shards);
	write_field(n, 3, on_created_written, SPAN("created"),
		    n->servers->worker->now_wall_ms / 1000);
}

static void
on_format(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct redis_node *n = CONTAINER_OF(c, struct redis_node, setup.format[0]);
	uint64_t version = 0, shards = 0;

	/* In a Cluster it is another's, who will be asked. */
	if (e == ERR_AGAIN && n->link != NULL &&
	    (span_starts_with(text_of(reply), SPAN("MOVED ")) ||
	     span_starts_with(text_of(reply), SPAN("ASK ")))) {
		n->setup.left--;
		use(n);
		return;
	}
	if (!is_last(n, e, reply))
		return;
	if (e != ERR_OK || reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) {
		reject_saying(n, "does not show the form of its queue", text_of(reply));
		return;
	}
	bool is_there = span_to_u64(text_of(reply->element[0]), &version) &&
			span_to_u64(text_of(reply->element[1]), &shards);
	if (is_there)
		judge_format(n, version, shards);
	else if (n->setup.wrote_format)
		reject_saying(n,
			      "holds something else under the name of a queue: choose another "
			      "queue.redis.prefix",
			      span_none());
	else
		write_format(n);
}

static void
ask_format(struct redis_node *n)
{
	uint8_t key[SERVER_ADDRESS_MOST];

	ask(n, &n->setup.format[0], on_format,
	    (struct span[]){ SPAN("HMGET"), format_key(n, key), SPAN("version"), SPAN("shards") },
	    4);
}

/* ---- functions ---- */

static void
on_loaded(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct redis_node *n = CONTAINER_OF(c, struct redis_node, setup.load);

	if (!is_last(n, e, reply))
		return;
	if (e == ERR_OK)
		ask_format(n);
	else
		reject_saying(n, "does not take our functions (FUNCTION LOAD)", text_of(reply));
}

static void
look_at_functions(struct redis_node *n)
{
	if (n->setup.version > REDIS_FUNCTIONS_VERSION)
		reject_saying(n, "has functions of a newer Ringpost: upgrade this node",
			      span_none());
	else if (n->setup.version == REDIS_FUNCTIONS_VERSION)
		ask_format(n);
	else
		ask(n, &n->setup.load, on_loaded,
		    (struct span[]){ SPAN("FUNCTION"), SPAN("LOAD"), SPAN("REPLACE"),
				     redis_functions() },
		    4);
}

/* ---- the first flight, and what of it is asked again ---- */

static void
look_at_answers(struct redis_node *n)
{
	uint8_t memory[SERVERS_PROBLEM_MOST];
	struct buf why = buf_of(memory, sizeof memory);

	if (!promise_holds(&n->setup.facts, n->servers->options, n->name, &why))
		reject(n, buf_span(&why));
	else if (redis_link_is_ready(n->link))
		set_ask_again(n);
	else
		look_at_functions(n);
}

static void
on_info(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct redis_node *n = CONTAINER_OF(c, struct redis_node, setup.questions[0]);

	if (e == ERR_OK)
		promise_read_info(text_of(reply), &n->setup.facts);
	if (is_last(n, e, reply))
		look_at_answers(n);
}

static void
on_settings(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct redis_node *n = CONTAINER_OF(c, struct redis_node, setup.questions[1]);

	for (size_t i = 0; e == ERR_OK && i + 1 < reply->elements; i += 2)
		promise_read_setting(text_of(reply->element[i]), text_of(reply->element[i + 1]),
				     &n->setup.facts);
	if (is_last(n, e, reply))
		look_at_answers(n);
}

/* Where it is not there, the reply is an error. */
static void
on_version(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	struct redis_node *n = CONTAINER_OF(c, struct redis_node, setup.questions[2]);

	if (e == ERR_OK && reply->type == REDIS_REPLY_INTEGER)
		n->setup.version = reply->integer;
	if (is_last(n, e, reply))
		look_at_answers(n);
}

static void
ask_all(struct redis_node *n, struct redis_call *c, reply_fn on_reply, struct span first,
	struct span second, const struct span *more, unsigned count)
{
	struct span words[WORDS_MOST] = { first, second };
	unsigned used = second.size > 0 ? 2 : 1;

	ASSERT(used + count <= WORDS_MOST);
	memcpy(words + used, more, count * sizeof *more);
	ask(n, c, on_reply, words, used + count);
}

static void
ask_promises(struct redis_node *n)
{
	unsigned count;
	const struct span *more = promise_sections(&count);
	/* As long as a connection lasts it is one process, also while that is asked again. */
	uint64_t run = redis_link_is_ready(n->link) ? n->setup.facts.run : 0;

	ASSERT(n->setup.left == 0);
	n->setup = (struct redis_setup){ .facts = { .run = run } };
	ask_all(n, &n->setup.questions[0], on_info, SPAN("INFO"), span_none(), more, count);
	more = promise_settings(&count);
	if (promise_asks_settings(n->servers->options))
		ask_all(n, &n->setup.questions[1], on_settings, SPAN("CONFIG"), SPAN("GET"), more,
			count);
}

static void
on_login(struct redis_link *l, void *context)
{
	struct redis_node *n = context;

	(void)l;
	ask_promises(n);
	ask(n, &n->setup.questions[2], on_version,
	    (struct span[]){ SPAN("FCALL"), SPAN("rp_version"), SPAN("0") }, 3);
}

/* One whose link is not ready is asked when it is made so. */
static void
on_ask_again(struct timer *t)
{
	struct redis_node *n = CONTAINER_OF(t, struct redis_node, ask_again);

	if (n->link != NULL && redis_link_is_ready(n->link))
		ask_promises(n);
}

/* ---- up and down ---- */

static void
on_down(struct redis_link *l, void *context)
{
	struct redis_node *n = context;

	(void)l;
	if (n->link == NULL || n->servers->ends)
		return;
	say_down(n);
	servers_note_problem(n->servers);
	guide_doubt(n->servers);
	n->servers->events->on_down(n->servers, n->servers->context);
}

static void
on_failed(struct redis_link *l, void *context)
{
	struct redis_node *n = context;

	(void)l;
	if (n->link == NULL || n->servers->ends)
		return;
	say_down(n);
	servers_note_problem(n->servers);
	guide_doubt(n->servers);
}

/* One that is a replica by now is left at once: it would go on reading. */
static void
on_moved(struct redis_link *l, void *context, struct span error)
{
	struct redis_node *n = context;

	(void)l;
	if (n->link == NULL || n->servers->ends)
		return;
	guide_note_moved(n->servers, error);
	guide_doubt(n->servers);
	if (span_starts_with(error, SPAN("READONLY")) && redis_link_is_ready(n->link))
		reject_saying(n, "is a replica now", span_none());
}

static const struct redis_link_events node_events = {
	.on_login = on_login,
	.on_down = on_down,
	.on_failed = on_failed,
	.on_moved = on_moved,
};

static void
on_link_ended(void *context)
{
	struct redis_node *n = context;
	struct redis_servers *s = n->servers;

	list_unlink(&n->node);
	s->node_count--;
	free(n);
	if (!s->ends)
		s->events->on_down(s, s->context);
	servers_link_ended(s);
}

struct redis_node *
node_new(struct redis_servers *s, struct span name)
{
	struct redis_node *n = calloc(1, sizeof *n);

	if (n == NULL || name.size > sizeof n->text) {
		free(n);
		return NULL;
	}
	memcpy(n->text, name.data, name.size);
	n->name = span_of(n->text, name.size);
	n->said = buf_of(n->said_memory, sizeof n->said_memory);
	n->servers = s;
	timer_init(&n->ask_again, on_ask_again);
	struct redis_link_options o = servers_link_options(s);
	o.servers = &n->name;
	o.server_count = 1;
	n->link = redis_link_new(s->worker, &o, &node_events, n);
	if (n->link == NULL) {
		free(n);
		return NULL;
	}
	list_append(&s->nodes, &n->node);
	s->node_count++;
	s->open++;
	return n;
}

void
node_close(struct redis_node *n)
{
	struct redis_link *l = n->link;

	if (l == NULL)
		return;
	timer_stop(&n->servers->worker->timers, &n->ask_again);
	n->link = NULL;
	redis_link_close(l, on_link_ended, n);
}
