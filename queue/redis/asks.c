/* SPDX-License-Identifier: Apache-2.0
 *
 * Acts on mails that other nodes own: whoever is asked for one asks the owner, who does it as it
 * would its own and answers. Between them is Redis alone: rp_ask does it at once where nobody owns
 * the mail by then, else it tells all nodes by the channel of wakes (which may lose the message),
 * and the answer is kept there, under the token of the request (rp_answer, which tells as well). So
 * rp_ask is sent again until something comes of it: what was done already is not done twice, and
 * where the owner died meanwhile, the mail is another's by then, or nobody's. The events of an act
 * are written by the node that did it, since only that one is certain of it.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/base/clock.h"
#include "queue/redis/internal.h"

enum {
	AGAIN_MS = 500,
	PATIENCE_MS = 10 * 1000,
	SERVINGS_MOST = 4096, /* requests of others, at a time; they ask again */
	TOKEN_SIZE = REDIS_ID_SIZE,
};

const char *const act_names[] = { "hold", "unhold", "requeue", "remove" };

struct asking {
	struct list_node node; /* end->askings */
	struct redis_call call;
	struct timer again;
	struct redis_end *end;
	struct queue_act *act;
	uint64_t until_ms;
	bool open;
	bool was_told; /* by an owner: it may have been done */
	uint8_t token[TOKEN_SIZE];
};

/* A request of another node. */
struct serving {
	struct list_node node; /* end->servings */
	struct queue_act act;  /* its texts are behind it */
	struct redis_call call;
	struct redis_end *end;
	uint8_t token[TOKEN_SIZE];
	struct span sender;
	struct span *gone; /* recipients that a removal ends */
	uint32_t gone_count;
};

/* ---- asking ---- */

static void
asking_ends(struct asking *k, enum err error, bool is_told)
{
	struct queue_act *a = k->act;
	struct redis_end *e = k->end;

	timer_stop(&e->queue.worker->timers, &k->again);
	atomic_store(&e->store->leases[shard_of(e->store, a->id)].changed, true);
	list_unlink(&k->node);
	free(k);
	a->is_told = is_told;
	a->on_done(a, error);
}

static void asking_send(struct asking *k);

/* It is this node's: since it was asked for, or in the hands of another worker. */
static void
asking_comes_home(struct asking *k)
{
	struct redis_end *e = k->end;
	struct queue_act *a = k->act;

	if (owned_find(e, a->id) == NULL) {
		asking_ends(k, ERR_NOT_FOUND, false);
		return;
	}
	list_unlink(&k->node);
	timer_stop(&e->queue.worker->timers, &k->again);
	free(k);
	redis_act(&e->queue, a);
}

static void
asking_waits(struct asking *k, enum err error)
{
	struct worker *w = k->end->queue.worker;

	if (w->now_ms >= k->until_ms || k->end->stopping)
		asking_ends(k, error, false);
	else
		timer_set(&w->timers, &k->again, w->now_ms + AGAIN_MS);
}

static enum err
err_of_word(struct span word)
{
	for (unsigned e = 0; e < ERR_COUNT; e++) {
		if (span_eq(word, span_of_string(err_name(e))))
			return e;
	}
	return ERR_AGAIN;
}

static void
on_asked(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct asking *k = CONTAINER_OF(c, struct asking, call);
	struct span word = redis_text(reply);

	k->open = false;
	k->end->calls_open--;
	if (error != ERR_OK && k->was_told)
		asking_waits(k, ERR_AWAY);
	else if (error != ERR_OK)
		asking_ends(k, error == ERR_IN_DOUBT ? ERR_IN_DOUBT : ERR_AWAY, false);
	else if (span_eq(word, SPAN("OK")))
		asking_ends(k, ERR_OK, false);
	else if (span_eq(word, SPAN("NONE")))
		asking_ends(k, ERR_NOT_FOUND, false);
	else if (span_eq(word, SPAN("MINE")))
		asking_comes_home(k);
	else if (!span_eq(word, SPAN("ASKED")))
		asking_ends(k, err_of_word(word), span_eq(word, span_of_string(err_name(ERR_OK))));
	else {
		k->was_told = true;
		asking_waits(k, ERR_TIMEOUT);
	}
}

static void
asking_send(struct asking *k)
{
	struct redis_end *e = k->end;
	const struct queue_act *a = k->act;
	unsigned shard = shard_of(e->store, a->id);
	struct redis_link *link = redis_servers_link(e->servers, shard);

	if (link == NULL || redis_link_is_full(link) || !args_begin(e, "rp_ask", shard, 6, 128)) {
		asking_waits(k, ERR_AWAY);
		return;
	}
	args_incarnation(e);
	args_span(e, span_of(k->token, TOKEN_SIZE));
	args_id(e, a->id);
	args_span(e, span_of_string(act_names[a->action]));
	args_span(e, a->who);
	args_span(e, a->why);
	k->open = true;
	args_send(e, link, &k->call);
}

static void
on_again(struct timer *t)
{
	struct asking *k = CONTAINER_OF(t, struct asking, again);

	if (!k->open)
		asking_send(k);
}

void
ask_begin(struct redis_end *e, struct queue_act *a)
{
	struct asking *k = calloc(1, sizeof *k);

	if (k == NULL) {
		finish_later(e, &a->request, &act_kind, ERR_NO_MEMORY);
		return;
	}
	struct buf token = buf_of(k->token, sizeof k->token);
	id_hex(&token, (struct mail_id){ random_u64(), random_u64() });
	k->call.on_reply = on_asked;
	k->end = e;
	k->act = a;
	k->until_ms = e->queue.worker->now_ms + PATIENCE_MS;
	timer_init(&k->again, on_again);
	list_append(&e->askings, &k->node);
	/* Not inside of the call, where it cannot be sent. */
	timer_set(&e->queue.worker->timers, &k->again, e->queue.worker->now_ms);
}

void
asks_give_up(struct redis_end *e)
{
	struct list_node *next;

	for (struct list_node *n = list_first(&e->askings); n != NULL; n = next) {
		struct asking *k = LIST_ITEM(n, struct asking, node);
		next = list_next(&e->askings, n);
		if (!k->open)
			asking_ends(k, ERR_SHUTTING_DOWN, false);
	}
}

static void
hear_told(struct redis_end *e, struct span token)
{
	for (struct list_node *n = list_first(&e->askings); n != NULL;
	     n = list_next(&e->askings, n)) {
		struct asking *k = LIST_ITEM(n, struct asking, node);
		if (!span_eq(token, span_of(k->token, TOKEN_SIZE)))
			continue;
		if (!k->open)
			asking_send(k);
		return;
	}
}

/* ---- answering ---- */

static void
serving_ends(struct serving *v)
{
	list_unlink(&v->node);
	v->end->serving_count--;
	free(v);
}

static void
on_answered(struct redis_call *c, enum err error, const struct redisReply *reply)
{
	struct serving *v = CONTAINER_OF(c, struct serving, call);

	(void)error; /* whoever asks does it again, and finds what is true then */
	(void)reply;
	v->end->calls_open--;
	serving_ends(v);
}

static void
on_served(struct queue_act *a, enum err error)
{
	struct serving *v = CONTAINER_OF(a, struct serving, act);
	struct redis_end *e = v->end;
	unsigned shard = shard_of(e->store, a->id);
	struct redis_link *link = redis_servers_link(e->servers, shard);

	if (error == ERR_OK)
		report_acted(e, a, v->sender, v->gone, v->gone_count);
	if (error == ERR_SHUTTING_DOWN || link == NULL ||
	    !args_begin(e, "rp_answer", shard, 2, 0)) {
		serving_ends(v);
		return;
	}
	args_span(e, span_of(v->token, TOKEN_SIZE));
	args_span(e, span_of_string(err_name(error)));
	args_send(e, link, &v->call);
}

static struct span
keep(uint8_t **at, struct span text)
{
	struct span copy = span_of(*at, text.size);

	if (text.size > 0)
		memcpy(*at, text.data, text.size);
	*at += text.size;
	return copy;
}

/* With all texts behind it, since the mail may be gone when it is done. NULL: no memory. */
static struct serving *
serving_new(const struct redis_mail *m, enum queue_action action, struct span who, struct span why)
{
	const struct mail_envelope *envelope = &m->envelope;
	uint32_t count = action == QUEUE_REMOVE ? envelope->recipient_count : 0;
	size_t size = who.size + why.size + envelope->sender.size + count * sizeof(struct span);

	for (uint32_t i = 0; i < count; i++)
		size += envelope->recipients[i].address.size;
	struct serving *v = calloc(1, sizeof *v + size);
	if (v == NULL)
		return NULL;
	v->gone = (struct span *)(void *)(v + 1);
	uint8_t *at = (uint8_t *)(v->gone + count);
	v->act = (struct queue_act){
		.action = action,
		.id = m->mail.id,
		.who = keep(&at, who),
		.why = keep(&at, why),
		.on_done = on_served,
	};
	v->sender = keep(&at, envelope->sender);
	for (uint32_t i = 0; i < count; i++) {
		if (envelope->recipients[i].state == RECIPIENT_PENDING)
			v->gone[v->gone_count++] = keep(&at, envelope->recipients[i].address);
	}
	return v;
}

static bool
is_served(const struct redis_end *e, struct span token)
{
	for (struct list_node *n = list_first(&e->servings); n != NULL;
	     n = list_next(&e->servings, n)) {
		if (span_eq(token, span_of(LIST_ITEM(n, struct serving, node)->token, TOKEN_SIZE)))
			return true;
	}
	return false;
}

/* Up to the separator, which goes too. */
static struct span
next_part(struct span *rest, uint8_t separator)
{
	size_t end = span_find(*rest, separator, 0);
	struct span part = span_first(*rest, end);

	*rest = span_after(*rest, end < rest->size ? end + 1 : end);
	return part;
}

static bool
find_action(struct span name, enum queue_action *out)
{
	for (unsigned i = QUEUE_HOLD; i <= QUEUE_REMOVE; i++) {
		*out = (enum queue_action)i;
		if (span_eq(name, span_of_string(act_names[i])))
			return true;
	}
	return false;
}

/* "TOKEN ID ACTION\nWHO\nWHY". One that is on its way out is left alone: who asks will find that
 * nobody owns it. */
static void
hear_act(struct redis_end *e, struct span rest)
{
	struct span token = next_part(&rest, ' ');
	struct span id_text = next_part(&rest, ' ');
	enum queue_action action;
	bool is_known = find_action(next_part(&rest, '\n'), &action);
	struct span who = next_part(&rest, '\n');
	struct mail_id id;

	if (!is_known || token.size != TOKEN_SIZE || !id_of_hex(id_text, &id) || e->stopping ||
	    e->serving_count >= SERVINGS_MOST)
		return;
	const struct redis_mail *m = owned_find(e, id);
	if (m == NULL || m->leaving || is_served(e, token))
		return;
	struct serving *v = serving_new(m, action, who, rest);
	if (v == NULL)
		return;
	memcpy(v->token, token.data, TOKEN_SIZE);
	v->end = e;
	v->call.on_reply = on_answered;
	list_append(&e->servings, &v->node);
	e->serving_count++;
	redis_act(&e->queue, &v->act);
}

/* "node INC", "act INC ...", "told TOKEN" */
void
asks_hear(struct redis_end *e, struct span message)
{
	struct span ours = span_of((uint8_t *)e->store->incarnation, REDIS_INCARNATION_SIZE);
	struct span word = next_part(&message, ' ');

	if (span_eq(word, SPAN("told"))) {
		hear_told(e, message);
		return;
	}
	if (!span_eq(next_part(&message, ' '), ours))
		return;
	if (span_eq(word, SPAN("node")))
		nodes_write(e);
	else if (span_eq(word, SPAN("act")))
		hear_act(e, message);
}
