/* SPDX-License-Identifier: Apache-2.0
 *
 * received_spf: writes the Received-SPF field (RFC 7208 9.1), for those who read it rather than
 * Authentication-Results. PURE. All spans are lent for the call, and none is trusted (quoted.h).
 */
#ifndef RELAY_MESSAGE_RECEIVED_SPF_H
#define RELAY_MESSAGE_RECEIVED_SPF_H

#include <stdbool.h>

#include "core/base/buf.h"
#include "core/base/span.h"

enum { RECEIVED_SPF_MAX = 5120 }; /* room that is always enough */

struct received_spf {
	struct span result;        /* "pass" */
	struct span comment;       /* for people; empty: none */
	struct span receiver;      /* our name */
	struct span client_ip;     /* without brackets */
	struct span envelope_from; /* empty: the null sender */
	struct span helo;
	struct span identity;  /* "mailfrom" or "helo" */
	struct span mechanism; /* that matched, or empty */
	struct span problem;   /* or empty */
	bool utf8;
};

/* False where it does not fit: nothing was written. */
bool received_spf_write(struct buf *out, const struct received_spf *r);

#endif
