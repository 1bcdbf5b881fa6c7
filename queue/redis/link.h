/* SPDX-License-Identifier: Apache-2.0
 *
 * link: one connection of a worker to one Redis server: connected again and again by itself, ready
 * (authenticated, database chosen, questions of the owner answered) before anything is sent, then
 * a pipeline: commands leave in the order of redis_send(), all of a turn in one write.
 *
 * On its worker's thread alone. Of what was sent each call gets one on_reply, in order, never
 * inside redis_send(). Nothing is sent twice: whether to ask again is the caller's decision, who is
 * told what is known about the execution (see redis_call).
 *
 * Connecting: with back-off (100 ms doubled up to 5 s, each moved by up to half either way); a
 * connection that has been silent for `deadline_ms` with calls open is given up. Bounded: at most
 * REDIS_CALLS_MOST calls and REDIS_BYTES_MOST bytes wait or are under way: redis_link_is_full() is
 * asked before a group of commands (MULTI ... EXEC), which is then sent whole. Who does not ask
 * loses the connection at twice of that.
 *
 * ASK is not followed, but answered ERR_AGAIN like MOVED: a shard is many keys, which move one by
 * one, and a function that ran at the new place would not find those that are still at the old one.
 * A slot that is under way is away, for as long as its keys need to move.
 */
#ifndef QUEUE_REDIS_LINK_H
#define QUEUE_REDIS_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include <hiredis/hiredis.h>

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/span.h"
#include "core/worker.h"
#include "queue/body.h"

enum {
	REDIS_CALLS_MOST = 16384,
	REDIS_BYTES_MOST = 64 * 1024 * 1024,
};

struct redis_link;
struct tls_trust;

struct redis_link_options {
	/* core/base/server_address.h: one, or several that are as good as each other, of which each
	 * attempt takes the next, from `first` on. A name is looked up anew for each attempt
	 * (numbers, hosts file, search, DNS). All texts are lent for the link's life. */
	const struct span *servers;
	unsigned server_count;
	unsigned first;
	struct span user;     /* empty: the default user */
	struct span password; /* empty: no AUTH */
	unsigned database;    /* SELECT; 0: none is sent */
	/* With verification of the certificate: by `trust` (NULL: those of the configuration), and
	 * for the host of the server. Not over a unix socket. */
	bool tls;
	const struct tls_trust *trust;
	uint64_t deadline_ms; /* of connecting, of being made ready, and of silence */
};

/* One command under way. Embedded in the caller's object; the link's until on_reply. */
struct redis_call {
	struct list_node node; /* the link's, as is ends_at */
	uint64_t ends_at;      /* its last byte, in all that was written to this connection */
	/* ERR_OK: `reply` is the server's, good during the call, never of type ERROR.
	 * ERR_AGAIN: certainly not executed: the link was down, or the server says so (MOVED, ASK,
	 * TRYAGAIN, CLUSTERDOWN, LOADING, BUSY, READONLY, MASTERDOWN, NOREPLICAS, EXECABORT,
	 * NOAUTH); ERR_NO_ROOM instead for OOM and MISCONF. `reply` is that error, or NULL.
	 * ERR_IN_DOUBT: sent, and no reply came. `reply` is NULL.
	 * ERR_PROTOCOL: the server refused it as wrong (a bug or a wrong server): executed or not.
	 */
	void (*on_reply)(struct redis_call *c, enum err e, const struct redisReply *reply);
};

struct redis_link_events {
	/* Connected and logged in. The owner may redis_send() what makes it ready (loads functions,
	 * asks what the server promises) and calls redis_link_ready() or redis_link_reject().
	 * NULL: it is ready. */
	void (*on_login)(struct redis_link *l, void *context);
	/* The link went from ready to down; calls under way have been answered. May be NULL. */
	void (*on_down)(struct redis_link *l, void *context);
	/* An attempt came to nothing: the name, the connection, the login, or rejected before it
	 * was ready. redis_link_problem() says why. May be NULL. */
	void (*on_failed)(struct redis_link *l, void *context);
	/* A message of a channel this link has subscribed to. May be NULL. */
	void (*on_message)(struct redis_link *l, void *context, struct span channel,
			   struct span message);
	/* MOVED, ASK, CLUSTERDOWN, READONLY or NOREPLICAS was answered: the map is old, or the
	 * server is alone, and on_reply comes next. `error` is the whole line: "MOVED 3999
	 * HOST:PORT". May be NULL. */
	void (*on_moved)(struct redis_link *l, void *context, struct span error);
};

/* NULL: no memory, or a server is no address. It begins to connect in the next turn. */
struct redis_link *redis_link_new(struct worker *w, const struct redis_link_options *options,
				  const struct redis_link_events *events, void *context);
/* Closes; then, not inside of this call, what is under way is answered (ERR_IN_DOUBT, ERR_AGAIN),
 * and `on_closed` is called, by which the link is gone. */
void redis_link_close(struct redis_link *l, void (*on_closed)(void *context), void *context);

bool redis_link_is_ready(const struct redis_link *l);
bool redis_link_is_full(const struct redis_link *l);
/* Since when (worker's now_ms) it has been ready without a break; 0: it is not. */
uint64_t redis_link_ready_since_ms(const struct redis_link *l);
/* Which server it is connected to, or has tried last. */
struct span redis_link_server(const struct redis_link *l);
/* The reason of the last failure, for people. */
struct span redis_link_problem(const struct redis_link *l);
void redis_link_ready(struct redis_link *l);
/* Not this server, or not now: closed, tried again with back-off. The text is kept. */
void redis_link_reject(struct redis_link *l, struct span why);
/* What on_reply would be told of this reply: for those inside the reply of EXEC. */
enum err redis_reply_error(const struct redisReply *reply);

/* Sends one command; arguments are copied. Before on_login: ERR_AGAIN from a task. */
void redis_send(struct redis_link *l, struct redis_call *c, const struct span *arguments,
		unsigned count);
/* The same with one argument more, the last: `first` (may be empty, copied) followed by `size`
 * bytes of the body from `offset`, which are lent until on_reply: long runs of it are not copied.
 */
void redis_send_body(struct redis_link *l, struct redis_call *c, const struct span *arguments,
		     unsigned count, struct span first, const struct body *body, uint64_t offset,
		     uint64_t size);

#endif
