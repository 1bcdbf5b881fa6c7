/* SPDX-License-Identifier: Apache-2.0
 *
 * name: domain names as text, in the one form that dns/ compares. Pure.
 *
 * The form: lower case, labels of 1 to 63 bytes with dots between, no dot at the end, at most
 * DNS_NAME_MAX bytes. Any printable ASCII but the backslash may stand in a label, since names that
 * are no host names are asked for too (_25._tcp.mx1.example.org, and 0/25 as in RFC 2317). Other
 * bytes are written as \DDD (RFC 1035 5.1), three decimal digits, and only these: so each name has
 * one form, with which the library can be asked, too. They come from packets, and from macros of
 * SPF.
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
/* The same of bytes of any value, with dots between the labels. */
size_t name_of_bytes(struct span bytes, char out[DNS_NAME_MAX + 1]);
/* The name under which the PTR record of an address stands (RFC 1035 3.5, RFC 3596 2.5). False for
 * a unix socket, or where it does not fit. */
bool name_of_address(const struct net_address *a, struct buf *out);

#endif
