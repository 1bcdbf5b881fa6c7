/* SPDX-License-Identifier: Apache-2.0
 *
 * name: domain names as text, in the one form that dns/ compares. Pure.
 *
 * The form: lower case, labels of 1 to 63 bytes with dots between, no dot at the end, at most
 * DNS_NAME_MAX bytes. Any printable ASCII but the backslash may stand in a label, since names that
 * are no host names are asked for too (_25._tcp.mx1.example.org, and 0/25 as in RFC 2317). What
 * came from a packet may have other bytes; packet.h writes them with a backslash, so that such a
 * name is never mistaken for another and can never be asked for.
 */
#ifndef DNS_NAME_H
#define DNS_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/buf.h"
#include "core/base/net_address.h"
#include "core/base/span.h"
#include "dns/resolver.h"

/* Writes the name in its form, with a NUL behind it, and returns its size; 0 where the text is no
 * name (the root is none here). One dot at the end is taken off. */
size_t name_normalize(struct span text, char out[DNS_NAME_MAX + 1]);
/* The name under which the PTR record of an address stands (RFC 1035 3.5, RFC 3596 2.5). False for
 * a unix socket, or where it does not fit. */
bool name_of_address(const struct net_address *a, struct buf *out);

#endif
