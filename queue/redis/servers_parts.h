/* SPDX-License-Identifier: Apache-2.0
 *
 * servers_parts: what struct redis_servers is made of. Inside of servers*.c only.
 *
 *   servers.c        which node has which shard; the owner's calls
 *   servers_node.c   one node: its link, and what makes that ready
 *   servers_ear.c    the link that hears wakes
 *   servers_guide.c  the link to a Sentinel, or to a node of a Cluster that knows the others
 *
 * A node is a server that holds shards. Nodes come and go with the map; one that holds none any
 * more is closed, and freed when its link has ended.
 */
#ifndef QUEUE_REDIS_SERVERS_PARTS_H
#define QUEUE_REDIS_SERVERS_PARTS_H

#include "core/timer.h"
#include "core/base/server_address.h"
#include "queue/redis/promise.h"
#include "queue/redis/servers.h"

enum {
	SERVERS_PROBLEM_MOST = 640,
	NODES_MOST = 256,
	SETUP_QUESTIONS = 3,
	SETUP_FORMAT_STEPS = 4,
	EAR_PING_MS = 10 * 1000, /* nothing else would tell it that its server is gone */
};

/* What happens between the login and the use of a link. */
struct redis_setup {
	struct redis_call questions[SETUP_QUESTIONS]; /* INFO, CONFIG GET, rp_version */
	struct redis_call load;
	struct redis_call format[SETUP_FORMAT_STEPS];
	unsigned left; /* answers of this flight */
	struct promise_facts facts;
	int64_t version; /* of the functions there; 0: none */
	bool wrote_format;
};

struct redis_node {
	struct list_node node; /* servers->nodes */
	struct redis_servers *servers;
	struct redis_link *link; /* NULL: it is leaving, and its link has not ended yet */
	unsigned shards;         /* that it holds */
	struct redis_setup setup;
	struct timer ask_again; /* what it promises */
	struct span name;       /* of text */
	uint8_t text[SERVER_ADDRESS_MOST];
	struct buf said; /* the last problem that was logged */
	uint8_t said_memory[SERVERS_PROBLEM_MOST];
};

/* Who knows where the shards are. */
struct redis_guide {
	struct redis_link *link; /* NULL: there is one server, or all is closing */
	struct redis_call ask, subscribe, ping;
	bool asking; /* for a map */
	bool ping_under_way;
	uint64_t asked_at_ms;
	struct span asked;  /* the server that was asked for a map */
	struct timer timer; /* a PING, or the next map */
	uint16_t *slots;    /* by shard, of a Cluster */
	unsigned failures;
	struct buf said; /* the last problem that was logged */
	uint8_t said_memory[SERVERS_PROBLEM_MOST];
};

struct redis_servers {
	uint32_t magic;
	struct worker *worker;
	const struct redis_options *options;
	const struct redis_servers_events *events;
	void *context;
	bool listens;
	bool ends;
	unsigned open; /* links that have not ended */
	void (*on_closed)(void *context);
	void *closed_context;
	struct task end;

	struct list nodes;
	unsigned node_count;
	struct redis_node **homes; /* by shard; NULL: nobody knows */

	struct redis_guide guide;

	struct redis_link *ear; /* NULL: none, or it is changing servers */
	struct span ear_server; /* of ear_text */
	uint8_t ear_text[SERVER_ADDRESS_MOST];
	bool ear_changes;   /* its link is ending, and another follows */
	bool ear_has_heard; /* it was ready before: something may have been missed */
	struct redis_call subscribe, ping;
	bool ping_under_way;
	struct timer ping_timer;
	struct span channel; /* "{prefix}:wake" */
	uint8_t channel_memory[SERVER_ADDRESS_MOST];

	struct buf problem;
	uint8_t problem_memory[SERVERS_PROBLEM_MOST];
};

#define REDIS_SERVERS_MAGIC 0x52535256u

/* ---- servers.c ---- */
/* Options that all links have in common. */
struct redis_link_options servers_link_options(const struct redis_servers *s);
/* A link has ended. */
void servers_link_ended(void *context);
/* Finds a node or makes it; NULL: no memory, or too many. */
struct redis_node *servers_node(struct redis_servers *s, struct span name);
/* This shard is there now. Nodes that hold none any more stay until servers_sweep(). */
void servers_move(struct redis_servers *s, unsigned shard, struct redis_node *to);
void servers_sweep(struct redis_servers *s);
/* Something may have changed that redis_servers_problem() tells. */
void servers_note_problem(struct redis_servers *s);

/* ---- servers_node.c ---- */
struct redis_node *node_new(struct redis_servers *s, struct span name);
/* It is freed when its link has ended. */
void node_close(struct redis_node *n);

/* ---- servers_ear.c ---- */
void ear_init(struct redis_servers *s);
/* Listens at these, which are lent. False: no memory. */
bool ear_open(struct redis_servers *s, const struct span *servers, unsigned count);
/* Listens at this one from now on. */
void ear_follow(struct redis_servers *s, struct span server);
void ear_close(struct redis_servers *s);

/* ---- servers_guide.c ---- */
bool guide_open(struct redis_servers *s);
void guide_close(struct redis_servers *s);
/* What it said may be wrong by now: it is asked again. */
void guide_doubt(struct redis_servers *s);
/* A node has said so. */
void guide_note_moved(struct redis_servers *s, struct span error);
struct span guide_problem(const struct redis_servers *s);

#endif
