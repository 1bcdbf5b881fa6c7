/* SPDX-License-Identifier: Apache-2.0
 *
 * hosts_file: looks a name up in the text of a hosts file, as in hosts(5). Pure.
 *
 * A line is an address and the names that have it; `#` begins a comment; case is ignored. A name
 * may stand in several lines, which add up, in the order of the file. Lines without a valid address
 * are passed over, as everywhere. The text is read anew for each lookup: these files are short, and
 * the results are cached.
 */
#ifndef DNS_HOSTS_FILE_H
#define DNS_HOSTS_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/net_address.h"
#include "core/base/span.h"

/* How many addresses were found, at most `max`; each with this port. */
unsigned hosts_file_find(struct span text, struct span name, uint16_t port, struct net_address *out,
			 unsigned max);

#endif
