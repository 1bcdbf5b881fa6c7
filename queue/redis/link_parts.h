/* SPDX-License-Identifier: Apache-2.0
 *
 * link_parts: what a link is made of. Inside of link*.c only.
 *
 * link.c has its life and the replies, link_connect.c how it begins, link_send.c the commands. A
 * link owns its connection; while
 * that is there (CONNECTING to CLOSING), what was sent stays in `calls` until its reply, or until
 * the connection is closed and the kernel holds nothing of a body any more.
 */
#ifndef QUEUE_REDIS_LINK_PARTS_H
#define QUEUE_REDIS_LINK_PARTS_H

#include "core/conn.h"
#include "core/metric.h"
#include "dns/mx.h"
#include "core/base/server_address.h"
#include "queue/redis/link.h"

enum { LINK_PROBLEM_MOST = 640, LINK_LOGIN_STEPS = 3 };

enum link_state {
	LINK_WAITING,    /* there is no connection; waits for the back-off, or for its first turn */
	LINK_RESOLVING,  /* waits for the addresses of a name */
	LINK_CONNECTING, /* waits for the connect and for the handshake of TLS */
	LINK_LOGIN,      /* waits for the replies to AUTH, SELECT, CLIENT SETNAME */
	LINK_SETUP,      /* the owner makes it ready */
	LINK_READY,
	LINK_CLOSING, /* given up; waits for on_closed of the connection */
};

/* A part of the commands that the connection has had no room for. */
struct link_piece {
	struct list_node node;
	/* Bytes of ours: those from `start` to `size` are left. */
	size_t start, size, capacity;
	/* Or bytes that are lent. */
	const struct body *body; /* NULL: ours */
	struct redis_call *call;
	uint64_t offset, left;
	uint8_t bytes[];
};

struct redis_link {
	struct conn conn; /* first */
	uint32_t magic;
	uint8_t state;   /* enum link_state */
	bool was_ready;  /* on_down is owed */
	bool subscribed; /* messages may come between replies */
	bool broken;     /* no memory for what is to be sent: the connection is closing */
	struct worker *worker;
	struct redis_link_options options;
	unsigned turn; /* of options.servers: the one of this attempt */
	unsigned attempts;
	struct server_address where; /* of that */
	struct mx_lookup lookup;     /* in RESOLVING */
	struct net_address address;  /* that it connects to */
	const struct redis_link_events *events;
	void *context;

	struct list calls; /* sent on this connection and not answered, in order */
	size_t call_count;
	struct list refused; /* to be answered ERR_AGAIN by `refuse` */
	struct task refuse;
	struct list pieces; /* what the connection has had no room for */
	/* Bytes of this connection's commands: made, given to it, of those that are answered. */
	uint64_t made, handed, answered;
	struct redis_call *lent_call; /* whose body the connection sends from now */
	struct redisReply *held;      /* its reply, which came before the memory is back */

	struct redisReader *reader;
	struct redis_call login[LINK_LOGIN_STEPS];
	unsigned login_left;

	uint64_t ready_since_ms;
	unsigned failures;  /* since it was ready */
	struct timer retry; /* in WAITING */
	struct task start;
	struct task end; /* frees it, where there is no connection */
	void (*on_ended)(void *context);
	void *ended_context;
	bool ends; /* by redis_link_close */

	uint8_t problem_memory[LINK_PROBLEM_MOST];
	struct buf problem;
};

#define REDIS_LINK_MAGIC 0x524c4e4bu

static inline void
link_count_bytes(struct redis_link *l, unsigned direction, size_t bytes)
{
	if (l->worker->metrics != NULL)
		METRIC_ADD_LABEL(l->worker->metrics, REDIS_BYTES, direction, bytes);
}

/* Of link.c. */
extern const struct conn_events link_conn_events;
/* The connection is of no use any more; the rest happens when it is closed. */
void link_give_up(struct redis_link *l, enum close_reason reason, struct span why);
/* There is no connection, and none could be begun. */
void link_failed(struct redis_link *l, struct span why);

/* Of link_connect.c. */
void link_connect(struct redis_link *l);
void link_connected(struct redis_link *l, enum err e);
void link_secured(struct redis_link *l, enum err e);

/* Of link_send.c. */
/* Gives the connection what waits, as much as it takes now. */
void link_pump(struct redis_link *l);
void link_drop_pieces(struct redis_link *l);
/* A command of the link itself, in LINK_LOGIN. */
void link_send(struct redis_link *l, struct redis_call *c, const struct span *arguments,
	       unsigned count);

#endif
