/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/hosts_file.h"

#include "dns/text.h"

static bool
line_has(struct span line, struct span name)
{
	struct span word;

	while (text_word(&line, &word)) {
		if (span_eq_nocase(word, name))
			return true;
	}
	return false;
}

unsigned
hosts_file_find(struct span text, struct span name, uint16_t port, struct net_address *out,
		unsigned max)
{
	struct span line, address;
	unsigned count = 0;

	while (count < max && text_line(&text, SPAN("#"), &line)) {
		if (text_word(&line, &address) && line_has(line, name) &&
		    text_ip(address, port, &out[count]))
			count++;
	}
	return count;
}
