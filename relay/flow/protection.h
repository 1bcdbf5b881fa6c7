/* SPDX-License-Identifier: Apache-2.0
 *
 * protection: how a connection to a host of a plan is protected, for mail (channel.h) and for
 * questions about recipients (callout.h) alike: what the plan's policy wants of the host, and the
 * layer of TLS that sees to it.
 */
#ifndef RELAY_FLOW_PROTECTION_H
#define RELAY_FLOW_PROTECTION_H

#include "relay/flow/plan.h"
#include "relay/smtp/sender.h"
#include "tls/tls.h"

struct protection {
	enum tls_level level; /* what the host must do */
	enum tls_source source;
};

struct protection protection_of(const struct plan *plan, const struct plan_host *host);
/* What the dialogue does about it. `plain`: TLS is left out where it may be, since the host's is
 * known to be broken, or we have none. */
enum sender_tls protection_stage(struct protection p, bool plain);
/* For a handshake with this host. NULL: no memory. */
struct layer *protection_layer(struct tls *tls, const struct plan *plan,
			       const struct plan_host *host, struct protection p);

#endif
