/* SPDX-License-Identifier: Apache-2.0
 *
 * net: sockets before they are on a ring. Simulated in tests/fault like ring.h.
 *
 * Descriptors are close-on-exec. Small writes leave at once (TCP_NODELAY, also on what a listener
 * accepts): every reply is one send, so Nagle's algorithm could only delay it. An IPv6 listener
 * does not take IPv4, which has a listener of its own. These calls do not block.
 */
#ifndef CORE_NET_H
#define CORE_NET_H

#include <stdbool.h>

#include "core/base/net_address.h"

/* A descriptor, or -errno. A unix socket that nobody listens on any more is replaced. */
int net_listen(const struct net_address *a, int backlog, bool reuse_port);
/* A socket that can be connected to `peer`; a descriptor, or -errno. */
int net_socket(const struct net_address *peer);
/* Closes a descriptor that is on no ring. */
void net_close(int fd);
/* The address at the other end, or at ours; false where the connection is gone. */
bool net_peer(int fd, struct net_address *out);
bool net_local(int fd, struct net_address *out);
/* The addresses of this host's interfaces of a family, up to `most`; how many there are. */
unsigned net_own_addresses(sa_family_t family, struct net_address *out, unsigned most);

#endif
