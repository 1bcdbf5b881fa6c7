/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/channel.h"

#include "relay/flow/channel_parts.h"
#include "relay/flow/dispatch.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"

static struct channel *
channel_of(struct conn *c)
{
	OBJ_CHECK(c, CONN_MAGIC);
	return CONTAINER_OF(c, struct channel, conn);
}

static struct job *
job_of(const struct sender_transaction *t)
{
	/* The sender hands back the transaction that it was given, which is a job's. */
	struct job *j =
		CONTAINER_OF((struct sender_transaction *)(uintptr_t)t, struct job, transaction);
	OBJ_CHECK(j, JOB_MAGIC);
	return j;
}

static void flush_outcomes(struct channel *c, enum close_reason reason);

/* ---- deadlines ---- */

static uint64_t
phase_ms(const struct channel *c, enum sender_phase phase)
{
	const struct config_timeouts_send *t = &c->routing->config->timeouts.send;

	switch (phase) {
	case SENDER_PHASE_GREETING:
		return t->greeting_ms;
	case SENDER_PHASE_EHLO:
	case SENDER_PHASE_HELO:
		return t->hello_ms;
	case SENDER_PHASE_STARTTLS:
	case SENDER_PHASE_AUTH:
		return t->hello_ms;
	case SENDER_PHASE_TLS:
		return t->tls_ms;
	case SENDER_PHASE_RSET:
		return t->reset_ms;
	case SENDER_PHASE_MAIL:
		return t->mail_ms;
	case SENDER_PHASE_RCPT:
		return t->recipient_ms;
	case SENDER_PHASE_DATA:
		return t->data_ms;
	case SENDER_PHASE_BODY:
		return t->block_ms;
	case SENDER_PHASE_END:
		return t->end_ms;
	case SENDER_PHASE_IDLE:
		return c->idle_ms;
	case SENDER_PHASE_COUNT:
		break;
	}
	return t->mail_ms;
}

/* Until when all mails on their way here may be completed (invariant 3). */
static uint64_t
may_end_until_ms(const struct channel *c)
{
	uint64_t until_ms = UINT64_MAX;

	for (unsigned i = 0; i < 2; i++) {
		const struct sender_transaction *t = c->sender.flights[i].transaction;
		uint64_t at_ms =
			t == NULL ? UINT64_MAX
				  : queue_may_end_until_ms(c->flow->worker->queue, job_of(t)->mail);
		until_ms = at_ms < until_ms ? at_ms : until_ms;
	}
	return until_ms;
}

/* That of the phase; or, while an end of data has not left for the kernel, that of the lease. */
static void
set_deadline(struct channel *c)
{
	uint64_t at_ms = c->phase_until_ms;

	c->end_unsent = c->end_unsent && !conn_output_is_empty(&c->conn);
	if (c->end_unsent) {
		uint64_t lease_ms = may_end_until_ms(c);
		if (lease_ms < at_ms || (at_ms == 0 && lease_ms != UINT64_MAX))
			at_ms = lease_ms > 0 ? lease_ms : 1;
	}
	conn_deadline(&c->conn, at_ms);
}

void
channel_restart_deadline(struct channel *c)
{
	enum sender_phase phase = sender_phase(&c->sender);

	/* The machine knows nothing of a handshake before the greeting. */
	if (c->securing)
		phase = SENDER_PHASE_TLS;
	c->phase = (uint8_t)phase;
	/* While our disk is slow, the peer is not. */
	c->phase_until_ms = c->loading ? 0 : c->flow->worker->now_ms + phase_ms(c, phase);
	set_deadline(c);
}

/* ---- the body ---- */

/* The store cannot read this mail: another host would not help, another time may. */
static void
give_up_body(struct channel *c, enum err e)
{
	struct buf why = buf_of(c->why, sizeof c->why);

	buf_printf(&why, "451 4.3.0 the message could not be read from the queue: %s", err_text(e));
	c->why_size = (uint8_t)why.size;
	c->body_job->unreadable = true;
	flow_event_load_failed(c->flow, c->body_job->mail->id, e);
	channel_abort(c, CLOSE_STORAGE);
}

static void
on_loaded(struct queue_load *l, enum err e)
{
	struct channel *c = CONTAINER_OF(l, struct channel, load);

	c->loading = false;
	conn_unhold(&c->conn);
	if (c->parked != NULL)
		dispatch_served(c->site, c->parked);
	c->parked = NULL;
	if (c->conn.state != CONN_OPEN) {
		flush_outcomes(c, c->conn.reason);
		return;
	}
	if (e != ERR_OK || l->bytes.size == 0) {
		give_up_body(c, e == ERR_OK ? ERR_CORRUPT : e);
		return;
	}
	channel_restart_deadline(c);
	conn_run(&c->conn);
}

/* Reads the next part from the store into a pooled buffer. */
static void
load_more(struct channel *c)
{
	struct job *j = c->body_job;

	if (c->load.memory == NULL) {
		c->load.memory = pool_get(&c->flow->worker->buffers);
		if (c->load.memory == NULL) {
			channel_abort(c, CLOSE_NO_MEMORY);
			return;
		}
	}
	if (c->piece.offset + c->piece_sent == 0)
		METRIC_ADD(c->flow->worker->metrics, BODIES_LOADED, 1);
	c->loading = true;
	channel_restart_deadline(c);
	c->load.mail = j->mail;
	c->load.offset = c->piece.offset + c->piece_sent;
	c->load.capacity = WORKER_BUFFER_SIZE;
	c->load.bytes = span_none();
	c->load.on_done = on_loaded;
	/* The connection may be lost meanwhile; its memory stays until the load has ended. */
	conn_hold(&c->conn);
	queue_load(c->flow->worker->queue, &c->load);
}

/* What of the piece is at hand at the present position. */
static struct span
body_bytes(struct channel *c)
{
	uint64_t at = c->piece.offset + c->piece_sent;
	uint64_t left = c->piece.size - c->piece_sent;
	const struct body *body = c->body_job->body;
	struct span bytes;

	if (body != NULL && c->load.memory == NULL) {
		bytes = body_at(body, at);
	} else {
		uint64_t loaded_end = c->load.offset + c->load.bytes.size;
		if (c->load.bytes.size == 0 || at < c->load.offset || at >= loaded_end)
			return span_none();
		bytes = span_after(c->load.bytes, (size_t)(at - c->load.offset));
	}
	return bytes.size > left ? span_first(bytes, (size_t)left) : bytes;
}

static size_t
write_stuffed(struct channel *c, struct span bytes, size_t room)
{
	struct buf *out = &c->flow->scratch;

	buf_reset(out);
	struct buf window = buf_of(out->data, room < out->capacity ? room : out->capacity);
	size_t used = body_out_feed(&c->stuffing, bytes, &window);
	conn_write(&c->conn, buf_span(&window));
	return used;
}

static bool
body_is_plain(const struct channel *c)
{
	return !c->piece.stuffed || (c->body_job->mail->envelope->flags & MAIL_DOT_LINES) == 0;
}

static void
end_of_data(struct channel *c)
{
	uint8_t memory[8];
	struct buf end = buf_of(memory, sizeof memory);

	if (body_is_plain(c)) {
		conn_write(&c->conn, body_out_plain_end());
		return;
	}
	bool fits = body_out_end(&c->stuffing, &end);
	ASSERT(fits);
	conn_write(&c->conn, buf_span(&end));
}

static void
drop_loaded(struct channel *c)
{
	if (c->load.memory == NULL || c->loading)
		return;
	pool_put(&c->flow->worker->buffers, c->load.memory);
	c->load.memory = NULL;
	c->load.bytes = span_none();
}

enum {
	OUTPUT_MARGIN = 1024, /* kept for commands and the end of data */
	STUFFED_LEAST = 2,    /* with less room body_out_feed() may take nothing */
};

/* Sends as much of the piece as fits. True when it is all written. */
static bool
send_body(struct channel *c)
{
	while (c->piece_sent < c->piece.size) {
		size_t room = conn_output_room(&c->conn);
		if (room < OUTPUT_MARGIN + STUFFED_LEAST)
			return false;
		struct span bytes = body_bytes(c);
		if (bytes.size == 0) {
			if (!c->loading)
				load_more(c);
			return false;
		}
		/* The machine asked before all of this piece, which the peer may have let wait. */
		if (c->piece.last && bytes.size == c->piece.size - c->piece_sent &&
		    may_end_until_ms(c) <= c->flow->worker->now_ms) {
			channel_abort(c, CLOSE_LEASE_LOST);
			return false;
		}
		size_t used = bytes.size < room - OUTPUT_MARGIN ? bytes.size : room - OUTPUT_MARGIN;
		bool written = true;
		if (body_is_plain(c))
			written = conn_write(&c->conn, span_first(bytes, used));
		else
			used = write_stuffed(c, bytes, room - OUTPUT_MARGIN);
		if (!written || c->conn.state != CONN_OPEN)
			return false;
		ASSERT(used > 0);
		c->piece_sent += used;
	}
	if (c->piece.stuffed && c->piece.last)
		end_of_data(c);
	c->end_unsent = c->end_unsent || c->piece.last;
	drop_loaded(c);
	c->sending = false;
	return true;
}

/* ---- actions of the sender ---- */

/* It takes no more jobs: nobody finds it in the site's lists. */
static void
retire(struct channel *c)
{
	c->closing = true;
	c->site->closing++;
	list_unlink(&c->link);
}

static void
take_done(struct channel *c, const struct sender_transaction *t)
{
	struct job *j = job_of(t);

	ASSERT(c->job_count > 0);
	c->job_count--;
	c->flow->busy_count -= c->job_count == 0;
	/* Rounds that get nowhere are counted: many recipients need many transactions. */
	j->rounds = j->resolved_count > j->resolved_before ? 0 : j->rounds + 1;
	j->times.done_ms = c->flow->worker->now_ms;
	if (c->job_count == 0 && c->conn.state == CONN_OPEN && !c->closing) {
		list_unlink(&c->link);
		list_prepend(&c->site->idle, &c->link);
		/* Once it has carried all it may, its slot is for another. */
		if (!sender_can_start(&c->sender))
			sender_quit(&c->sender, CLOSE_USED_UP);
	}
	j->starved = c->conn.state != CONN_OPEN && c->conn.reason == CLOSE_NO_MEMORY;
	if (c->why_size > 0)
		job_explain(j, span_of(c->why, c->why_size));
	if (c->body_job == j)
		c->sending = false;
	/* A mail that is being read stays claimed until that ends. */
	if (c->loading && c->body_job == j)
		c->parked = j;
	else
		dispatch_served(c->site, j);
	/* One that was served for another worker ends there, and nobody here would look. */
	if (c->flow->busy_count == 0)
		dispatch_suspect(c->flow);
	site_pump_soon(c->site);
}

static void
begin_piece(struct channel *c, const struct sender_action *a)
{
	ASSERT(!c->sending);
	c->sending = true;
	c->body_job = job_of(a->transaction);
	c->piece = a->piece;
	c->piece_sent = 0;
	if (a->piece.offset == 0)
		body_out_init(&c->stuffing);
}

/* The host did not let us in. Where other connections to it are up it only has enough of them: it
 * is not left alone for that. */
static void
note_refusal(struct channel *c, const struct sender_action *a)
{
	const char *ours = a->cause != SENDER_CAUSE_REPLY ? sender_cause_text(a->cause)
							  : close_label(a->close);
	struct span error = a->reply != NULL ? reply_line(a->reply) : span_of_string(ours);

	/* It works, only not for these mails, and the next one is to hear that at once. */
	if (a->cause == SENDER_CAUSE_TLS_NEEDED || a->cause == SENDER_CAUSE_NO_REQUIRETLS)
		return;
	if (c->site->hosts[c->host].ready == 0 && site_host_failed(c->site, c->host))
		flow_event_host_failed(c->flow, c->site, c->host,
				       sender_phase_label((enum sender_phase)c->phase), error);
}

static void
take_outcome(struct channel *c, struct job *j, struct sender_outcome o)
{
	flow_count_outcome(c->flow, j, &o);
	if (o.class == SENDER_OK)
		slots_success(c->site);
	if (o.cause == SENDER_CAUSE_TLS && c->plain_next)
		o.next = SENDER_NEXT_AGAIN;
	if (o.cause == SENDER_CAUSE_TLS && c->is_unfit)
		o.class = SENDER_PERMANENT;
	if ((o.cause == SENDER_CAUSE_NO_TLS || o.cause == SENDER_CAUSE_TLS_NEEDED) && !c->ready)
		channel_count_failure(c, j, "starttls-not-supported", span_none());
	j->peer_has_dsn = c->sender.offer.dsn;
	channel_note_protection(c, j);
	job_take_outcome(j, &o);
}

/* Has the sender said QUIT, which is still to leave? Behind a part of a message it has not. */
static bool
is_polite(const struct channel *c, enum close_reason why)
{
	if (why == CLOSE_REJECTED)
		return !c->sending;
	return why == CLOSE_QUIT || why == CLOSE_IDLE || why == CLOSE_USED_UP ||
	       why == CLOSE_SHUTDOWN;
}

/* False: nothing more to do in this turn. */
static bool
act(struct channel *c, const struct sender_action *a)
{
	switch (a->kind) {
	case SENDER_READY:
		c->ready = true;
		c->site->hosts[c->host].ready++;
		c->opener->times.started_ms = c->flow->worker->now_ms;
		channel_count_session(c, c->opener);
		list_unlink(&c->connecting_link);
		site_host_works(c->site, c->host);
		slots_success(c->site);
		site_pump_soon(c->site);
		return true;
	case SENDER_START_TLS:
		channel_start_tls(c);
		return false;
	case SENDER_WRITE:
		return conn_write(&c->conn, a->text);
	case SENDER_SEND_BODY:
		begin_piece(c, a);
		return true;
	case SENDER_BEFORE_END:
		sender_answer(&c->sender, queue_may_end_until_ms(c->flow->worker->queue,
								 job_of(a->transaction)->mail) >
						  c->flow->worker->now_ms);
		return true;
	case SENDER_RECIPIENT_OUTCOME:
		take_outcome(c, job_of(a->transaction), a->outcome);
		return true;
	case SENDER_DONE:
		take_done(c, a->transaction);
		return true;
	case SENDER_CLOSE:
		if (!c->ready)
			note_refusal(c, a);
		retire(c);
		ASSERT(c->job_count == 0);
		if (is_polite(c, a->close))
			conn_finish(&c->conn, a->close);
		else
			conn_close(&c->conn, a->close);
		return false;
	case SENDER_WAIT:
	case SENDER_NEED_INPUT:
		return false;
	case SENDER_ASK_AUTH:
		return peer_auth_answer(&c->auth, &a->auth);
	}
	ASSERT(false); /* all kinds are above */
	return false;
}

static void
after_steps(struct channel *c)
{
	/* While a helper computes, what the peer says waits in the kernel. */
	if (c->conn.state != CONN_OPEN || c->auth.deriving)
		return;
	if (sender_phase(&c->sender) != (enum sender_phase)c->phase)
		channel_restart_deadline(c);
	if (conn_input_is_over(&c->conn)) {
		sender_lost(&c->sender, CLOSE_PEER_CLOSED);
		conn_run(&c->conn);
		return;
	}
	conn_read_more(&c->conn);
}

/* The loop of every channel: the body in progress first, then the machine. */
void
channel_step(struct channel *c)
{
	unsigned steps = c->routing->config->worker.steps_per_turn;

	if (c->securing)
		return;
	for (unsigned n = 0; n < steps; n++) {
		struct sender_action action;

		if (c->conn.state != CONN_OPEN)
			return;
		if (c->sending && send_body(c)) {
			channel_restart_deadline(c);
			sender_body_sent(&c->sender);
		}
		if (c->conn.state != CONN_OPEN)
			return;
		if (!c->sending && conn_output_full(&c->conn))
			return; /* resumed by on_drained */
		size_t used = sender_step(&c->sender, conn_input(&c->conn), &action);
		bool more = act(c, &action);
		/* Its input was dropped with all that was not protected. */
		if (c->securing)
			return;
		/* Last: spans of the action may point into the input. */
		if (c->conn.state == CONN_OPEN)
			conn_consume(&c->conn, used);
		if (!more) {
			after_steps(c);
			return;
		}
	}
	if (c->conn.state == CONN_OPEN && !conn_output_full(&c->conn))
		conn_run(&c->conn);
}

/* ---- events of the connection ---- */

/* Reports what is owed for all jobs of a connection that is lost. */
static void
flush_outcomes(struct channel *c, enum close_reason reason)
{
	struct sender_action action;

	if (c->closing)
		return;
	sender_lost(&c->sender, reason);
	c->sending = false;
	do {
		sender_step(&c->sender, span_none(), &action);
		ASSERT(action.kind != SENDER_WAIT && action.kind != SENDER_NEED_INPUT);
		if (action.kind == SENDER_CLOSE)
			break;
		act(c, &action);
	} while (true);
	retire(c);
}

void
channel_abort(struct channel *c, enum close_reason reason)
{
	if (c->closing && c->conn.state != CONN_OPEN)
		return;
	conn_close(&c->conn, reason);
	/* A mail that is being read stays claimed until that ends: on_loaded goes on. */
	if (!c->loading)
		flush_outcomes(c, reason);
}

void
channel_finish(struct channel *c, enum close_reason reason)
{
	if (c->closing && c->conn.state != CONN_OPEN)
		return;
	conn_finish(&c->conn, reason);
	flush_outcomes(c, reason);
}

void
channel_explain(struct channel *c, const char *status, struct span what, const char *where)
{
	struct buf why = buf_of(c->why, sizeof c->why);

	buf_printf(&why, "%s %s ", status[0] == '5' ? "550" : "451", status);
	plan_host_show(&c->peer, &why);
	buf_printf(&why, ": %.*s (%s)", SPAN_ARG(what), where);
	c->why_size = (uint8_t)why.size;
}

static void
on_connected(struct conn *conn, enum err e)
{
	struct channel *c = channel_of(conn);

	if (e != ERR_OK) {
		channel_explain(c, err_enhanced(e), span_of_string(err_text(e)), "connect");
		METRIC_ADD_LABEL(c->flow->worker->metrics, DELIVERY_ERRORS, (unsigned)e, 1);
		if (site_host_failed(c->site, c->host))
			flow_event_host_failed(c->flow, c->site, c->host, "connect",
					       span_of_string(err_text(e)));
		channel_abort(c, CLOSE_CONNECT_FAILED);
		return;
	}
	channel_restart_deadline(c);
	if (c->peer.implicit)
		channel_start_tls(c);
	else
		channel_step(c);
}

static void
on_input(struct conn *conn)
{
	struct channel *c = channel_of(conn);

	channel_restart_deadline(c);
	channel_step(c);
}

static void
on_drained(struct conn *conn)
{
	channel_restart_deadline(channel_of(conn));
	channel_step(channel_of(conn));
}

static void
time_out(struct channel *c)
{
	const char *phase = c->conn.state == CONN_CONNECTING
				    ? "connect"
				    : sender_phase_label(sender_phase(&c->sender));

	channel_explain(c, "4.4.2", SPAN("silent for too long"), phase);
	flow_count_peer_timeout(c->flow, sender_phase(&c->sender),
				c->conn.state == CONN_CONNECTING);
	if (site_host_failed(c->site, c->host))
		flow_event_host_failed(c->flow, c->site, c->host, phase,
				       SPAN("silent for too long"));
	channel_abort(c, CLOSE_TIMEOUT);
}

/* An end of data waits in our output for a slow peer, and is not to leave behind the lease. */
static void
on_lease_deadline(struct channel *c)
{
	if (!conn_output_is_empty(&c->conn) && may_end_until_ms(c) <= c->flow->worker->now_ms)
		channel_abort(c, CLOSE_LEASE_LOST);
	else
		set_deadline(c);
}

static void
on_deadline(struct conn *conn)
{
	struct channel *c = channel_of(conn);
	uint64_t now_ms = c->flow->worker->now_ms;

	if (c->end_unsent && (c->phase_until_ms == 0 || now_ms < c->phase_until_ms)) {
		on_lease_deadline(c);
	} else if (conn->state == CONN_OPEN && c->job_count == 0 && sender_is_idle(&c->sender)) {
		channel_quit(c, CLOSE_IDLE);
	} else if (c->securing) {
		flow_count_peer_timeout(c->flow, SENDER_PHASE_TLS, false);
		channel_tls_failed(c, SPAN("the handshake took too long"), NULL);
	} else {
		time_out(c);
	}
}

void
channel_give_way(struct channel *c)
{
	ASSERT(!c->ready);
	list_unlink(&c->connecting_link);
	time_out(c);
}

static void
on_lost(struct conn *conn, enum err e)
{
	struct channel *c = channel_of(conn);

	(void)e;
	if (!c->ready)
		site_host_failed(c->site, c->host);
	channel_abort(c, CLOSE_RESET);
}

static void
on_closed(struct conn *conn)
{
	struct channel *c = CONTAINER_OF(conn, struct channel, conn);
	struct site *s = c->site;

	/* Closed by the connection itself, for want of memory: nobody has told the jobs yet. */
	flush_outcomes(c, conn->reason);
	ASSERT(c->job_count == 0 && !c->loading);
	drop_loaded(c);
	list_unlink(&c->link);
	ASSERT(s->channels > 0 && s->closing > 0);
	s->channels--;
	s->closing--;
	c->flow->channel_count--;
	ASSERT(s->hosts[c->host].channels > 0);
	s->hosts[c->host].channels--;
	if (c->ready)
		s->hosts[c->host].ready--;
	list_unlink(&c->connecting_link);
	dispatch_connection_free(c->flow);
	flow_event_channel_end(c->flow, conn->reason);
	routing_put(c->routing);
	plan_put(c->plan);
	peer_auth_fini(&c->auth);
	pool_put(&c->flow->channels, c);
	site_pump_soon(s);
}

static const struct conn_events channel_events = {
	.on_connected = on_connected,
	.on_secured = channel_on_secured,
	.on_input = on_input,
	.on_drained = on_drained,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

bool
channel_owns(const struct conn *c)
{
	return c->events == &channel_events;
}

bool
channel_open(struct site *s, struct job *j)
{
	struct flow *f = s->flow;
	struct channel *c = pool_get(&f->channels);

	if (c == NULL)
		return false;
	int fd = net_socket(&s->hosts[j->host].host.address);
	if (fd < 0) {
		flow_event_no_socket(f, err_of_errno(fd));
		pool_put(&f->channels, c);
		return false;
	}
	*c = (struct channel){
		.flow = f,
		.site = s,
		.routing = routing_get(f->routing),
		.host = j->host,
		.plan = plan_get(s->plan),
		.peer = s->hosts[j->host].host,
		.opener = j,
	};
	op_init(&c->load.op, NULL);
	c->options = c->routing->sender[s->kind == SITE_LMTP];
	c->options.recipients_max = site_shaping(s)->recipients_max;
	c->options.mails_max = site_shaping(s)->mails_per_connection;
	c->idle_ms = site_shaping(s)->idle_ms;
	channel_prepare_auth(c);
	channel_choose_protection(c);
	sender_init(&c->sender, &c->options, &f->scratch);
	conn_init(&c->conn, f->worker, fd, RING_PEERS, &channel_events);
	s->channels++;
	s->hosts[c->host].channels++;
	f->channel_count++;
	list_append(&s->busy, &c->link);
	conn_deadline(&c->conn, f->worker->now_ms + c->routing->config->timeouts.send.connect_ms);
	flow_event_channel_open(f);
	c->began_ms = f->worker->now_ms;
	list_append(&f->connecting, &c->connecting_link);
	conn_connect(&c->conn, &c->peer.address);
	channel_take(c, j);
	return true;
}

bool
channel_can_take(const struct channel *c)
{
	return !c->closing && c->conn.state == CONN_OPEN && c->ready &&
	       sender_can_start(&c->sender);
}

void
channel_take(struct channel *c, struct job *j)
{
	ASSERT(c->job_count < 2 && !c->closing);
	/* A site is for mails with one need (RFC 8689): its name says which. */
	ASSERT(c->plan->policy.need == destination_need(j->mail->envelope->flags));
	if (c->job_count == 0) {
		list_unlink(&c->link);
		list_append(&c->site->busy, &c->link);
		c->flow->busy_count++;
	}
	c->job_count++;
	job_note_host(j, c->site, c->host);
	channel_note_protection(c, j);
	j->starved = false;
	j->times.taken_ms = c->flow->worker->now_ms;
	j->times.taken_wall_ms = c->flow->worker->now_wall_ms;
	j->times.started_ms = j->times.taken_ms; /* for the opener: until READY */
	if (j->owner == c->flow)
		bodies_take(j);
	if (c->ready)
		channel_count_session(c, j);
	METRIC_ADD(c->flow->worker->metrics, ATTEMPTS, 1);
	if (c->used)
		METRIC_ADD(c->flow->worker->metrics, DESTINATION_CONNECTIONS_REUSED, 1);
	c->used = true;
	job_begin(j);
	sender_start(&c->sender, &j->transaction);
	if (c->conn.state == CONN_OPEN)
		conn_run(&c->conn);
}

void
channel_quit(struct channel *c, enum close_reason reason)
{
	ASSERT(c->job_count == 0);
	if (c->conn.state != CONN_OPEN || c->closing)
		return;
	sender_quit(&c->sender, reason);
	channel_step(c);
}
