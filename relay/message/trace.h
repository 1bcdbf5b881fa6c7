/* SPDX-License-Identifier: Apache-2.0
 *
 * trace: writes the Received field that a relay puts on top of a message (RFC 5321 4.4).
 *
 * Pure. All spans are lent for the call. What the client said (its HELO name) is untrusted: only
 * characters of a domain or literal are kept (and well-formed UTF-8 in a SMTPUTF8 transaction),
 * the rest becomes '?', and it is cut to 255 bytes; so nothing can break out of its place. The
 * field is folded into lines that stay under 998 bytes; it ends in CRLF. The protocol names are
 * those of RFC 3848 and RFC 6531. `for` is written only with exactly one recipient, so that nobody
 * learns of the others.
 */
#ifndef RELAY_MESSAGE_TRACE_H
#define RELAY_MESSAGE_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum { TRACE_SIZE_MAX = 4096 }; /* room that is always enough */

enum trace_flags {
	TRACE_ESMTP = 1 << 0, /* EHLO, not HELO */
	TRACE_LMTP = 1 << 1,
	TRACE_TLS = 1 << 2,
	TRACE_AUTH = 1 << 3,
	TRACE_UTF8 = 1 << 4, /* SMTPUTF8 was given with MAIL */
	TRACE_HIDDEN =
		1 << 5, /* nothing of the client is told; RFC 5321 wants a name all the same */
};

struct trace {
	struct span hello_name;  /* as the client said it; empty: it said nothing */
	struct span client_name; /* from DNS, forward-confirmed; empty: written as "unknown" */
	struct span
		client_address; /* "192.0.2.1" or "2001:db8::1", without brackets; empty: local */
	struct span our_name;
	struct span id;        /* text of the queue id */
	struct span tls;       /* "TLSv1.3 TLS_AES_256_GCM_SHA384", or empty */
	struct span recipient; /* the only one, or empty */
	unsigned flags;        /* enum trace_flags */
	uint64_t wall_ms;
	int offset_min;
};

/* False where it does not fit: nothing useful was written. */
bool trace_received(struct buf *out, const struct trace *t);
/* "ESMTPSA" */
const char *trace_protocol(unsigned flags);

#endif
