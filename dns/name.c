/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/name.h"

enum { LABEL_MAX = 63 };

size_t
name_normalize(struct span text, char out[DNS_NAME_MAX + 1])
{
	size_t label = 0;

	out[0] = 0;
	if (text.size > 0 && text.data[text.size - 1] == '.')
		text = span_first(text, text.size - 1);
	if (text.size == 0 || text.size > DNS_NAME_MAX)
		return 0;
	for (size_t i = 0; i < text.size; i++) {
		uint8_t c = text.data[i];

		if (c <= ' ' || c >= 0x7f || c == '\\' || (c == '.' && label == 0))
			return 0;
		label = c == '.' ? 0 : label + 1;
		if (label > LABEL_MAX)
			return 0;
	}
	if (label == 0)
		return 0; /* two dots at the end */
	for (size_t i = 0; i < text.size; i++)
		out[i] = (char)ascii_lower(text.data[i]);
	out[text.size] = 0;
	return text.size;
}

bool
name_of_address(const struct net_address *a, struct buf *out)
{
	uint8_t ip[16];
	size_t size = net_address_ip(a, ip);

	for (size_t i = size; i > 0; i--) {
		if (size == 4)
			buf_printf(out, "%u.", (unsigned)ip[i - 1]);
		else
			buf_printf(out, "%x.%x.", ip[i - 1] & 15u, (unsigned)ip[i - 1] >> 4);
	}
	buf_append_string(out, size == 4 ? "in-addr.arpa" : "ip6.arpa");
	return size > 0 && !out->overflow;
}
