/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated submitter.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fault/oracle.h"
#include "tests/fault/peers.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_net.h"

enum {
	LINE_MOST = 1024,
	REPLIES_MOST = 16,
	PIECE_MOST = 8192, /* of a message in BDAT */
};

/* What the next reply answers. */
enum expected { E_BANNER, E_EHLO, E_MAIL, E_RCPT, E_DATA, E_BDAT, E_END, E_QUIT };

struct client {
	struct sim_peer peer; /* first */
	struct net_address to;
	struct peer_faults faults;
	uint64_t size_most;
	uint32_t mails_left;
	bool done;

	/* Of the connection. */
	char line[LINE_MOST];
	size_t line_size;
	enum expected expected[REPLIES_MOST];
	unsigned expected_count;
	bool ready; /* EHLO is answered */
	bool pipelines, chunks, has_dsn;

	/* Of the mail at hand. */
	struct oracle_mail *m;
	uint32_t asked;    /* recipients whose RCPT was sent */
	uint32_t answered; /* and answered */
	uint32_t accepted;
	bool uses_bdat;
	uint8_t *text;  /* as it is offered */
	size_t text_at; /* the part that was sent, in BDAT */
	uint8_t *out;   /* what is to be written, and how far it was */
	size_t out_size, out_at;
};

struct net_address
peer_address(uint16_t port)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct net_address a = { .size = sizeof in };

	memcpy(a.bytes, &in, sizeof in);
	return a;
}

/* ---- writing ---- */

static void
flush(struct client *c)
{
	struct span rest = span_of(c->out + c->out_at, c->out_size - c->out_at);

	if (rest.size > 0)
		c->out_at += sim_peer_write(&c->peer, rest);
}

/* Room for `size` bytes more behind what is still to be written. */
static uint8_t *
room(struct client *c, size_t size)
{
	size_t left = c->out_size - c->out_at;
	uint8_t *fresh = sim_allocate(left + size);

	if (left > 0)
		memcpy(fresh, c->out + c->out_at, left);
	c->out = fresh;
	c->out_at = 0;
	c->out_size = left + size;
	return fresh + left;
}

static void
say(struct client *c, const char *text, enum expected expected)
{
	ASSERT(c->expected_count < REPLIES_MOST);
	c->expected[c->expected_count++] = expected;
	memcpy(room(c, strlen(text)), text, strlen(text));
}

static void
say_rcpt(struct client *c)
{
	static const struct {
		uint8_t notify;
		const char *text;
	} wishes[] = {
		{ NOTIFY_NEVER, " NOTIFY=NEVER" },
		{ NOTIFY_FAILURE, " NOTIFY=FAILURE" },
		{ NOTIFY_DELAY, " NOTIFY=DELAY" },
		{ NOTIFY_FAILURE | NOTIFY_DELAY, " NOTIFY=FAILURE,DELAY" },
		{ NOTIFY_SUCCESS | NOTIFY_FAILURE, " NOTIFY=SUCCESS,FAILURE" },
	};
	const size_t wish = sim_below(sizeof wishes / sizeof wishes[0]);
	bool wants = c->has_dsn && sim_chance(300);
	char address[64];
	char command[128];

	c->m->recipients[c->asked].notify = wants ? wishes[wish].notify : 0;
	snprintf(command, sizeof command, "RCPT TO:<%s>%s\r\n",
		 oracle_recipient_address(c->m, c->asked, address), wants ? wishes[wish].text : "");
	c->asked++;
	say(c, command, E_RCPT);
}

/* The message with its dots doubled and the end of data (RFC 5321 4.5.2). */
static void
say_text(struct client *c)
{
	size_t size = c->m->body_size;
	uint8_t *stuffed = room(c, 2 * size + 3);
	size_t n = 0;

	for (size_t i = 0; i < size; i++) {
		if (c->text[i] == '.' && (i == 0 || c->text[i - 1] == '\n'))
			stuffed[n++] = '.';
		stuffed[n++] = c->text[i];
	}
	memcpy(stuffed + n, ".\r\n", 3);
	c->out_size -= 2 * size - n;
	c->expected[c->expected_count++] = E_END;
	c->m->put = PUT_STARTED;
}

static void
say_bdat(struct client *c)
{
	size_t left = c->m->body_size - c->text_at;
	size_t n = sim_between(1, left < PIECE_MOST ? left : PIECE_MOST);
	char command[64];

	n = sim_chance(300) ? left : n;
	snprintf(command, sizeof command, "BDAT %zu%s\r\n", n, n == left ? " LAST" : "");
	say(c, command, n == left ? E_END : E_BDAT);
	memcpy(room(c, n), c->text + c->text_at, n);
	c->text_at += n;
	if (n == left)
		c->m->put = PUT_STARTED;
}

/* ---- the dialogue ---- */

static void
again_later(struct client *c, uint64_t most_us)
{
	c->ready = false;
	sim_peer_wake(&c->peer, world->now_us + sim_between(1, most_us));
}

static void
leave(struct client *c)
{
	sim_peer_reset(&c->peer);
	c->m = NULL;
	again_later(c, c->faults.gap_us > 0 ? c->faults.gap_us : 2000000);
}

static void
begin_mail(struct client *c)
{
	char sender[64];
	char command[128];
	uint64_t size = sim_between(ORACLE_TEXT_LEAST, c->size_most);

	if (c->mails_left == 0 ||
	    (c->m = oracle_mail_new(size, (uint32_t)sim_between(1, ORACLE_RECIPIENTS_MAX))) ==
		    NULL) {
		c->mails_left = 0;
		say(c, "QUIT\r\n", E_QUIT);
		return;
	}
	c->mails_left--;
	c->asked = c->answered = c->accepted = 0;
	c->text = sim_allocate(size);
	c->text_at = 0;
	c->uses_bdat = c->chunks && sim_chance(500);
	oracle_text(c->m, c->text);
	snprintf(command, sizeof command, "MAIL FROM:<%s>\r\n", oracle_sender(c->m, sender));
	say(c, command, E_MAIL);
	if (!c->pipelines)
		return;
	while (c->asked < c->m->recipient_count)
		say_rcpt(c);
	if (!c->uses_bdat)
		say(c, "DATA\r\n", E_DATA);
}

/* All recipients are answered: on to the message, or not. */
static void
after_recipients(struct client *c)
{
	if (c->pipelines && !c->uses_bdat)
		return; /* DATA is already on its way */
	if (c->accepted == 0) {
		c->m->put = PUT_REFUSED;
		say(c, "QUIT\r\n", E_QUIT);
	} else if (c->uses_bdat) {
		say_bdat(c);
	} else {
		say(c, "DATA\r\n", E_DATA);
	}
}

static void
put_refused(struct oracle_mail *m)
{
	/* Unless another node had taken it over before its own one came to hear of it. */
	if (m->alive && !(m->in_doubt && m->crossings > 0))
		sim_fail("mail %u is refused, but it was kept", m->number);
	/* A write that failed in doubt: a crash may forestall its cancel. */
	m->put = m->in_doubt ? PUT_DOUBT : PUT_REFUSED;
	world->oracle->refused++;
}

static void
on_end_reply(struct client *c, int code)
{
	if (code < 400) {
		c->m->put = PUT_KEPT;
		world->oracle->kept++;
		sim_note("250", c->m->number, 0);
	} else {
		put_refused(c->m);
	}
	c->m = NULL;
	if (c->faults.gap_us > 0 && sim_chance(700))
		say(c, "QUIT\r\n", E_QUIT);
	else
		begin_mail(c);
}

static void
refused(struct client *c)
{
	c->m->put = PUT_REFUSED;
	world->oracle->refused++;
	leave(c);
}

static void
on_reply(struct client *c, enum expected expected, int code)
{
	bool good = code < 400;

	switch (expected) {
	case E_BANNER:
		if (!good) {
			leave(c);
			return;
		}
		say(c, "EHLO client.example\r\n", E_EHLO);
		break;
	case E_EHLO:
		c->ready = true;
		begin_mail(c);
		break;
	case E_MAIL:
		if (!good)
			refused(c);
		else if (!c->pipelines)
			say_rcpt(c);
		break;
	case E_RCPT:
		oracle_recipient_answered(c->m, c->answered, code);
		c->m->recipients[c->answered++].offered = good;
		c->accepted += good;
		if (c->answered == c->m->recipient_count)
			after_recipients(c);
		else if (!c->pipelines)
			say_rcpt(c);
		break;
	case E_DATA:
		if (!good)
			refused(c);
		else
			say_text(c);
		break;
	case E_BDAT:
		if (!good)
			refused(c);
		else
			say_bdat(c);
		break;
	case E_END:
		on_end_reply(c, code);
		break;
	case E_QUIT:
		leave(c);
		break;
	}
}

static void
on_line(struct client *c)
{
	enum expected expected = c->expected[0];
	int code = (c->line[0] - '0') * 100 + (c->line[1] - '0') * 10 + (c->line[2] - '0');

	if (c->line_size < 3 || code < 200 || code > 599)
		sim_fail("a client is told: %.*s", (int)c->line_size, c->line);
	if (expected == E_EHLO && strstr(c->line, "PIPELINING") != NULL)
		c->pipelines = sim_chance(700);
	if (expected == E_EHLO && strstr(c->line, "CHUNKING") != NULL)
		c->chunks = true;
	if (expected == E_EHLO && strstr(c->line, "DSN") != NULL)
		c->has_dsn = true;
	if (c->line_size > 3 && c->line[3] == '-')
		return;
	if (code == 421) {
		/* The server closes; it is the answer to whatever was asked (RFC 5321 3.8). */
		if (c->m != NULL && c->m->put == PUT_STARTED)
			put_refused(c->m);
		leave(c);
		return;
	}
	if (c->expected_count == 0)
		sim_fail("a client is told what it did not ask for: %.*s", (int)c->line_size,
			 c->line);
	c->expected_count--;
	memmove(c->expected, c->expected + 1, c->expected_count * sizeof c->expected[0]);
	on_reply(c, expected, code);
}

/* ---- events ---- */

static struct client *
client_of(struct sim_peer *p)
{
	return CONTAINER_OF(p, struct client, peer);
}

static void
on_open(struct sim_peer *p)
{
	struct client *c = client_of(p);

	c->line_size = c->out_size = c->out_at = 0;
	c->pipelines = c->chunks = c->has_dsn = false;
	c->expected[0] = E_BANNER;
	c->expected_count = 1;
	c->m = NULL;
}

static void
on_bytes(struct sim_peer *p, struct span bytes)
{
	struct client *c = client_of(p);

	for (size_t i = 0; i < bytes.size && p->socket != NULL; i++) {
		if (c->line_size + 1 >= sizeof c->line)
			sim_fail("a client is told an endless line");
		if (bytes.data[i] != '\n') {
			c->line[c->line_size++] = (char)bytes.data[i];
			continue;
		}
		c->line[c->line_size] = '\0';
		on_line(c);
		c->line_size = 0;
	}
	if (p->socket == NULL)
		return;
	if (sim_chance(c->faults.client_resets)) {
		flush(c);
		leave(c);
	} else if (sim_chance(c->faults.client_pauses)) {
		sim_peer_wake(p, world->now_us + sim_between(1, c->faults.stall_us));
	} else {
		flush(c);
	}
}

static void
on_room(struct sim_peer *p)
{
	flush(client_of(p));
}

/* The relay has closed, or the stream broke: what was not answered stays open. */
static void
on_gone(struct sim_peer *p)
{
	struct client *c = client_of(p);

	sim_peer_reset(p);
	c->m = NULL;
	again_later(c, 2000000);
}

static void
on_time(struct sim_peer *p)
{
	struct client *c = client_of(p);

	if (p->socket != NULL)
		flush(c);
	else if (c->mails_left > 0)
		sim_peer_connect(p, &c->to);
	else
		c->done = true;
}

static const struct sim_peer_events events = {
	.on_open = on_open,
	.on_bytes = on_bytes,
	.on_room = on_room,
	.on_end = on_gone,
	.on_broken = on_gone,
	.on_time = on_time,
};

struct client *
client_new(const struct net_address *to, const struct peer_faults *faults, uint32_t mails,
	   uint64_t size_most)
{
	struct client *c = sim_allocate(sizeof *c);
	struct net_address from;
	static const uint8_t ip[4] = { 192, 0, 2, 1 };

	net_address_of_ip(ip, sizeof ip, (uint16_t)sim_between(30000, 60000), &from);
	c->to = *to;
	c->faults = *faults;
	c->mails_left = mails;
	c->size_most = size_most;
	sim_peer_init(&c->peer, &events, &from);
	again_later(c, 1000000);
	return c;
}

void
client_stop(struct client *c)
{
	c->mails_left = 0;
	c->faults = (struct peer_faults){ 0 };
}

bool
client_is_done(const struct client *c)
{
	return c->done;
}

struct oracle_mail *
client_unanswered(const struct sim_peer *p)
{
	if (p == NULL || p->events != &events)
		return NULL;
	const struct client *c = CONTAINER_OF(p, struct client, peer);
	return c->m != NULL && c->m->put == PUT_STARTED ? c->m : NULL;
}
