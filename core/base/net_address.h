/* SPDX-License-Identifier: Apache-2.0
 *
 * net_address: an IPv4 or IPv6 address with its port, or the path of a unix socket.
 *
 * A plain value: copied by assignment, compared by net_address_eq(). Only numbers are understood;
 * names are the business of dns/. Text forms, the same for reading and showing:
 *   192.0.2.1:25   [2001:db8::1]:25   unix:/path
 * IPv6 zones (%eth0) are not understood. An IPv4 address inside an IPv6 one (::ffff:192.0.2.1)
 * is shown and hashed as the IPv4 address that it is.
 */
#ifndef CORE_BASE_NET_ADDRESS_H
#define CORE_BASE_NET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
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

/* False where it does not parse; port 0 does. */
bool net_address_parse(struct span text, struct net_address *out);
/* From the 4 or 16 bytes of an IP address, and a port in host order. */
void net_address_of_ip(const void *ip, size_t size, uint16_t port, struct net_address *out);
/* The 4 or 16 bytes of the IP address, in its shortest family (a mapped one is IPv4); returns how
 * many, 0 where there is none. */
size_t net_address_ip(const struct net_address *a, uint8_t ip[16]);
/* Does what is sent there stay on this machine: a unix socket, or a loopback address? */
bool net_address_is_local(const struct net_address *a);
/* Nothing for an address that is none. */
void net_address_show(const struct net_address *a, struct buf *out);
/* The IP alone: "192.0.2.1", "2001:db8::1"; "unix" for a unix socket. */
void net_address_show_ip(const struct net_address *a, struct buf *out);
/* The four bytes of an IPv4 address; false where they do not fit. */
bool net_address_show_v4(const uint8_t ip[4], struct buf *out);
/* A hash of the IP alone (v6: of its /64), for the tables of limits. With a secret seed nobody can
 * choose addresses that fall together. */
uint64_t net_address_hash_ip(const struct net_address *a, uint64_t seed);

static inline bool
net_address_eq(const struct net_address *a, const struct net_address *b)
{
	return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

#endif
