/* SPDX-License-Identifier: Apache-2.0
 *
 * From nothing to a link whose owner may make it ready: the name, the connection, TLS, the login.
 */
#include "core/base/assert.h"
#include "core/metric.h"
#include "core/net.h"
#include "queue/redis/link_parts.h"
#include "tls/tls.h"

enum { READER_KEEPS = 1024 * 1024 };

/* ---- logging in ---- */

static void
log_in_further(struct redis_link *l)
{
	ASSERT(l->state == LINK_LOGIN && l->login_left > 0);
	if (--l->login_left > 0)
		return;
	l->state = LINK_SETUP;
	if (l->events->on_login != NULL)
		l->events->on_login(l, l->context);
	else
		redis_link_ready(l);
}

/* The link of one of its own calls. */
static struct redis_link *
link_of_login(struct redis_call *c, unsigned step)
{
	return CONTAINER_OF(c - step, struct redis_link, login);
}

static void
on_login_reply(struct redis_link *l, enum err e, const struct redisReply *reply)
{
	if (l->state != LINK_LOGIN)
		return;
	if (e == ERR_OK)
		log_in_further(l);
	else
		link_give_up(l, CLOSE_REJECTED,
			     reply == NULL ? SPAN("lost at login")
					   : span_of(reply->str, reply->len));
}

static void
on_auth(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	on_login_reply(link_of_login(c, 0), e, reply);
}

static void
on_select(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	on_login_reply(link_of_login(c, 1), e, reply);
}

/* Whether we may tell our name is not important; whether we are let in is. */
static void
on_name(struct redis_call *c, enum err e, const struct redisReply *reply)
{
	on_login_reply(link_of_login(c, 2), e == ERR_PROTOCOL ? ERR_OK : e, reply);
}

static void
send_login(struct redis_link *l, unsigned step,
	   void (*on_reply)(struct redis_call *, enum err, const struct redisReply *),
	   const struct span *arguments, unsigned count)
{
	l->login[step].on_reply = on_reply;
	l->login_left++;
	link_send(l, &l->login[step], arguments, count);
}

static void
log_in(struct redis_link *l)
{
	uint8_t memory[64];
	struct buf text = buf_of(memory, sizeof memory);
	const struct redis_link_options *o = &l->options;

	l->state = LINK_LOGIN;
	l->login_left = 0;
	conn_deadline(&l->conn, l->worker->now_ms + o->deadline_ms);
	if (o->password.size > 0 && o->user.size > 0)
		send_login(l, 0, on_auth, (struct span[]){ SPAN("AUTH"), o->user, o->password }, 3);
	else if (o->password.size > 0)
		send_login(l, 0, on_auth, (struct span[]){ SPAN("AUTH"), o->password }, 2);
	if (o->database > 0) {
		buf_append_number(&text, o->database);
		send_login(l, 1, on_select, (struct span[]){ SPAN("SELECT"), buf_span(&text) }, 2);
	}
	buf_reset(&text);
	buf_append(&text, SPAN("ringpost-"));
	buf_append_number(&text, l->worker->number);
	send_login(l, 2, on_name,
		   (struct span[]){ SPAN("CLIENT"), SPAN("SETNAME"), buf_span(&text) }, 3);
	conn_read_more(&l->conn);
}

/* ---- the connection ---- */

static void
begin_tls(struct redis_link *l)
{
	struct tls_wish wish = {
		.level = TLS_VERIFY,
		.names = { l->where.host },
		.name_count = 1,
		.trust = l->options.trust,
	};
	struct layer *layer = NULL;

	if (l->where.address.size == 0)
		wish.server_name = l->where.host;
	if (l->worker->tls != NULL)
		layer = tls_connect(l->worker->tls, &wish);
	if (layer == NULL)
		link_give_up(l, CLOSE_TLS_FAILED, SPAN("TLS cannot be begun"));
	else
		conn_secure(&l->conn, layer);
}

void
link_secured(struct redis_link *l, enum err e)
{
	uint8_t memory[LINK_PROBLEM_MOST];
	struct buf why = buf_of(memory, sizeof memory);
	struct tls_facts facts;

	if (e == ERR_OK) {
		log_in(l);
		return;
	}
	tls_facts(conn_layer(&l->conn), &facts);
	buf_append(&why, SPAN("TLS failed: "));
	if (facts.why.size > 0)
		buf_append(&why, facts.why);
	else
		buf_append_string(&why, err_text(e));
	link_give_up(l, CLOSE_TLS_FAILED, buf_span(&why));
}

void
link_connected(struct redis_link *l, enum err e)
{
	if (e != ERR_OK)
		link_give_up(l, CLOSE_CONNECT_FAILED, span_of_string(err_text(e)));
	else if (l->options.tls)
		begin_tls(l);
	else
		log_in(l);
}

static void
connect_to(struct redis_link *l, const struct net_address *address)
{
	int fd = net_socket(address);

	if (fd >= 0)
		l->reader = redisReaderCreate();
	if (fd < 0 || l->reader == NULL) {
		if (fd >= 0)
			net_close(fd);
		link_failed(l, span_of_string(err_text(fd < 0 ? err_of_errno(fd) : ERR_NO_MEMORY)));
		return;
	}
	l->reader->maxbuf = READER_KEEPS;
	l->made = l->handed = l->answered = 0;
	l->broken = false;
	l->state = LINK_CONNECTING;
	l->address = *address;
	conn_init(&l->conn, l->worker, fd, RING_PEERS, &link_conn_events);
	conn_deadline(&l->conn, l->worker->now_ms + l->options.deadline_ms);
	conn_connect(&l->conn, &l->address);
}

/* ---- the name ---- */

/* One address after the other, from one attempt to the next. */
static void
on_found(struct mx_lookup *lookup, struct mx_hosts *h)
{
	struct redis_link *l = CONTAINER_OF(lookup, struct redis_link, lookup);

	OBJ_CHECK(l, REDIS_LINK_MAGIC);
	ASSERT(l->state == LINK_RESOLVING);
	l->state = LINK_WAITING;
	if (h->outcome != MX_FOUND || h->address_count == 0) {
		link_failed(l, h->why.size > 0 ? h->why : SPAN("its name is not found"));
		return;
	}
	connect_to(l, &h->addresses[l->failures % h->address_count]);
}

void
link_connect(struct redis_link *l)
{
	ASSERT(l->state == LINK_WAITING);
	l->turn = (l->options.first + l->attempts++) % l->options.server_count;
	bool is_address = server_address_parse(l->options.servers[l->turn], &l->where);
	ASSERT(is_address);
	if (l->worker->metrics != NULL)
		METRIC_ADD(l->worker->metrics, REDIS_CONNECTS, 1);
	if (l->where.address.size > 0) {
		connect_to(l, &l->where.address);
		return;
	}
	if (l->worker->resolver == NULL) {
		link_failed(l, SPAN("its name cannot be looked up"));
		return;
	}
	l->state = LINK_RESOLVING;
	l->lookup = (struct mx_lookup){ .on_done = on_found };
	mx_lookup_host(&l->lookup, l->worker->resolver, l->where.host, l->where.port);
}
