/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/context.h"

#include <unbound.h>
#include <unbound-event.h>

#include "core/base/assert.h"
#include "dns/unbound.h"

static void
on_warm(void *context, int rcode, void *packet, int packet_size, int security, char *why_bogus,
	int was_limited)
{
	(void)rcode;
	(void)packet;
	(void)packet_size;
	(void)security;
	(void)why_bogus;
	(void)was_limited;
	*(bool *)context = true;
}

/* The library answers for localhost by itself, at once. */
static bool
warm(struct ub_ctx *c, const struct resolver_options *options, struct buf *why)
{
	bool answered = false;
	int failed = ub_resolve_event(c, "localhost", DNS_A, 1, &answered, on_warm, NULL);

	if (failed == 0 && answered)
		return true;
	if (failed == 0)
		buf_printf(why, "dns: libunbound does not answer by itself; install libunbound8 of "
				"Debian 12");
	else if (options->trust_anchors != NULL)
		buf_printf(why,
			   "dns: %s; see that %s (dns.trust_anchors) has DS or DNSKEY "
			   "records as in a zone file",
			   ub_strerror(failed), options->trust_anchors);
	else
		buf_printf(why, "dns: %s; allow more memory or descriptors", ub_strerror(failed));
	return false;
}

struct ub_ctx *
context_new(struct unbound *u, const struct resolver_options *options,
	    const struct context_share *share, struct buf *why)
{
	struct ub_ctx *c = ub_ctx_create_ub_event(unbound_base(u));

	if (c == NULL) {
		buf_printf(why, "dns: no memory for a resolver; use fewer workers");
		return NULL;
	}
	/* What it would print has no place in the log, and says nothing that an outcome does not.
	 */
	ub_ctx_debugout(c, NULL);
	if (context_configure(c, options, share, why) && warm(c, options, why))
		return c;
	context_free(c);
	return NULL;
}

void
context_free(struct ub_ctx *context)
{
	if (context != NULL)
		ub_ctx_delete(context);
}
