/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses dns core machine */
/* The first byte chooses the type; the rest is a packet for a name of its own question. Whatever
 * comes: everything that is handed out lies within the packet's own memory, within the limits, and
 * a second reading says the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "dns/name.h"
#include "dns/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_inside(const struct packet *p, struct span s)
{
	ASSERT(s.size == 0 ||
	       (s.data >= p->memory && s.data + s.size <= p->memory + sizeof p->memory));
}

/* A name that can be asked for is in its form already. */
static void
check_name(struct span name)
{
	char normal[DNS_NAME_MAX + 1];

	ASSERT(name.size <= DNS_NAME_MAX);
	size_t size = name_normalize(name, normal);
	ASSERT(size == 0 || span_eq(span_of(normal, size), name));
}

static void
check_record(const struct packet *p, enum dns_type type, const struct dns_record *r)
{
	check_inside(p, r->name);
	check_inside(p, r->data);
	check_name(r->name);
	if (type == DNS_A || type == DNS_AAAA)
		ASSERT(r->address.size > 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum dns_type types[] = { DNS_A,   DNS_AAAA, DNS_CNAME, DNS_MX,
					       DNS_PTR, DNS_TLSA, DNS_TXT };
	static struct packet p, again;

	if (size == 0)
		return 0;
	enum dns_type type = types[data[0] % (sizeof types / sizeof types[0])];
	struct span in = span_of(data + 1, size - 1);
	bool good = packet_parse(in, SPAN("a.test"), type, &p);
	ASSERT(packet_parse(in, SPAN("a.test"), type, &again) == good);
	if (!good)
		return 0;
	ASSERT(p.count <= DNS_RECORDS_MAX && p.count == again.count && p.ttl_s == again.ttl_s);
	ASSERT(p.has_ttl || p.count == 0);
	check_inside(&p, p.name);
	check_name(p.name);
	for (unsigned i = 0; i < p.count; i++) {
		check_record(&p, type, &p.records[i]);
		ASSERT(span_eq(p.records[i].name, again.records[i].name) &&
		       span_eq(p.records[i].data, again.records[i].data));
	}
	return 0;
}
