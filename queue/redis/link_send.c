/* SPDX-License-Identifier: Apache-2.0
 *
 * How commands become bytes on the connection. What it has room for goes there at once, without a
 * copy of ours in between; what it has none for waits in pieces. Bodies wait as references.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "core/metric.h"
#include "queue/redis/link_parts.h"

enum {
	PIECE_SIZE = 16 * 1024,
	/* Shorter runs of a body are copied into the connection's buffer: one of them is lent at a
	 * time, and a send for each costs more than the copy. */
	LEND_LEAST = 16 * 1024,
};

/* ---- pieces ---- */

static void
drop_piece(struct link_piece *p)
{
	list_unlink(&p->node);
	free(p);
}

void
link_drop_pieces(struct redis_link *l)
{
	struct list_node *n;

	while ((n = list_first(&l->pieces)) != NULL)
		drop_piece(LIST_ITEM(n, struct link_piece, node));
}

static struct link_piece *
add_piece(struct redis_link *l, size_t capacity)
{
	struct link_piece *p = malloc(sizeof *p + capacity);

	if (p == NULL) {
		l->broken = true;
		conn_close(&l->conn, CLOSE_NO_MEMORY);
		return NULL;
	}
	*p = (struct link_piece){ .capacity = capacity };
	list_append(&l->pieces, &p->node);
	return p;
}

/* Bytes of ours that go behind all pieces. */
static void
keep_bytes(struct redis_link *l, struct span bytes)
{
	struct list_node *last = list_last(&l->pieces);
	struct link_piece *p = last == NULL ? NULL : LIST_ITEM(last, struct link_piece, node);

	while (bytes.size > 0) {
		if (p == NULL || p->body != NULL || p->size == p->capacity)
			p = add_piece(l, bytes.size > PIECE_SIZE ? bytes.size : PIECE_SIZE);
		if (p == NULL)
			return;
		struct span part = span_first(bytes, p->capacity - p->size);
		memcpy(p->bytes + p->size, part.data, part.size);
		p->size += part.size;
		bytes = span_after(bytes, part.size);
	}
}

/* ---- to the connection ---- */

/* As much as there is room for; says how much. */
static size_t
hand_over(struct redis_link *l, struct span bytes)
{
	bytes = span_first(bytes, conn_output_room(&l->conn));
	if (bytes.size == 0)
		return 0;
	l->handed += bytes.size;
	link_count_bytes(l, LABEL_DIRECTION_SENT, bytes.size);
	conn_write(&l->conn, bytes);
	return bytes.size;
}

/* One step with a piece that is lent. False: the connection takes no more of it now. */
static bool
hand_over_body(struct redis_link *l, struct link_piece *p)
{
	struct span run = span_first(body_at(p->body, p->offset), p->left);
	size_t n = run.size;

	ASSERT(n > 0); /* the body is as long as its owner said */
	if (n < LEND_LEAST) {
		n = hand_over(l, run);
	} else if (l->lent_call == NULL) {
		l->lent_call = p->call;
		l->handed += n;
		link_count_bytes(l, LABEL_DIRECTION_SENT, n);
		conn_write_lent(&l->conn, run.data, n);
	} else {
		return false;
	}
	p->offset += n;
	p->left -= n;
	return n > 0;
}

static bool
hand_over_piece(struct redis_link *l, struct link_piece *p)
{
	if (p->body != NULL) {
		while (p->left > 0) {
			if (!hand_over_body(l, p))
				return false;
		}
	} else {
		p->start += hand_over(l, span_of(p->bytes + p->start, p->size - p->start));
		if (p->start < p->size)
			return false;
	}
	drop_piece(p);
	return true;
}

void
link_pump(struct redis_link *l)
{
	struct list_node *n;

	while (!l->broken && (n = list_first(&l->pieces)) != NULL) {
		if (!hand_over_piece(l, LIST_ITEM(n, struct link_piece, node)))
			return;
	}
}

static void
put_bytes(struct redis_link *l, struct span bytes)
{
	l->made += bytes.size;
	if (l->broken)
		return;
	if (list_is_empty(&l->pieces))
		bytes = span_after(bytes, hand_over(l, bytes));
	keep_bytes(l, bytes);
}

static void
put_body(struct redis_link *l, struct redis_call *c, const struct body *body, uint64_t offset,
	 uint64_t size)
{
	l->made += size;
	if (l->broken || size == 0)
		return;
	struct link_piece *p = add_piece(l, 0);
	if (p == NULL)
		return;
	p->body = body;
	p->call = c;
	p->offset = offset;
	p->left = size;
	link_pump(l);
}

/* ---- commands ---- */

/* Gathers what is short. */
struct gathering {
	struct redis_link *link;
	struct buf text;
	uint8_t memory[1024];
};

static void
flush(struct gathering *g)
{
	put_bytes(g->link, buf_span(&g->text));
	buf_reset(&g->text);
}

static void
gather(struct gathering *g, struct span bytes)
{
	if (bytes.size > buf_room(&g->text))
		flush(g);
	if (bytes.size > buf_room(&g->text))
		put_bytes(g->link, bytes);
	else
		buf_append(&g->text, bytes);
}

/* "*3\r\n", "$10\r\n" */
static void
gather_number(struct gathering *g, char kind, uint64_t number)
{
	uint8_t memory[24];
	struct buf text = buf_of(memory, sizeof memory);

	buf_append_byte(&text, (uint8_t)kind);
	buf_append_number(&text, number);
	buf_append(&text, SPAN("\r\n"));
	gather(g, buf_span(&text));
}

static void
gather_arguments(struct gathering *g, const struct span *arguments, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		gather_number(g, '$', arguments[i].size);
		gather(g, arguments[i]);
		gather(g, SPAN("\r\n"));
	}
}

/* Is it a connection that takes commands? Otherwise the call will be answered later. */
static bool
begin(struct redis_link *l, struct redis_call *c)
{
	ASSERT(c->on_reply != NULL);
	switch ((enum link_state)l->state) {
	case LINK_WAITING:
	case LINK_RESOLVING:
	case LINK_CONNECTING:
	case LINK_LOGIN:
		list_append(&l->refused, &c->node);
		worker_soon(l->worker, &l->refuse);
		return false;
	case LINK_CLOSING: /* behind those that were sent */
		c->ends_at = UINT64_MAX;
		list_append(&l->calls, &c->node);
		l->call_count++;
		return false;
	case LINK_SETUP:
	case LINK_READY:
		break;
	}
	return true;
}

static void
add_call(struct redis_link *l, struct redis_call *c)
{
	c->ends_at = l->made;
	list_append(&l->calls, &c->node);
	if (l->call_count++ == 0)
		conn_deadline(&l->conn, l->worker->now_ms + l->options.deadline_ms);
	if (l->worker->metrics != NULL)
		METRIC_ADD(l->worker->metrics, REDIS_COMMANDS, 1);
	if (l->call_count > 2 * REDIS_CALLS_MOST || l->made - l->answered > 2 * REDIS_BYTES_MOST)
		conn_close(&l->conn, CLOSE_NO_MEMORY);
}

void
link_send(struct redis_link *l, struct redis_call *c, const struct span *arguments, unsigned count)
{
	struct gathering g = { .link = l };

	ASSERT(count > 0);
	g.text = buf_of(g.memory, sizeof g.memory);
	gather_number(&g, '*', count);
	gather_arguments(&g, arguments, count);
	flush(&g);
	add_call(l, c);
}

void
redis_send(struct redis_link *l, struct redis_call *c, const struct span *arguments, unsigned count)
{
	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	if (!begin(l, c))
		return;
	l->subscribed |= span_eq(arguments[0], SPAN("SUBSCRIBE"));
	link_send(l, c, arguments, count);
}

void
redis_send_body(struct redis_link *l, struct redis_call *c, const struct span *arguments,
		unsigned count, struct span first, const struct body *body, uint64_t offset,
		uint64_t size)
{
	struct gathering g = { .link = l };

	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	ASSERT(offset <= body_size(body) && size <= body_size(body) - offset);
	if (!begin(l, c))
		return;
	g.text = buf_of(g.memory, sizeof g.memory);
	gather_number(&g, '*', count + 1u);
	gather_arguments(&g, arguments, count);
	gather_number(&g, '$', first.size + size);
	gather(&g, first);
	flush(&g);
	put_body(l, c, body, offset, size);
	put_bytes(l, SPAN("\r\n"));
	add_call(l, c);
}
