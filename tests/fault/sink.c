/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated next hop.
 */
#include <stdio.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fault/oracle.h"
#include "tests/fault/peers.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_net.h"

enum {
	LINE_MOST = 2100,
	RECIPIENTS_MOST = 128,
	OUT_MOST = 4096,
	TEXT_FIRST = 64 * 1024,
};

enum phase { PHASE_COMMAND, PHASE_DATA, PHASE_BDAT, PHASE_CLOSING };

struct sink {
	struct net_address address;
	unsigned site;
	struct peer_faults faults;
	enum sink_fate fate;
	uint64_t fate_until_us;
	uint64_t messages;
};

/* Where a mail is deferred. */
enum { AT_NOTHING, AT_MAIL, AT_RCPT, AT_END };

/* A connection to it. */
struct channel {
	struct sim_peer peer; /* first */
	struct sink *sink;
	enum phase phase;
	char line[LINE_MOST];
	size_t line_size;
	char out[OUT_MOST]; /* replies that wait for room, or for their time */
	size_t out_size;
	bool answers_late;
	bool closes; /* once all replies are out */
	bool breaks; /* soon after its answer to a message */
	unsigned defers_at;

	/* Of the mail at hand. */
	struct oracle_mail *m;
	bool is_notice;                       /* a report on the mail, to its sender */
	bool is_question;                     /* only for recipients: there is no mail */
	uint32_t recipients[RECIPIENTS_MOST]; /* taken ones */
	unsigned count;
	uint8_t *text;
	size_t text_size, text_places;
	size_t bdat_left;
	bool bdat_is_last;
};

static struct channel *
channel_of(struct sim_peer *p)
{
	return CONTAINER_OF(p, struct channel, peer);
}

/* ---- replies ---- */

static void
flush(struct channel *c)
{
	if (c->answers_late || c->out_size == 0)
		return;
	size_t n = sim_peer_write(&c->peer, span_of(c->out, c->out_size));
	c->out_size -= n;
	memmove(c->out, c->out + n, c->out_size);
	if (c->closes && c->out_size == 0)
		sim_peer_end(&c->peer);
}

static void
reply(struct channel *c, const char *text)
{
	size_t size = strlen(text);

	ASSERT(c->out_size + size <= sizeof c->out);
	memcpy(c->out + c->out_size, text, size);
	c->out_size += size;
	if (!c->answers_late && sim_chance(c->sink->faults.sink_stalls)) {
		c->answers_late = true;
		sim_peer_wake(&c->peer, world->now_us + sim_between(1, c->sink->faults.stall_us));
	}
	flush(c);
}

static bool
has_fate(const struct sink *s, enum sink_fate fate)
{
	return s->fate == fate && world->now_us < s->fate_until_us;
}

/* Any command may be met with a drop, a 421, a deferral or a refusal. True: it was. */
static bool
misbehaves(struct channel *c)
{
	const struct peer_faults *f = &c->sink->faults;

	if (sim_chance(f->sink_drops)) {
		c->phase = PHASE_CLOSING;
		sim_peer_reset(&c->peer);
		return true;
	}
	if (sim_chance(f->sink_drops)) {
		c->closes = true;
		c->phase = PHASE_CLOSING;
		reply(c, "421 4.3.2 closing\r\n");
		return true;
	}
	if (sim_chance(f->sink_defers)) {
		reply(c, "451 4.3.0 not now\r\n");
		return true;
	}
	return false;
}

/* ---- the message ---- */

static void
text_append(struct channel *c, const uint8_t *data, size_t size)
{
	if (c->text_size + size > c->text_places) {
		size_t places = c->text_places == 0 ? TEXT_FIRST : c->text_places;
		while (places < c->text_size + size)
			places *= 2;
		uint8_t *text = sim_allocate(places);
		if (c->text_size > 0)
			memcpy(text, c->text, c->text_size);
		c->text = text;
		c->text_places = places;
	}
	memcpy(c->text + c->text_size, data, size);
	c->text_size += size;
}

static void
mail_forget(struct channel *c)
{
	c->m = NULL;
	c->is_notice = c->is_question = false;
	c->count = 0;
	c->text_size = 0;
}

/* The answer carries a number of its own: with it the outcome is found in what is written to the
 * disk and in the log. */
static void
take_message(struct channel *c)
{
	unsigned token = oracle_token();
	char text[64];

	if (c->is_notice)
		oracle_notice_arrived(c->m, span_of(c->text, c->text_size));
	for (unsigned i = 0; i < c->count && !c->is_notice; i++)
		oracle_arrived(c->m, c->recipients[i], span_of(c->text, c->text_size), token,
			       c->peer.traffic);
	c->sink->messages++;
	if (sim_chance(c->sink->faults.sink_drops)) { /* taken, and never said so */
		c->phase = PHASE_CLOSING;
		sim_peer_reset(&c->peer);
		return;
	}
	snprintf(text, sizeof text, "250 2.0.0 " ORACLE_TOKEN "\r\n", token);
	reply(c, text);
	for (unsigned i = 0; i < c->count && !c->is_notice; i++)
		oracle_answering(c->m, c->recipients[i], token,
				 c->peer.traffic->written + c->out_size);
	if (sim_chance(c->sink->faults.sink_drops) && !c->answers_late) {
		c->breaks = true;
		sim_peer_wake(&c->peer, world->now_us + sim_between(1, 1500));
	}
}

static void
end_message(struct channel *c)
{
	const struct peer_faults *f = &c->sink->faults;

	c->phase = PHASE_COMMAND;
	if (c->count == 0) {
		reply(c, "554 5.5.1 no valid recipients\r\n");
	} else if (c->defers_at == AT_END || sim_chance(f->sink_defers)) {
		reply(c, "452 4.3.1 later\r\n");
	} else if (!c->is_notice && sim_chance(f->sink_refuses)) {
		for (unsigned i = 0; i < c->count; i++)
			oracle_bounced(c->m, c->recipients[i]);
		reply(c, "554 5.7.1 not this one\r\n");
	} else {
		take_message(c);
	}
	mail_forget(c);
}

/* ---- commands ---- */

static void
run_hello(struct channel *c)
{
	static const char *const extensions[] = {
		"250-PIPELINING\r\n", "250-CHUNKING\r\n",     "250-8BITMIME\r\n",
		"250-SMTPUTF8\r\n",   "250-SIZE 9000000\r\n", "250-ENHANCEDSTATUSCODES\r\n",
	};
	char text[512] = "250-sink.example\r\n";

	mail_forget(c);
	if (c->line[0] == 'H' || c->line[0] == 'h') {
		reply(c, "250 sink.example\r\n");
		return;
	}
	for (unsigned i = 0; i < sizeof extensions / sizeof extensions[0]; i++)
		if (sim_chance(700) || i == 2)
			strcat(text, extensions[i]);
	strcat(text, "250 HELP\r\n");
	reply(c, text);
}

/* What stands between < and >. */
static struct span
path_of(const struct channel *c)
{
	struct span line = span_of(c->line, c->line_size);
	size_t open = span_find(line, '<', 0);
	size_t shut = span_find(line, '>', open);

	return span_first(span_after(line, open + 1), shut - open - 1);
}

static void
run_mail(struct channel *c)
{
	mail_forget(c);
	c->is_question = span_eq(path_of(c), SPAN(PEER_ASKS));
	c->m = oracle_mail_of_sender(path_of(c));
	c->is_notice = path_of(c).size == 0;
	if (c->m == NULL && !c->is_notice && !c->is_question)
		sim_fail("a sink is offered a mail from nobody: %.*s", (int)c->line_size, c->line);
	c->defers_at = AT_NOTHING;
	if (has_fate(c->sink, FATE_DEFERS))
		c->defers_at = (unsigned)sim_between(AT_MAIL, AT_END);
	if (c->defers_at == AT_MAIL) {
		mail_forget(c);
		reply(c, "451 4.7.1 not yet\r\n");
		return;
	}
	reply(c, "250 2.1.0 sender ok\r\n");
}

/* Would it be taken? */
static void
run_question(struct channel *c)
{
	const struct oracle_recipient *r = oracle_asked_for(path_of(c));

	if (r == NULL)
		sim_fail("a sink is asked for %.*s", SPAN_ARG(path_of(c)));
	reply(c, r->unknown ? "550 5.1.1 nobody\r\n" : "250 2.1.5 recipient ok\r\n");
}

static void
run_rcpt(struct channel *c)
{
	if (c->defers_at == AT_RCPT) {
		reply(c, "450 4.2.1 not yet\r\n");
		return;
	}
	if (c->is_question) {
		run_question(c);
		return;
	}
	if (c->is_notice && c->count == 0) {
		c->m = oracle_mail_of_sender(path_of(c));
		if (c->m == NULL)
			sim_fail("a report is for %.*s", SPAN_ARG(path_of(c)));
		c->count = 1;
		reply(c, "250 2.1.5 sender ok\r\n");
		return;
	}
	if (c->m == NULL || c->is_notice) {
		reply(c, "503 5.5.1 no sender\r\n");
		return;
	}
	uint32_t recipient = oracle_recipient_of(c->m, path_of(c));
	if (c->m->recipients[recipient].unknown || sim_chance(c->sink->faults.sink_refuses)) {
		oracle_bounced(c->m, recipient);
		reply(c, "550 5.1.1 nobody\r\n");
		return;
	}
	ASSERT(c->count < RECIPIENTS_MOST);
	c->recipients[c->count++] = recipient;
	reply(c, "250 2.1.5 recipient ok\r\n");
}

static void
run_data(struct channel *c)
{
	if (c->count == 0) {
		reply(c, "554 5.5.1 no valid recipients\r\n");
		return;
	}
	if (c->is_question)
		sim_fail("a question ends in a message");
	c->text_size = 0;
	c->phase = PHASE_DATA;
	reply(c, "354 go on\r\n");
}

static void
run_bdat(struct channel *c)
{
	uint64_t size = 0;
	struct span arguments = span_after(span_of(c->line, c->line_size), 5);
	size_t space = span_find(arguments, ' ', 0);

	if (!span_to_u64(span_first(arguments, space), &size))
		sim_fail("a sink is told: %.*s", (int)c->line_size, c->line);
	c->bdat_left = size;
	c->bdat_is_last = space < arguments.size;
	c->phase = PHASE_BDAT;
}

static void
run_line(struct channel *c)
{
	static const struct {
		const char *verb;
		void (*run)(struct channel *c);
	} verbs[] = {
		{ "EHLO", run_hello }, { "HELO", run_hello }, { "LHLO", run_hello },
		{ "MAIL", run_mail },  { "RCPT", run_rcpt },  { "DATA", run_data },
	};
	struct span line = span_of(c->line, c->line_size);

	if (c->line_size >= 5 && span_eq_nocase(span_first(line, 5), SPAN("BDAT "))) {
		run_bdat(c); /* its bytes come in any case (RFC 3030 2) */
		return;
	}
	if (span_eq_nocase(line, SPAN("QUIT"))) {
		c->closes = true;
		c->phase = PHASE_CLOSING;
		reply(c, "221 2.0.0 bye\r\n");
		return;
	}
	if (span_eq_nocase(line, SPAN("RSET")) || span_eq_nocase(line, SPAN("NOOP"))) {
		if (c->line[0] == 'R' || c->line[0] == 'r')
			mail_forget(c);
		reply(c, "250 2.0.0 ok\r\n");
		return;
	}
	if (misbehaves(c))
		return;
	for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
		if (span_eq_nocase(span_first(line, 4), span_of_string(verbs[i].verb))) {
			verbs[i].run(c);
			return;
		}
	sim_fail("a sink is told: %.*s", (int)c->line_size, c->line);
}

/* ---- bytes ---- */

/* A line of the message, with its LF. */
static void
data_line(struct channel *c)
{
	const uint8_t *line = (const uint8_t *)c->line;
	size_t size = c->line_size;

	if (size < 2 || line[size - 2] != '\r')
		sim_fail("a sink is sent a line that does not end in CRLF");
	if (size == 3 && line[0] == '.') {
		end_message(c);
		return;
	}
	if (line[0] == '.') {
		line++;
		size--;
	}
	text_append(c, line, size);
}

static void
on_byte(struct channel *c, uint8_t byte)
{
	if (c->line_size >= sizeof c->line)
		sim_fail("a sink is sent a line longer than %d bytes", LINE_MOST);
	c->line[c->line_size++] = (char)byte;
	if (byte != '\n')
		return;
	if (c->phase == PHASE_DATA) {
		data_line(c);
	} else {
		if (c->line_size < 2 || c->line[c->line_size - 2] != '\r')
			sim_fail("a sink is sent a command that does not end in CRLF");
		c->line_size -= 2;
		run_line(c);
	}
	c->line_size = 0;
}

static void
end_chunk(struct channel *c)
{
	if (c->bdat_is_last) {
		end_message(c);
		return;
	}
	c->phase = PHASE_COMMAND;
	reply(c, c->count > 0 ? "250 2.0.0 chunk ok\r\n" : "554 5.5.1 no valid recipients\r\n");
}

static void
on_bytes(struct sim_peer *p, struct span bytes)
{
	struct channel *c = channel_of(p);

	while (bytes.size > 0 && c->phase != PHASE_CLOSING && p->socket != NULL) {
		size_t n = 1;
		if (c->phase == PHASE_BDAT)
			n = bytes.size < c->bdat_left ? bytes.size : c->bdat_left;
		sim_peer_consumed(p, n);
		if (c->phase == PHASE_BDAT) {
			text_append(c, bytes.data, n);
			c->bdat_left -= n;
		} else {
			on_byte(c, bytes.data[0]);
		}
		bytes = span_after(bytes, n);
		if (c->phase == PHASE_BDAT && c->bdat_left == 0)
			end_chunk(c);
	}
	if (c->phase == PHASE_DATA && sim_chance(c->sink->faults.sink_stalls)) {
		sim_peer_stop_reading(p, true);
		sim_peer_wake(p, world->now_us + sim_between(1, c->sink->faults.stall_us));
	}
}

static void
on_open(struct sim_peer *p)
{
	struct channel *c = channel_of(p);

	if (has_fate(c->sink, FATE_SILENT)) {
		c->phase = PHASE_CLOSING;
		return;
	}
	if (sim_chance(c->sink->faults.sink_drops)) {
		c->closes = true;
		c->phase = PHASE_CLOSING;
		reply(c, "421 4.3.2 too busy\r\n");
		return;
	}
	reply(c, "220 sink.example ESMTP\r\n");
}

static void
on_room(struct sim_peer *p)
{
	flush(channel_of(p));
}

static void
on_end(struct sim_peer *p)
{
	struct channel *c = channel_of(p);

	c->closes = true;
	sim_peer_end(p);
}

static void
on_broken(struct sim_peer *p)
{
	struct channel *c = channel_of(p);

	c->phase = PHASE_CLOSING;
	p->wake_us = 0;
	list_unlink(&p->node);
}

static void
on_time(struct sim_peer *p)
{
	struct channel *c = channel_of(p);

	if (c->breaks) {
		c->phase = PHASE_CLOSING;
		sim_peer_reset(p);
		return;
	}
	c->answers_late = false;
	sim_peer_stop_reading(p, false);
	flush(c);
}

static const struct sim_peer_events events = {
	.on_open = on_open,
	.on_bytes = on_bytes,
	.on_room = on_room,
	.on_end = on_end,
	.on_broken = on_broken,
	.on_time = on_time,
};

static struct sim_peer *
on_connect(void *context, const struct net_address *address)
{
	struct sink *s = context;

	oracle_connects(s->site);
	if (has_fate(s, FATE_ABSENT) || sim_chance(s->faults.sink_absent))
		return NULL;
	struct channel *c = sim_allocate(sizeof *c);
	c->sink = s;
	sim_peer_init(&c->peer, &events, address);
	return &c->peer;
}

struct sink *
sink_new(const struct net_address *address, unsigned site, const struct peer_faults *faults)
{
	struct sink *s = sim_allocate(sizeof *s);

	*s = (struct sink){ .address = *address, .site = site, .faults = *faults };
	sim_net_serve(address, on_connect, s);
	return s;
}

void
sink_calm(struct sink *s)
{
	s->faults = (struct peer_faults){ 0 };
}

void
sink_doom(struct sink *s, enum sink_fate fate, uint64_t until_us)
{
	s->fate = fate;
	s->fate_until_us = until_us;
}

uint64_t
sink_messages(const struct sink *s)
{
	return s->messages;
}
