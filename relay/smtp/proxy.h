/* SPDX-License-Identifier: Apache-2.0
 *
 * proxy: the header with which a proxy tells whose connection it is that it hands on (HAProxy's
 * PROXY protocol, version 1 in text and version 2 in binary), ahead of everything else.
 *
 * PURE, and without a state: proxy_read() is given all that has come, again with more behind it
 * where it says MORE. What is bad is bad from the first byte on that no header can have, so the
 * result does not depend on how the bytes were cut. A header is at most PROXY_HEADER_MAX bytes; a
 * version 2 header may say more than that about the connection (TLVs), which is refused; what it
 * says within that is skipped. The client's address is only told for TCP over IPv4 and IPv6; of
 * the others (LOCAL: the proxy asks for itself; UNKNOWN; unix sockets) nothing is known.
 */
#ifndef RELAY_SMTP_PROXY_H
#define RELAY_SMTP_PROXY_H

#include <stddef.h>

#include "core/base/net_address.h"
#include "core/base/span.h"

enum { PROXY_HEADER_MAX = 4096, PROXY_TEXT_MAX = 107 };

enum proxy_result {
	PROXY_MORE,  /* all of it may be the start of a header */
	PROXY_TOLD,  /* the addresses are those of the client's connection */
	PROXY_LOCAL, /* a header that tells none: those of the socket count */
	PROXY_BAD,   /* no header, see `why` */
};

struct proxy {
	struct net_address client;
	struct net_address server; /* where the client connected to */
	size_t size;               /* of the header: what follows is the client's */
	const char *why;           /* BAD: for people */
};

enum proxy_result proxy_read(struct span in, struct proxy *out);

#endif
