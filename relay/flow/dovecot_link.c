/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/dovecot_link.h"

#include "core/base/base64.h"
#include "core/base/clock.h"
#include "core/metric.h"
#include "core/net.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"

enum {
	PATIENCE_MS =
		30 * 1000, /* Dovecot holds answers to failures back for some seconds itself */
	CONNECT_MS = 5 * 1000,
	PAUSE_MS = 1000,
};

static const struct conn_events dovecot_events;

static struct dovecot_link *
link_of(struct conn *c)
{
	return CONTAINER_OF(c, struct dovecot_link, conn);
}

static uint64_t
now_of(const struct dovecot_link *d)
{
	return d->flow->worker->now_ms;
}

bool
dovecot_is_quiet(const struct dovecot_link *d)
{
	return d->state == DOVECOT_CLOSED;
}

/* ---- questions ---- */

static void
settle(struct dovecot_question *q, enum dovecot_answer answer, struct span user)
{
	list_unlink(&q->link);
	q->on_answer(q, answer, user);
}

static void
settle_all(struct dovecot_link *d)
{
	struct list *lists[] = { &d->asked, &d->waiting };
	struct list_node *n;

	for (unsigned i = 0; i < 2; i++) {
		while ((n = list_first(lists[i])) != NULL)
			settle(LIST_ITEM(n, struct dovecot_question, link), DOVECOT_UNAVAILABLE,
			       span_none());
	}
	/* These hear of it when they go on. */
	while ((n = list_shift(&d->held)) != NULL)
		LIST_ITEM(n, struct dovecot_question, link)->number = 0;
}

/* The connection is of no use any more. */
static void
give_up(struct dovecot_link *d, enum close_reason reason, const char *why)
{
	if (d->state == DOVECOT_CLOSING)
		return;
	flow_event_dovecot_failed(d->flow, span_of_string(why));
	d->state = DOVECOT_CLOSING;
	d->pause_until_ms = now_of(d) + PAUSE_MS;
	conn_close(&d->conn, reason);
	settle_all(d);
}

static void
send_waiting(struct dovecot_link *d)
{
	uint8_t memory[DOVECOT_QUESTION_MAX];
	struct list_node *n;

	while (d->state == DOVECOT_READY && conn_output_room(&d->conn) >= sizeof memory &&
	       (n = list_shift(&d->waiting)) != NULL) {
		struct dovecot_question *q = LIST_ITEM(n, struct dovecot_question, link);
		struct buf line = buf_of(memory, sizeof memory);
		if (++d->last_number == 0)
			d->last_number = 1; /* 0 is none for Dovecot */
		q->number = d->last_number;
		list_append(&d->asked, n);
		if (q->message.data != NULL)
			dovecot_ask_mechanism(q->number, SASL_SCRAM_SHA_256, q->message, q->address,
					      &line);
		else
			dovecot_ask_plain(q->number, q->name, q->password, q->address, &line);
		conn_write(&d->conn, buf_span(&line));
		explicit_bzero(memory, line.size);
	}
}

static struct dovecot_question *
find_asked(const struct dovecot_link *d, uint32_t number)
{
	if (number == 0)
		return NULL;
	for (struct list_node *n = list_first(&d->asked); n != NULL; n = list_next(&d->asked, n)) {
		struct dovecot_question *q = LIST_ITEM(n, struct dovecot_question, link);
		if (q->number == number)
			return q;
	}
	return NULL;
}

static void
take_answer(struct dovecot_link *d, const struct dovecot_line *line)
{
	struct dovecot_question *q = find_asked(d, line->number);
	uint8_t memory[SASL_NAME_MAX];
	struct buf user = buf_of(memory, sizeof memory);

	if (q == NULL)
		return; /* nobody waits for it any more */
	enum dovecot_answer answer = line->kind == DOVECOT_OK ? DOVECOT_FITS
				     : line->temporary        ? DOVECOT_UNAVAILABLE
				     : line->disabled         ? DOVECOT_DISABLED
							      : DOVECOT_WRONG;
	if (answer == DOVECOT_FITS && line->user.size == 0)
		buf_append(&user, q->name);
	else if (answer == DOVECOT_FITS && (!dovecot_unescape(line->user, &user) ||
					    !sasl_is_fit(buf_span(&user), SASL_NAME_MAX)))
		answer = DOVECOT_UNAVAILABLE;
	settle(q, answer, buf_span(&user));
}

static void
take_challenge(struct dovecot_link *d, struct dovecot_line *line)
{
	struct dovecot_question *q = find_asked(d, line->number);
	uint8_t memory[SASL_MESSAGE_MAX];
	struct buf challenge = buf_of(memory, sizeof memory);

	if (q == NULL)
		return;
	if (q->message.data == NULL || !base64_decode(line->data, &challenge)) {
		line->temporary = true;
		take_answer(d, line);
		return;
	}
	list_unlink(&q->link);
	list_append(&d->held, &q->link);
	q->on_challenge(q, buf_span(&challenge));
}

/* ---- lines ---- */

static bool
take_line(struct dovecot_link *d, struct span text)
{
	struct dovecot_line line;

	if (!dovecot_read(text, &line)) {
		give_up(d, CLOSE_PROTOCOL, "an answer is not understood");
		return false;
	}
	switch (line.kind) {
	case DOVECOT_VERSION:
		if (line.number == DOVECOT_VERSION_MAJOR)
			break;
		give_up(d, CLOSE_PROTOCOL, "speaks another version of the protocol");
		return false;
	case DOVECOT_MECHANISM:
		d->announced |= SASL_BIT(line.mechanism);
		break;
	case DOVECOT_DONE:
		d->mechanisms = d->announced;
		if ((d->mechanisms & SASL_BIT(SASL_PLAIN)) == 0) {
			give_up(d, CLOSE_PROTOCOL, "does not offer the mechanism PLAIN");
			return false;
		}
		d->state = DOVECOT_READY;
		conn_deadline(&d->conn, 0);
		send_waiting(d);
		break;
	case DOVECOT_CONTINUE:
		take_challenge(d, &line);
		break;
	case DOVECOT_OK:
	case DOVECOT_FAIL:
		take_answer(d, &line);
		break;
	case DOVECOT_OTHER:
		break;
	}
	return d->state != DOVECOT_CLOSING;
}

static void
on_input(struct conn *c)
{
	struct dovecot_link *d = link_of(c);

	for (;;) {
		struct span in = conn_input(c);
		size_t end = span_find(in, '\n', 0);
		if (end == in.size)
			break;
		if (!take_line(d, span_first(in, end)))
			return;
		conn_consume(c, end + 1);
	}
	if (conn_input(c).size >= DOVECOT_LINE_MAX)
		give_up(d, CLOSE_PROTOCOL, "a line without end");
	else if (conn_peer_has_ended(c))
		give_up(d, CLOSE_PEER_CLOSED, "it closed the connection");
	else
		conn_read_more(c);
}

/* ---- the connection ---- */

static void
on_connected(struct conn *c, enum err e)
{
	struct dovecot_link *d = link_of(c);
	uint8_t memory[64];
	struct buf text = buf_of(memory, sizeof memory);

	if (e != ERR_OK) {
		give_up(d, CLOSE_CONNECT_FAILED, err_text(e));
		return;
	}
	d->state = DOVECOT_GREETED;
	d->announced = 0;
	/* Workers are clients of their own. */
	dovecot_greet((uint32_t)random_u64() >> 1, &text);
	conn_write(c, buf_span(&text));
	conn_read_more(c);
}

static void
on_drained(struct conn *c)
{
	send_waiting(link_of(c));
}

static void
on_deadline(struct conn *c)
{
	give_up(link_of(c), CLOSE_TIMEOUT, "it did not greet in time");
}

static void
on_lost(struct conn *c, enum err e)
{
	give_up(link_of(c), CLOSE_RESET, err_text(e));
}

static void
on_closed(struct conn *c)
{
	struct dovecot_link *d = link_of(c);

	/* Closed by the connection itself, for want of memory, or by who cuts all off. */
	settle_all(d);
	METRIC_ADD_LABEL(d->flow->worker->metrics, CONNECTIONS_CLOSED, (unsigned)c->reason, 1);
	d->state = DOVECOT_CLOSED;
	flow_check_drained(d->flow);
}

static const struct conn_events dovecot_events = {
	.on_connected = on_connected,
	.on_input = on_input,
	.on_drained = on_drained,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

static bool
connect_to(struct dovecot_link *d)
{
	struct span path = d->flow->routing->config->users.dovecot;
	uint8_t memory[256];
	struct buf text = buf_of(memory, sizeof memory);

	buf_append_string(&text, "unix:");
	buf_append(&text, path);
	if (text.overflow || !net_address_parse(buf_span(&text), &d->address))
		return false;
	int fd = net_socket(&d->address);
	if (fd < 0)
		return false;
	d->state = DOVECOT_CONNECTING;
	conn_init(&d->conn, d->flow->worker, fd, RING_PEERS, &dovecot_events);
	conn_deadline(&d->conn, now_of(d) + CONNECT_MS);
	conn_connect(&d->conn, &d->address);
	return true;
}

/* Whose time is over, and those that cannot be asked. */
static void
on_patience(struct timer *t)
{
	struct dovecot_link *d = CONTAINER_OF(t, struct dovecot_link, patience);
	struct list *lists[] = { &d->asked, &d->waiting };
	uint64_t next_ms = 0;

	for (unsigned i = 0; i < 2; i++) {
		struct list_node *n = list_first(lists[i]);
		while (n != NULL) {
			struct dovecot_question *q = LIST_ITEM(n, struct dovecot_question, link);
			n = list_next(lists[i], n);
			if (q->until_ms <= now_of(d))
				settle(q, DOVECOT_UNAVAILABLE, span_none());
			else if (next_ms == 0 || q->until_ms < next_ms)
				next_ms = q->until_ms;
		}
	}
	if (next_ms != 0)
		timer_set(&d->flow->worker->timers, t, next_ms);
}

void
dovecot_init(struct dovecot_link *d, struct flow *f)
{
	d->flow = f;
	list_init(&d->waiting);
	list_init(&d->asked);
	list_init(&d->held);
	timer_init(&d->patience, on_patience);
}

/* False: not now. */
static bool
reach(struct dovecot_link *d)
{
	if (d->state == DOVECOT_CLOSED && now_of(d) >= d->pause_until_ms)
		return connect_to(d);
	return d->state != DOVECOT_CLOSED && d->state != DOVECOT_CLOSING;
}

unsigned
dovecot_mechanisms(struct dovecot_link *d)
{
	reach(d);
	return d->mechanisms;
}

void
dovecot_ask(struct dovecot_link *d, struct dovecot_question *q)
{
	struct timers *timers = &d->flow->worker->timers;
	uint64_t now_ms = now_of(d);
	bool reachable = reach(d);

	q->until_ms = reachable ? now_ms + PATIENCE_MS : now_ms;
	list_append(&d->waiting, &q->link);
	if (!timer_is_set(&d->patience) || !reachable)
		timer_set(timers, &d->patience, q->until_ms);
	if (d->state == DOVECOT_READY)
		send_waiting(d);
}

void
dovecot_go_on(struct dovecot_link *d, struct dovecot_question *q, struct span message)
{
	uint8_t memory[DOVECOT_QUESTION_MAX];
	struct buf line = buf_of(memory, sizeof memory);
	uint64_t now_ms = now_of(d);
	bool lives = q->number != 0 && d->state == DOVECOT_READY &&
		     conn_output_room(&d->conn) >= sizeof memory;

	list_unlink(&q->link);
	list_append(&d->asked, &q->link);
	q->until_ms = lives ? now_ms + PATIENCE_MS : now_ms;
	if (!timer_is_set(&d->patience) || !lives)
		timer_set(&d->flow->worker->timers, &d->patience, q->until_ms);
	if (!lives) {
		q->number = 0;
		return;
	}
	dovecot_continue(q->number, message, &line);
	conn_write(&d->conn, buf_span(&line));
	explicit_bzero(memory, line.size);
}

void
dovecot_forget(struct dovecot_link *d, struct dovecot_question *q)
{
	uint8_t memory[32];
	struct buf line = buf_of(memory, sizeof memory);

	/* It would keep an exchange for minutes. */
	if (list_is_linked(&q->link) && q->message.data != NULL && q->number != 0 &&
	    d->state == DOVECOT_READY && conn_output_room(&d->conn) >= sizeof memory) {
		dovecot_cancel(q->number, &line);
		conn_write(&d->conn, buf_span(&line));
	}
	list_unlink(&q->link);
}

void
dovecot_stop(struct dovecot_link *d)
{
	timer_stop(&d->flow->worker->timers, &d->patience);
	if (d->state == DOVECOT_CLOSED || d->state == DOVECOT_CLOSING)
		return;
	d->state = DOVECOT_CLOSING;
	conn_close(&d->conn, CLOSE_SHUTDOWN);
}
