/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/resolv_conf.h"

#include "dns/text.h"

enum { DNS_PORT = 53 };

unsigned
resolv_conf_servers(struct span text, struct net_address *out, unsigned max)
{
	struct span line, word;
	unsigned count = 0;

	while (count < max && text_line(&text, SPAN("#;"), &line)) {
		if (text_word(&line, &word) && span_eq(word, SPAN("nameserver")) &&
		    text_word(&line, &word) && text_ip(word, DNS_PORT, &out[count]))
			count++;
	}
	return count;
}
