/* SPDX-License-Identifier: Apache-2.0
 *
 * server_address: where a server of ours listens (Redis), by number or by name, as people and
 * other servers write it. A name is for dns/ to look up.
 *
 *   redis.example.org:6379   192.0.2.1:6379   [2001:db8::1]:6379   unix:/run/redis.sock
 *
 * The port must be there: 6379 for a server, 26379 for a Sentinel. Servers of a Cluster write an
 * IPv6 address without brackets ("::1:6379"), which is understood, too.
 */
#ifndef CORE_BASE_SERVER_ADDRESS_H
#define CORE_BASE_SERVER_ADDRESS_H

#include <stdbool.h>

#include "core/base/net_address.h"
#include "core/base/span.h"

enum { SERVER_ADDRESS_MOST = 300 };

struct server_address {
	struct net_address address; /* size 0: `host` is a name, to be looked up */
	struct span host;           /* part of the text; empty for a unix socket */
	uint16_t port;
};

/* False where it is none of these. */
bool server_address_parse(struct span text, struct server_address *out);
/* HOST:PORT, as it is shown, compared, and parsed again. */
bool server_address_show(struct span host, uint16_t port, struct buf *out);

#endif
