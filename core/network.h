/* SPDX-License-Identifier: Apache-2.0
 *
 * network: IP addresses and CIDR networks as values. Pure: no sockets, no resolver, no allocation;
 * a host name is never accepted. (Addresses with a port or a path: struct net_address of
 * core/base.)
 *
 * IPv4 addresses that arrive mapped into IPv6 (::ffff:192.0.2.1, RFC 4291 2.5.5.2) are IPv4
 * everywhere, so that one rule covers both ways in. Texts are the canonical ones of RFC 5952.
 * A list of networks is searched in order; the lists of a configuration are short.
 */
#ifndef CORE_NETWORK_H
#define CORE_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/base/buf.h"
#include "core/base/span.h"

/* An address without a port: 16 bytes, IPv4 in its mapped form. For comparing and hashing. */
struct ip {
	uint8_t bytes[16];
};

struct network {
	struct ip base;
	uint8_t bits; /* of the 128 of the mapped form */
};

struct network_list {
	const struct network *items;
	size_t count;
};

/* "192.0.2.1", "2001:db8::1"; no brackets, no port, no zone. */
bool ip_parse(struct span text, struct ip *out);
/* The address of an IPv4 or IPv6 socket address; false for other families. */
bool ip_of_sockaddr(const struct sockaddr *address, struct ip *out);
bool ip_is_v4(const struct ip *ip);
/* Appends the address; false where it does not fit. */
bool ip_show(const struct ip *ip, struct buf *out);

/* "192.0.2.0/24", "2001:db8::/32", or a single address. Bits set behind the prefix are an error. */
bool network_parse(struct span text, struct network *out);
bool network_show(const struct network *n, struct buf *out);
bool network_contains(const struct network *n, const struct ip *ip);
bool network_list_contains(const struct network_list *list, const struct ip *ip);

#endif
