/* SPDX-License-Identifier: Apache-2.0
 *
 * net: sockets before they are on a ring. Simulated in tests/fault like ring.h.
 *
 * struct net_address holds IPv4, IPv6 or a unix path, and is compared and copied as a value.
 */
#ifndef CORE_NET_H
#define CORE_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/base/buf.h"
#include "core/base/span.h"

struct net_address {
	socklen_t size; /* 0: none */
	union {
		struct sockaddr any;
		uint8_t bytes[110]; /* sockaddr_un is the longest */
		struct {
			uint16_t family;
			uint16_t port_network_order;
		} head;
	};
};

/* "192.0.2.1:25", "[2001:db8::1]:25", "unix:/path". False where it does not parse: no names. */
bool net_address_parse(struct span text, struct net_address *out);
/* The same forms. */
void net_address_show(const struct net_address *a, struct buf *out);
/* The IP alone: "192.0.2.1", "2001:db8::1"; v4-mapped addresses as v4. */
void net_address_show_ip(const struct net_address *a, struct buf *out);
/* A hash of the IP alone (v6: of its /64), for the tables of limits. */
uint64_t net_address_hash_ip(const struct net_address *a, uint64_t seed);

/* A descriptor, or -errno. */
int net_listen(const struct net_address *a, int backlog, bool reuse_port);
int net_socket(const struct net_address *peer);
/* The address at the other end, or at ours; false where the connection is gone. */
bool net_peer(int fd, struct net_address *out);
bool net_local(int fd, struct net_address *out);

#endif
