/* SPDX-License-Identifier: Apache-2.0
 *
 * resolv_conf: the name servers in the text of a resolv.conf(5). Pure.
 *
 * Only `nameserver` counts, in the order of the file; an IPv6 address with a zone (fe80::1%eth0)
 * cannot be used and is passed over. Search lists and options are for libc: what is searched is
 * said in the configuration.
 */
#ifndef DNS_RESOLV_CONF_H
#define DNS_RESOLV_CONF_H

#include "core/base/net_address.h"
#include "core/base/span.h"

/* How many name servers there are, at most `max`; with port 53. */
unsigned resolv_conf_servers(struct span text, struct net_address *out, unsigned max);

#endif
