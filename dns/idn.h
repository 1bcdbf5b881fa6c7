/* SPDX-License-Identifier: Apache-2.0
 *
 * idn: domains with U-labels as A-labels (IDNA 2008, RFC 5891), in the form of name.h.
 *
 * Mail addresses may have them with SMTPUTF8 (RFC 6531); the DNS knows A-labels alone. What is
 * ASCII already is only brought into the form. PURE, but for what libidn2 allocates.
 */
#ifndef DNS_IDN_H
#define DNS_IDN_H

#include <stddef.h>

#include "core/base/span.h"
#include "dns/resolver.h"

/* Writes the name with a NUL behind it, and returns its size; 0 where the text is no domain. */
size_t idn_to_ascii(struct span domain, char out[DNS_NAME_MAX + 1]);

#endif
