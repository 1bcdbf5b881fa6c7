/* SPDX-License-Identifier: Apache-2.0
 *
 * sim_net: the simulated network: listeners and sockets of the relay, and at the other end of each
 * stream a peer, which is a small state machine of the simulation (client, sink).
 *
 * A stream is two directions of bytes. What one end writes arrives at the other in pieces of
 * seed-chosen size after seed-chosen times; room in each direction is limited, so a send waits for
 * its peer to read. Either end may end its direction (FIN), or break the stream (reset), which
 * destroys what is under way; what had arrived at the relay's end may still be read, as on Linux.
 * When the relay crashes, all its streams break.
 *
 * Peers live in the world and outlive the relay. They act only when called: on_open, on_bytes,
 * on_room, on_end, on_broken, on_time. A peer that connects while nobody listens gets on_broken. A
 * peer keeps its address of struct sim_peer for the whole run, over many streams one after the
 * other.
 */
#ifndef TESTS_FAULT_SIM_NET_H
#define TESTS_FAULT_SIM_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/list.h"
#include "core/base/span.h"
#include "core/net.h"

struct sim_socket;
struct sim_listener;
struct sim_peer;

enum { SIM_HANDS = 32 };

/* What has passed on one stream towards the relay. It stays when the stream is gone. */
struct sim_traffic {
	uint64_t written; /* by the peer */
	uint64_t taken;   /* by the relay: a receive has completed with it */
	bool over;        /* broken, or ended by either side */
	uint64_t
		left_us; /* since when it is broken, or the relay has let go of it; 0: it has not */
	unsigned node;   /* that has made it */
	/* The other way: bytes that the peer has looked at, and up to which byte the relay has
	 * handed over when, the last times. */
	uint64_t consumed;
	uint64_t handed;
	struct {
		uint64_t end, at_us;
	} hands[SIM_HANDS];
	unsigned hand_count;
};

struct sim_peer_events {
	void (*on_open)(struct sim_peer *p);
	void (*on_bytes)(struct sim_peer *p, struct span bytes);
	void (*on_room)(struct sim_peer *p);   /* there is room to write again */
	void (*on_end)(struct sim_peer *p);    /* the relay has ended its direction */
	void (*on_broken)(struct sim_peer *p); /* the stream is gone, or was never made */
	void (*on_time)(struct sim_peer *p);   /* asked for with sim_peer_wake */
};

struct sim_peer {
	const struct sim_peer_events *events;
	struct sim_socket *socket;         /* NULL: no stream */
	const struct sim_traffic *traffic; /* of the present stream, or the last one */
	struct net_address address;
	uint64_t wake_us; /* 0: none */
	struct list_node node;
};

struct sim_net *sim_net_new(void);
uint64_t sim_net_next_us(const struct sim_net *n);
void sim_net_step(struct sim_net *n);
/* The relay is gone: listeners vanish, streams break. */
void sim_net_crash(struct sim_net *n);

/* ---- for peers ---- */

/* A client, connecting from `address`. */
void sim_peer_init(struct sim_peer *p, const struct sim_peer_events *events,
		   const struct net_address *address);
void sim_peer_connect(struct sim_peer *p, const struct net_address *to);
/* A server: on_connect makes the peer that serves a new stream (NULL: refused); on_open follows. */
typedef struct sim_peer *(*sim_accept_fn)(void *context, const struct net_address *address);
void sim_net_serve(const struct net_address *address, sim_accept_fn on_connect, void *context);
/* It has looked at so many bytes more of those that on_bytes gave it. */
void sim_peer_consumed(struct sim_peer *p, size_t size);
/* When the relay has handed over the last of them. */
uint64_t sim_traffic_handed_us(const struct sim_traffic *t);
/* Returns how many bytes there was room for; where not for all, on_room follows. */
size_t sim_peer_write(struct sim_peer *p, struct span bytes);
void sim_peer_end(struct sim_peer *p);   /* FIN behind what was written */
void sim_peer_reset(struct sim_peer *p); /* no on_broken follows */
void sim_peer_stop_reading(struct sim_peer *p, bool stop);
void sim_peer_wake(struct sim_peer *p, uint64_t at_us);

/* ---- for the simulated ring ---- */

struct sim_socket *sim_socket_new(void);
/* Operations in flight hold the socket as its descriptor does: it ends with the last of them. */
struct sim_socket *sim_socket_get(struct sim_socket *s);
void sim_socket_put(struct sim_socket *s);
void sim_listener_close(struct sim_listener *l);
struct sim_listener *sim_listener_new(const struct net_address *address, bool reuse_port);
/* Starts; sim_socket_connected() tells when and how it ended: 1 made, 0 not yet, or -errno. */
int sim_socket_connect(struct sim_socket *s, const struct net_address *to);
int sim_socket_connected(const struct sim_socket *s);
bool sim_listener_has_pending(const struct sim_listener *l);
struct sim_socket *sim_listener_take(struct sim_listener *l);
/* Would a receive complete now: bytes, end or failure? */
bool sim_socket_readable(const struct sim_socket *s);
/* Bytes (seed-chosen, at most size), 0 at the end, -errno. */
int sim_socket_receive(struct sim_socket *s, uint8_t *out, size_t size);
/* The relay has handed over bytes to be sent. */
void sim_socket_handed(struct sim_socket *s, size_t size);
/* Takes what there is room for; -errno where the stream is broken. */
int sim_socket_send(struct sim_socket *s, const uint8_t *data, size_t size);
bool sim_socket_writable(const struct sim_socket *s);
int sim_socket_shutdown(struct sim_socket *s);
struct sim_peer *sim_socket_peer(const struct sim_socket *s);

#endif
