/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/source.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lean.h"
#include "bench/thread.h"
#include "core/base/assert.h"
#include "core/base/clock.h"
#include "core/conn.h"

enum {
	COPY_MAX = 4096, /* larger pieces are sent from where they are */
	STEPS_PER_TURN = 64,
	AGAIN_FIRST_MS = 50,
	AGAIN_MOST_MS = 1000,
	FIELD_SIZE = sizeof TRACK_FIELD - 1 + TRACK_ID_SIZE + 2,
	/* Text, field, message, end. */
	PIECES_MAX = 4,
	WAIT_MOST_US = 20 * 1000,
};

struct thread;

/* A mail on its way. */
struct source_mail {
	struct client_mail mail; /* first */
	struct thread *thread;
	uint64_t number;
	uint64_t intended_us;
	uint32_t domain;
	struct letter letter;
	uint8_t field[FIELD_SIZE + 1];
	uint8_t sender[CLIENT_ADDRESS_MAX];
};

struct load {
	struct conn conn; /* first */
	struct client client;
	struct thread *thread;
	struct source_mail mails[2];
	bool used[2];
	struct buf text; /* of the client's commands */
	struct span pieces[PIECES_MAX];
	unsigned piece_count;
	unsigned piece_at;
	bool lending;      /* a piece is with the kernel */
	bool lending_text; /* and it is of `text`: no step until it is back */
	bool connected;
	bool ended; /* no connection, and none to come */
	uint32_t again_ms;
	char why[TLS_WHY_MAX]; /* a handshake failed */
	struct timer again;
	struct list_node waiting; /* has room for a mail whose time has not come */
};

struct thread {
	struct source *source;
	struct crew_member *member;
	struct load *loads;
	struct tls *tls; /* NULL: all is plain */
	unsigned count;
	unsigned ended;
	bool over; /* no mail is to be offered any more */
	uint64_t random;
	struct list waiting;
	double next_us; /* open loop: when the next mail is due */
	double step_us;
	uint64_t until_us; /* 0: no limit of time */
	struct histogram latency;
	_Atomic uint64_t connections, connection_errors, bytes, not_offered;
	_Atomic uint64_t first_offer_us, last_reply_us;
	struct source_reason reasons[SOURCE_REASONS_MAX];
	unsigned reason_count;
	bool *rejected; /* of all mails */
};

struct source {
	struct source_options options;
	struct track *track;
	struct crew crew;
	struct thread *threads;
	uint8_t *text; /* of all loads */
	atomic_bool cut;
	atomic_uint done; /* threads */
};

static void
add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* ---- reasons ---- */

/* The row of this text; the last row is for all that find no room of their own. */
static struct source_reason *
reason_of(struct thread *t, const char *text)
{
	struct source_reason *r;

	for (unsigned i = 0; i < t->reason_count; i++)
		if (strcmp(t->reasons[i].text, text) == 0)
			return &t->reasons[i];
	if (t->reason_count < SOURCE_REASONS_MAX - 1) {
		r = &t->reasons[t->reason_count++];
	} else {
		r = &t->reasons[SOURCE_REASONS_MAX - 1];
		t->reason_count = SOURCE_REASONS_MAX;
		text = "other reasons";
	}
	snprintf(r->text, sizeof r->text, "%s", text);
	return r;
}

static void
note(struct thread *t, const char *what, const struct reply *reply)
{
	uint8_t memory[SOURCE_REASON_SIZE];
	struct buf text = buf_of(memory, sizeof memory - 1);

	buf_append_string(&text, what);
	if (reply != NULL) {
		uint8_t reply_memory[REPLY_TEXT_MAX + 32];
		struct buf shown = buf_of(reply_memory, sizeof reply_memory);
		reply_show(reply, &shown);
		buf_append_string(&text, text.size > 0 ? ": " : "");
		buf_append(&text, span_first(buf_span(&shown), buf_room(&text)));
	}
	memory[text.size] = '\0';
	reason_of(t, (const char *)memory)->count++;
}

/* ---- time ---- */

static uint64_t
deadline_of(const struct thread *t)
{
	return t->member->worker.now_ms + t->source->options.timeout_ms;
}

/* No mail will be offered any more: by the clock, by source_cut, or since all have been. What was
 * due by then and found no connection is not forgotten. */
static void
end_offering(struct thread *t, uint64_t now_us)
{
	double end_us = (double)(t->until_us != 0 && t->until_us < now_us ? t->until_us : now_us);

	if (t->over)
		return;
	t->over = true;
	if (t->step_us > 0 && t->next_us < end_us)
		add(&t->not_offered, (uint64_t)((end_us - t->next_us) / t->step_us) + 1);
}

static void
look_at_the_clock(struct thread *t, uint64_t now_us)
{
	if (atomic_load_explicit(&t->source->cut, memory_order_relaxed) ||
	    (t->until_us != 0 && now_us >= t->until_us))
		end_offering(t, now_us);
}

/* ---- mails ---- */

static bool
show_recipient(const struct client_mail *m, uint32_t i, struct buf *out)
{
	const struct source_mail *s = (const struct source_mail *)(const void *)m;

	buf_printf(out, "r%u.user%u@", i, (unsigned)(s->number % 10000));
	return domains_show(s->thread->source->options.domains, s->domain, out);
}

/* When the next mail is to be offered, if that is now. */
static bool
is_due(struct thread *t, uint64_t now_us, uint64_t *intended_us)
{
	*intended_us = now_us;
	if (t->step_us == 0)
		return true;
	if (t->next_us > (double)now_us)
		return false;
	*intended_us = (uint64_t)t->next_us;
	return true;
}

/* Mails go through the sender's domains in turn. */
static void
show_sender(struct source_mail *m)
{
	const struct source_options *o = &m->thread->source->options;
	struct buf out = buf_of(m->sender, sizeof m->sender);
	struct span all = o->client.sender;

	m->mail.sender = span_none();
	if (o->sender_domains <= 1)
		return;
	size_t at = span_find(all, '@', 0) + 1;
	buf_append(&out, span_first(all, at));
	buf_append_byte(&out, 'd');
	buf_append_number(&out, m->number % o->sender_domains);
	buf_append_byte(&out, '.');
	buf_append(&out, span_after(all, at));
	ASSERT(!out.overflow);
	m->mail.sender = buf_span(&out);
}

static void
fill_mail(struct load *l, struct source_mail *m)
{
	struct thread *t = l->thread;
	const struct source_options *o = &t->source->options;
	struct buf field = buf_of(m->field, sizeof m->field);

	track_show_field(t->source->track, m->number, &field);
	ASSERT(field.size == FIELD_SIZE);
	m->thread = t;
	m->letter = letters_pick(o->letters, &t->random);
	m->domain = domains_pick(o->domains, &t->random);
	show_sender(m);
	m->mail.size = m->letter.size;
	m->mail.recipient_count = o->recipients;
	m->mail.show_recipient = show_recipient;
	memset(m->mail.rejected, 0, o->recipients * sizeof *m->mail.rejected);
}

/* Offers the next mail. False: none now. */
static bool
offer(struct load *l)
{
	struct thread *t = l->thread;
	unsigned place = l->used[0] ? 1 : 0;
	struct source_mail *m = &l->mails[place];
	uint64_t now_us = clock_monotonic_us();
	uint64_t intended_us;

	look_at_the_clock(t, now_us);
	if (t->over || !is_due(t, now_us, &intended_us))
		return false;
	if (!track_offer(t->source->track, intended_us, &m->number)) {
		t->over = true; /* all have been offered, so that none is left out */
		return false;
	}
	t->next_us += t->step_us;
	m->intended_us = intended_us;
	ASSERT(!l->used[place]);
	l->used[place] = true;
	fill_mail(l, m);
	if (atomic_load_explicit(&t->first_offer_us, memory_order_relaxed) == 0)
		atomic_store_explicit(&t->first_offer_us, now_us, memory_order_relaxed);
	client_offer(&l->client, &m->mail);
	return true;
}

static void
learn(struct load *l, const struct client_action *a)
{
	static const enum track_fate fates[] = {
		[CLIENT_ACCEPTED] = TRACK_ACCEPTED,
		[CLIENT_REFUSED] = TRACK_REFUSED,
		[CLIENT_IN_DOUBT] = TRACK_IN_DOUBT,
	};
	struct thread *t = l->thread;
	struct source_mail *m = (struct source_mail *)(void *)a->mail;
	uint64_t now_us = clock_monotonic_us();

	ASSERT(m == &l->mails[0] || m == &l->mails[1]);
	track_learn(t->source->track, m->number, fates[a->fate], m->mail.rejected);
	if (a->fate == CLIENT_ACCEPTED) {
		histogram_add(&t->latency, now_us - m->intended_us);
		l->again_ms = 0; /* what ends this connection later is a new failure */
	} else if (a->reply != NULL) {
		note(t, "", a->reply);
	}
	atomic_store_explicit(&t->last_reply_us, now_us, memory_order_relaxed);
	l->used[m == &l->mails[1]] = false;
	conn_deadline(&l->conn, l->used[0] || l->used[1] ? deadline_of(t) : 0);
}

/* ---- output ---- */

static void
add_piece(struct load *l, struct span piece)
{
	ASSERT(l->piece_count < PIECES_MAX);
	l->pieces[l->piece_count++] = piece;
}

static void
add_body(struct load *l, const struct client_mail *mail)
{
	const struct source_mail *m = (const struct source_mail *)(const void *)mail;
	bool bdat = l->client.options->bdat;

	add_piece(l, span_of(m->field, FIELD_SIZE));
	add_piece(l, bdat ? m->letter.plain : m->letter.stuffed);
	add_piece(l, bdat ? SPAN("\r\n") : SPAN("\r\n.\r\n"));
	add(&l->thread->bytes, mail->size);
}

/* Hands all pieces to the connection. False: it has no room; on_drained goes on. */
static bool
flush(struct load *l)
{
	while (l->piece_at < l->piece_count) {
		struct span piece = l->pieces[l->piece_at];
		bool is_text =
			piece.data >= l->text.data && piece.data < l->text.data + l->text.capacity;
		if (piece.size > COPY_MAX) {
			if (l->lending)
				return false;
			l->lending = true;
			l->lending_text = is_text;
			conn_write_lent(&l->conn, piece.data, piece.size);
		} else if (piece.size > 0) {
			if (conn_output_room(&l->conn) < piece.size)
				return false;
			conn_write(&l->conn, piece);
		}
		l->piece_at++;
	}
	l->piece_at = l->piece_count = 0;
	return !l->lending_text;
}

/* ---- connections ---- */

static void connect_load(struct load *l);

static void
end_load(struct load *l)
{
	struct thread *t = l->thread;

	ASSERT(!l->ended);
	l->ended = true;
	if (++t->ended == t->count)
		atomic_fetch_add(&t->source->done, 1);
}

/* Those without any mail come first. */
static void
wait_for_mail(struct load *l)
{
	if (l->used[0] || l->used[1]) {
		list_append(&l->thread->waiting, &l->waiting);
	} else {
		list_prepend(&l->thread->waiting, &l->waiting);
		conn_deadline(&l->conn, 0);
	}
}

/* Certificates are not judged: what is measured is the server. Each handshake is a full one. */
static void
secure(struct load *l)
{
	const struct tls_wish wish = { .level = TLS_ENCRYPT };
	struct layer *layer = tls_connect(l->thread->tls, &wish);

	if (layer == NULL) {
		add(&l->thread->connection_errors, 1);
		note(l->thread, "no memory for TLS", NULL);
		conn_close(&l->conn, CLOSE_NO_MEMORY);
		return;
	}
	conn_secure(&l->conn, layer);
}

/* True: step again. */
static bool
act(struct load *l, const struct client_action *a)
{
	struct thread *t = l->thread;

	switch (a->event) {
	case CLIENT_NEED_INPUT:
		return false;
	case CLIENT_NEED_MAIL:
		if (offer(l))
			return true;
		if (t->over) {
			client_quit(&l->client);
			return true;
		}
		wait_for_mail(l);
		return false;
	case CLIENT_WRITE:
		add_piece(l, a->text);
		conn_deadline(&l->conn, deadline_of(t));
		return true;
	case CLIENT_START_TLS:
		secure(l);
		return false;
	case CLIENT_SEND_BODY:
		add_body(l, a->mail);
		return true;
	case CLIENT_OUTCOME:
		learn(l, a);
		return true;
	case CLIENT_CLOSE:
		if (a->why != NULL) {
			add(&t->connection_errors, 1);
			note(t, a->why, a->reply);
		} else {
			l->again_ms = 0;
		}
		l->connected = false;
		conn_close(&l->conn, CLOSE_QUIT);
		return false;
	}
	return false;
}

static void
pump(struct load *l)
{
	struct conn *c = &l->conn;

	list_unlink(&l->waiting);
	for (unsigned n = 0; n < STEPS_PER_TURN; n++) {
		struct client_action action;
		if (!flush(l))
			return;
		size_t used = client_step(&l->client, conn_input(c), &action);
		bool more = act(l, &action);
		conn_consume(c, used);
		if (!more) {
			flush(l);
			conn_read_more(c);
			return;
		}
	}
	conn_run(c);
}

/* What the client still owes comes out of its steps. */
static void
talk_is_over(struct load *l, const char *why)
{
	struct client_action action;

	list_unlink(&l->waiting);
	client_lost(&l->client, why);
	do
		client_step(&l->client, span_none(), &action);
	while (act(l, &action));
}

/* "PROXY TCP4 192.0.2.1 192.0.2.1 4000 25" (version 1): only the first address matters. */
static void
tell_client(struct conn *c, const struct net_address *client)
{
	uint8_t memory[128], ip_memory[64], ip[16];
	struct buf header = buf_of(memory, sizeof memory);
	struct buf text = buf_of(ip_memory, sizeof ip_memory);
	bool v6 = net_address_ip(client, ip) == 16;

	net_address_show_ip(client, &text);
	buf_printf(&header, "PROXY TCP%c %.*s %.*s %u 25\r\n", v6 ? '6' : '4',
		   SPAN_ARG(buf_span(&text)), SPAN_ARG(buf_span(&text)),
		   ntohs(client->head.port_network_order));
	conn_write(c, buf_span(&header));
}

static void
on_connected(struct conn *c, enum err e)
{
	struct load *l = CONTAINER_OF(c, struct load, conn);
	struct thread *t = l->thread;

	if (e != ERR_OK) {
		add(&t->connection_errors, 1);
		note(t, err_text(e), NULL);
		conn_close(c, CLOSE_QUIT);
		return;
	}
	add(&t->connections, 1);
	l->connected = true;
	conn_deadline(c, deadline_of(t));
	if (t->source->options.proxy.size > 0)
		tell_client(c, &t->source->options.proxy);
	if (t->source->options.tls == SOURCE_IMPLICIT)
		secure(l);
	else
		conn_read_more(c);
}

static void
on_secured(struct conn *c, enum err e)
{
	struct load *l = CONTAINER_OF(c, struct load, conn);
	struct tls_facts facts;

	if (e == ERR_OK) {
		if (l->thread->source->options.tls == SOURCE_STARTTLS)
			client_secured(&l->client);
		conn_run(c);
		return;
	}
	tls_facts(conn_layer(c), &facts);
	snprintf(l->why, sizeof l->why, "TLS: %.*s", SPAN_ARG(facts.why));
	talk_is_over(l, l->why);
}

static void
on_input(struct conn *c)
{
	struct load *l = CONTAINER_OF(c, struct load, conn);

	pump(l);
	if (l->connected && conn_input_is_over(c))
		talk_is_over(l, "the server closed the connection");
}

static void
on_drained(struct conn *c)
{
	struct load *l = CONTAINER_OF(c, struct load, conn);

	l->lending = l->lending_text = false;
	conn_run(c);
}

static void
on_deadline(struct conn *c)
{
	struct load *l = CONTAINER_OF(c, struct load, conn);

	if (l->connected) {
		talk_is_over(l, "no reply in time");
		return;
	}
	add(&l->thread->connection_errors, 1);
	note(l->thread, "no connection in time", NULL);
	conn_close(c, CLOSE_QUIT);
}

static void
on_lost(struct conn *c, enum err e)
{
	talk_is_over(CONTAINER_OF(c, struct load, conn), err_text(e));
}

/* Opens it again at once after a peaceful end, ever later after failures. */
static void
on_closed(struct conn *c)
{
	struct load *l = CONTAINER_OF(c, struct load, conn);
	struct thread *t = l->thread;

	if (t->over) {
		end_load(l);
	} else if (l->again_ms == 0) {
		l->again_ms = AGAIN_FIRST_MS;
		connect_load(l);
	} else {
		timer_set(&t->member->worker.timers, &l->again,
			  t->member->worker.now_ms + l->again_ms);
		l->again_ms = 2 * l->again_ms < AGAIN_MOST_MS ? 2 * l->again_ms : AGAIN_MOST_MS;
	}
}

static const struct conn_events events = {
	.on_connected = on_connected,
	.on_secured = on_secured,
	.on_input = on_input,
	.on_drained = on_drained,
	.on_deadline = on_deadline,
	.on_lost = on_lost,
	.on_closed = on_closed,
};

static void
connect_load(struct load *l)
{
	struct thread *t = l->thread;
	struct worker *w = &t->member->worker;
	int fd = net_socket(&t->source->options.relay);

	if (fd < 0) {
		add(&t->connection_errors, 1);
		note(t, err_text(err_of_errno(fd)), NULL);
		timer_set(&w->timers, &l->again, w->now_ms + AGAIN_MOST_MS);
		return;
	}
	l->piece_at = l->piece_count = 0;
	l->lending = l->lending_text = l->connected = false;
	l->used[0] = l->used[1] = false;
	buf_reset(&l->text);
	client_init(&l->client, &t->source->options.client, &l->text);
	conn_init(&l->conn, w, fd, RING_PEERS, &events);
	conn_deadline(&l->conn, deadline_of(t));
	conn_connect(&l->conn, &t->source->options.relay);
}

static void
on_again(struct timer *timer)
{
	struct load *l = CONTAINER_OF(timer, struct load, again);

	if (l->thread->over)
		end_load(l);
	else
		connect_load(l);
}

/* ---- the threads ---- */

static void
on_start(struct crew_member *m)
{
	struct source *s = m->crew->context;
	struct thread *t = &s->threads[m->worker.number];
	const struct source_options *o = &s->options;
	uint64_t now_us = clock_monotonic_us();

	if (t->tls != NULL)
		lean_enter();
	m->context = t;
	t->member = m;
	if (o->duration_us != 0)
		t->until_us = now_us + o->duration_us;
	if (o->rate > 0) {
		t->step_us = 1e6 / o->rate * o->threads;
		t->next_us = (double)now_us + t->step_us * m->worker.number / o->threads;
	}
	for (unsigned i = 0; i < t->count; i++)
		connect_load(&t->loads[i]);
}

/* Those that wait for the time of a mail, or for the end. */
static void
on_turn(struct crew_member *m)
{
	struct thread *t = m->context;
	uint64_t now_us = clock_monotonic_us();
	uint64_t intended_us;
	struct list_node *node;

	look_at_the_clock(t, now_us);
	while (!list_is_empty(&t->waiting) && (t->over || is_due(t, now_us, &intended_us))) {
		node = list_shift(&t->waiting);
		pump(LIST_ITEM(node, struct load, waiting));
		now_us = clock_monotonic_us();
	}
	m->wait_us = WAIT_MOST_US;
	if (t->step_us > 0 && t->next_us - (double)now_us < WAIT_MOST_US)
		m->wait_us = t->next_us > (double)now_us
				     ? (uint64_t)(t->next_us - (double)now_us) + 1
				     : WAIT_MOST_US;
}

static bool
on_stop(struct crew_member *m)
{
	struct thread *t = m->context;

	end_offering(t, clock_monotonic_us());
	for (unsigned i = 0; i < t->count; i++) {
		struct load *l = &t->loads[i];
		if (l->ended)
			continue;
		if (timer_is_set(&l->again)) {
			timer_stop(&m->worker.timers, &l->again);
			end_load(l);
		} else if (l->connected) {
			talk_is_over(l, "the source was stopped");
		} else {
			conn_close(&l->conn, CLOSE_SHUTDOWN);
		}
	}
	return t->ended == t->count && ring_ops(m->worker.ring) == 0;
}

/* ---- making and ending ---- */

static bool
make_thread(struct source *s, unsigned number, uint8_t *text)
{
	const struct source_options *o = &s->options;
	struct thread *t = &s->threads[number];
	size_t text_size = client_scratch_size(o->recipients);

	t->source = s;
	t->count = o->connections / o->threads + (number < o->connections % o->threads);
	t->random = (o->seed + number) * 0x9e3779b97f4a7c15u | 1;
	list_init(&t->waiting);
	t->loads = calloc(t->count, sizeof *t->loads);
	t->rejected = calloc((size_t)t->count * 2 * o->recipients, sizeof *t->rejected);
	if (t->loads == NULL || t->rejected == NULL)
		return false;
	for (unsigned i = 0; i < t->count; i++) {
		struct load *l = &t->loads[i];
		l->thread = t;
		l->text = buf_of(text + i * text_size, text_size);
		for (unsigned m = 0; m < 2; m++)
			l->mails[m].mail.rejected = t->rejected + (2 * i + m) * o->recipients;
		timer_init(&l->again, on_again);
	}
	return true;
}

/* The contexts keep what they find when they are made. */
static bool
make_tls(struct source *s, struct buf *why)
{
	bool is_good = true;

	if (s->options.tls_setup == NULL)
		return true;
	lean_enter();
	for (unsigned i = 0; is_good && i < s->options.threads; i++) {
		s->threads[i].tls = tls_new(s->options.tls_setup, why);
		is_good = s->threads[i].tls != NULL;
	}
	lean_leave();
	return is_good;
}

static bool
make_threads(struct source *s)
{
	const struct source_options *o = &s->options;
	size_t text_size = client_scratch_size(o->recipients);

	s->threads = calloc(o->threads, sizeof *s->threads);
	s->text = malloc(o->connections * text_size);
	if (s->threads == NULL || s->text == NULL)
		return false;
	unsigned before = 0;
	for (unsigned i = 0; i < o->threads; i++) {
		if (!make_thread(s, i, s->text + before * text_size))
			return false;
		before += s->threads[i].count;
	}
	return true;
}

struct source *
source_start(const struct source_options *options, struct track *track, struct buf *why)
{
	struct source *s = calloc(1, sizeof *s);

	ASSERT(options->threads > 0 && options->connections >= options->threads);
	if (s == NULL)
		return NULL;
	s->options = *options;
	s->track = track;
	s->crew = (struct crew){
		.name = "source",
		.count = options->threads,
		.on_start = on_start,
		.on_turn = on_turn,
		.on_stop = on_stop,
		.context = s,
	};
	if (!make_threads(s))
		buf_append_string(why, "no memory for the source");
	else if (make_tls(s, why) &&
		 crew_start(&s->crew, options->connections / options->threads + 1, why))
		return s;
	source_free(s);
	return NULL;
}

bool
source_is_done(const struct source *s)
{
	return atomic_load(&s->done) == s->options.threads;
}

void
source_cut(struct source *s)
{
	atomic_store_explicit(&s->cut, true, memory_order_relaxed);
}

void
source_stop(struct source *s)
{
	crew_stop(&s->crew);
}

void
source_free(struct source *s)
{
	if (s == NULL)
		return;
	for (unsigned i = 0; s->threads != NULL && i < s->options.threads; i++) {
		tls_free(s->threads[i].tls);
		free(s->threads[i].loads);
		free(s->threads[i].rejected);
	}
	crew_free(&s->crew);
	free(s->threads);
	free(s->text);
	free(s);
}

/* ---- what it tells ---- */

static uint64_t
get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void
source_count(const struct source *s, struct source_numbers *out)
{
	*out = (struct source_numbers){ 0 };
	for (unsigned i = 0; i < s->options.threads; i++) {
		const struct thread *t = &s->threads[i];
		uint64_t first_us = get(&t->first_offer_us);
		uint64_t last_us = get(&t->last_reply_us);
		out->connections += get(&t->connections);
		out->connection_errors += get(&t->connection_errors);
		out->bytes += get(&t->bytes);
		out->not_offered += get(&t->not_offered);
		if (first_us != 0 && (out->first_offer_us == 0 || first_us < out->first_offer_us))
			out->first_offer_us = first_us;
		if (last_us > out->last_reply_us)
			out->last_reply_us = last_us;
	}
}

void
source_latency(const struct source *s, struct histogram_view *out)
{
	for (unsigned i = 0; i < s->options.threads; i++)
		histogram_read(&s->threads[i].latency, out);
}

uint64_t
source_cpu_us(const struct source *s)
{
	return crew_cpu_us(&s->crew);
}

static int
by_count(const void *a, const void *b)
{
	const struct source_reason *x = a, *y = b;

	return x->count < y->count ? 1 : x->count > y->count ? -1 : 0;
}

unsigned
source_reasons(const struct source *s, struct source_reason out[SOURCE_REASONS_MAX])
{
	struct thread all = { 0 };

	for (unsigned i = 0; i < s->options.threads; i++)
		for (unsigned r = 0; r < s->threads[i].reason_count; r++)
			reason_of(&all, s->threads[i].reasons[r].text)->count +=
				s->threads[i].reasons[r].count;
	memcpy(out, all.reasons, sizeof all.reasons);
	qsort(out, all.reason_count, sizeof *out, by_count);
	return all.reason_count;
}
