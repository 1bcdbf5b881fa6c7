/* SPDX-License-Identifier: Apache-2.0
 *
 * params: the parameters of MAIL and RCPT (RFC 5321 4.1.2).
 *
 * PURE. SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), RET and ENVID, NOTIFY and ORCPT
 * (RFC 3461, 6533), AUTH (RFC 4954 5), REQUIRETLS (RFC 8689). Spans point into the text that was
 * parsed, and xtext stays encoded: that is how it is relayed. No parameter may stand twice. Errors
 * are rows of replies.def; REPLY_NONE is good.
 */
#ifndef RELAY_SMTP_PARAMS_H
#define RELAY_SMTP_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/span.h"
#include "relay/smtp/replies.h"

enum {
	PARAMS_ENVID_MAX = 100,
	PARAMS_ORCPT_MAX = 500, /* octets as written, RFC 3461 4 */
	PARAMS_AUTH_MAX = 500
}; /* RFC 4954 3 (7) */

/* A client that said 7BIT and sends 8-bit bytes is not refused (see receiver.h). */
enum params_body { PARAMS_BODY_NOT_GIVEN, PARAMS_BODY_7BIT, PARAMS_BODY_8BITMIME };
enum params_ret { PARAMS_RET_NOT_GIVEN, PARAMS_RET_FULL, PARAMS_RET_HDRS };

struct mail_params {
	uint64_t size;     /* 0 where it was not given; UINT64_MAX where it fits no number */
	struct span envid; /* xtext; empty where it was not given */
	enum params_body body;
	enum params_ret ret;
	bool smtputf8;
	bool require_tls;
};

enum { /* bits of rcpt_params.notify; NEVER stands alone, no bit means not given */
       PARAMS_NOTIFY_NEVER = 1 << 0,
       PARAMS_NOTIFY_SUCCESS = 1 << 1,
       PARAMS_NOTIFY_FAILURE = 1 << 2,
       PARAMS_NOTIFY_DELAY = 1 << 3,
};

struct rcpt_params {
	unsigned notify;
	struct span orcpt; /* "rfc822;xtext" with its type; empty where it was not given */
};

enum { /* what is known only where it was offered: bits of `offered` */
       /* Who wrote the mail, as the client says: checked for its syntax and then ignored, as if
	* it were "<>": we vouch for the users of our own, not for those of others. */
       PARAMS_AUTH = 1 << 0,
       PARAMS_REQUIRETLS = 1 << 1,
};

/* `in` is what stands behind the path: nothing, or spaces and parameters. */
enum reply_row params_parse_mail(struct span in, unsigned offered, struct mail_params *out);
/* UTF-8 in ORCPT is allowed in a transaction with SMTPUTF8 only. */
enum reply_row params_parse_rcpt(struct span in, bool smtputf8, struct rcpt_params *out);

#endif
