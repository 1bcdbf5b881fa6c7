/* SPDX-License-Identifier: Apache-2.0
 *
 * servers: which Redis server holds a shard, and the links of one worker to them: one server, the
 * master that Sentinels name, or the masters of a Cluster. Fail-over and resharding are followed.
 *
 * One object a worker, on its thread alone. It makes every link ready: loads the functions where
 * they are missing or older (functions.h), compares {prefix}:format, asks what the server promises
 * (promise.h); a server that promises less is rejected with one line that names the remedy. While a
 * link lasts this is asked again now and then, since settings can be changed under it.
 */
#ifndef QUEUE_REDIS_SERVERS_H
#define QUEUE_REDIS_SERVERS_H

#include "queue/redis/link.h"

struct redis_servers;

enum redis_kind { REDIS_SINGLE, REDIS_SENTINEL, REDIS_CLUSTER };

/* What is promised before 250 (docs/durability.md). */
enum redis_durability {
	REDIS_DISK,             /* fsync before the reply: appendonly yes, appendfsync always */
	REDIS_DISK_NO_FAILOVER, /* the same, where a fail-over may lose what was promised */
	REDIS_REPLICA,          /* REDIS_DISK and WAIT: in memory of so many replicas */
	REDIS_MEMORY,           /* nothing is asked for */
};

struct redis_options {
	enum redis_kind kind;
	/* "host:port", "[v6]:port", "unix:/path": the server, Sentinels, some of a Cluster. */
	const struct span *addresses;
	unsigned address_count;
	struct span master_name; /* of Sentinel */
	struct span user, password;
	struct span sentinel_user, sentinel_password;
	unsigned database;
	bool tls;
	const struct tls_trust *trust; /* whom `tls` believes; NULL: who is believed elsewhere */
	struct span prefix;
	unsigned shards;
	struct span node;      /* the name of this one, for people */
	struct span listeners; /* likewise where it takes mail */
	enum redis_durability durability;
	unsigned replicas;      /* of REDIS_REPLICA */
	bool promises_declared; /* the server hides CONFIG: the operator vouches for it */
	uint64_t deadline_ms;   /* of a silent server */
	uint64_t lease_ms;
	uint64_t ask_again_ms; /* so often a ready server is asked what it promises; 0: not again */
	bool compress;         /* bodies, where it saves something */
};

struct redis_servers_events {
	/* The shards of one server can be used (again): on the first time, after a reconnect, after
	 * a fail-over. `from`, `to`: of shards that changed, all between are looked at. */
	void (*on_up)(struct redis_servers *s, void *context);
	/* A server was lost, or left: whatever was under way there has been answered. */
	void (*on_down)(struct redis_servers *s, void *context);
	void (*on_wake)(struct redis_servers *s, void *context, unsigned shard); /* {prefix}:wake */
	/* Other words of that channel; empty: some may have been missed. May be NULL. */
	void (*on_word)(struct redis_servers *s, void *context, struct span word);
};

/* NULL: no memory. Options are lent for its life. `listens`: subscribes to wakes. */
struct redis_servers *redis_servers_new(struct worker *w, const struct redis_options *options,
					bool listens, const struct redis_servers_events *events,
					void *context);
void redis_servers_close(struct redis_servers *s, void (*on_closed)(void *context), void *context);
/* The link to the master of a shard, ready; NULL: it is away now. Ask again for each command. */
struct redis_link *redis_servers_link(struct redis_servers *s, unsigned shard);
/* Which process it is, as the link's server says; 0: not known. */
uint64_t redis_servers_run(const struct redis_servers *s, unsigned shard);
/* Why none is there, for people; empty: all are. */
struct span redis_servers_problem(const struct redis_servers *s);

#endif
