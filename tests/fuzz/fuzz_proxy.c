/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses smtp */
/*
 * A PROXY header: what is more, told or bad is so for every prefix (bad stays bad, what is not bad
 * was MORE before it was whole), the header lies within the input and its bound, and an address
 * that is told is one of IPv4 or IPv6 that shows and parses to itself.
 */
#include "core/base/assert.h"
#include "core/base/buf.h"
#include "relay/smtp/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CUTS = 700 };

static void
check_address(const struct net_address *a)
{
	uint8_t memory[96], ip[16], again_ip[16];
	struct buf text = buf_of(memory, sizeof memory);
	struct net_address again;

	size_t ip_size = net_address_ip(a, ip);
	ASSERT(ip_size == 4 || ip_size == 16);
	net_address_show(a, &text);
	ASSERT(net_address_parse(buf_span(&text), &again));
	ASSERT(net_address_ip(&again, again_ip) == ip_size);
	ASSERT(memcmp(ip, again_ip, ip_size) == 0);
}

static bool
is_same(enum proxy_result a, const struct proxy *p, enum proxy_result b, const struct proxy *q)
{
	return a == b && p->size == q->size && net_address_eq(&p->client, &q->client) &&
	       net_address_eq(&p->server, &q->server);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);
	struct proxy whole, p;
	enum proxy_result result = proxy_read(in, &whole);

	ASSERT((result == PROXY_BAD) == (whole.why != NULL));
	if (result == PROXY_TOLD || result == PROXY_LOCAL)
		ASSERT(whole.size > 0 && whole.size <= size && whole.size <= PROXY_HEADER_MAX);
	if (result == PROXY_TOLD) {
		check_address(&whole.client);
		check_address(&whole.server);
	}
	bool decided = false;
	for (size_t cut = 0; cut <= size && cut < CUTS; cut++) {
		enum proxy_result part = proxy_read(span_first(in, cut), &p);
		if (decided)
			ASSERT(part == result);
		if (part == PROXY_MORE) {
			ASSERT(!decided);
			continue;
		}
		decided = true;
		if (part == PROXY_BAD)
			ASSERT(result == PROXY_BAD);
		else
			ASSERT(is_same(part, &p, result, &whole) && cut >= whole.size);
	}
	return 0;
}
