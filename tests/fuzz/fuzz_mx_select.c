/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz: uses dns core machine */
/* The input is drawn from byte by byte: an MX answer, then the address answers of each planned
 * host, then what is answered about its TLSA records. Whatever they are: the bounds hold, hosts
 * stand by preference, each address belongs to the host that it is filed under, ourselves are never
 * among them, what is found has an address, and a host whose way is secure has an answer about its
 * records, good or bad. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/assert.h"
#include "dns/answer.h"
#include "dns/mx_select.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NOW_MS = 1000000 };

static struct span rest;

static unsigned
draw(unsigned below)
{
	unsigned value = rest.size == 0 ? 0 : rest.data[0];

	rest = span_after(rest, 1);
	return value % below;
}

/* Names are few, so that they meet: "", "a" to "p", and ourselves as "me". */
static struct span
draw_name(void)
{
	static const char letters[] = "abcdefghijklmnop";
	unsigned which = draw(18);

	if (which == 16)
		return SPAN("");
	return which == 17 ? SPAN("me") : span_of(letters + which, 1);
}

static struct dns_answer *
draw_answer(bool mx)
{
	static struct dns_record records[DNS_RECORDS_MAX];
	struct dns_answer a = {
		.outcome = draw(DNS_BOGUS + 1),
		.security = draw(2),
		.expires_at_ms = NOW_MS + 1000 * draw(256),
		.why = SPAN("because"),
		.records = records,
	};

	if (!mx && draw(4) == 3)
		a.name = draw_name(); /* where CNAMEs led */
	if (a.outcome == DNS_FOUND)
		a.count = draw(mx ? DNS_RECORDS_MAX : 12) + 1;
	for (unsigned i = 0; i < a.count; i++) {
		uint8_t ip[16] = { 10, 0, (uint8_t)draw(4), (uint8_t)draw(4) };
		records[i] = (struct dns_record){ .preference = (uint16_t)(draw(4) * 10) };
		if (mx)
			records[i].name = draw_name();
		else
			net_address_of_ip(ip, draw(2) == 0 ? 4 : 16, 0, &records[i].address);
	}
	return answer_new(&a);
}

/* Answers the questions about TLSA records, each once, unless chance ends it before. */
static void
draw_tlsa(struct mx_plan *p)
{
	struct mx_question next;

	p->dane = draw(2) == 1;
	for (unsigned i = 0; i < p->count; i++) {
		struct mx_candidate *c = &p->hosts[i];
		unsigned asked = 0;
		while (mx_tlsa_next(p, c, &next) && draw(8) != 7) {
			struct dns_answer **place = next.type == DNS_TLSA ? &c->tlsa : &c->alias;
			ASSERT(++asked <= 3 && next.base.data != NULL);
			if (*place != NULL)
				dns_answer_put(*place);
			*place = draw_answer(true);
			if (next.type == DNS_TLSA)
				c->tlsa_base = next.base;
		}
	}
}

static bool
answer_has(const struct dns_answer *a, const struct net_address *address)
{
	uint8_t want[16], have[16];
	size_t size = net_address_ip(address, want);

	for (unsigned i = 0; a != NULL && i < a->count; i++) {
		if (net_address_ip(&a->records[i].address, have) == size &&
		    memcmp(want, have, size) == 0)
			return true;
	}
	return false;
}

static void
check_found(const struct mx_plan *p, const struct mx_self *self, const struct mx_hosts *h)
{
	ASSERT(h->host_count > 0 && h->host_count <= MX_HOSTS_MAX);
	ASSERT(h->address_count <= MX_ADDRESSES_MAX && h->site.size > 0);
	for (unsigned i = 0; i < h->host_count; i++) {
		const struct mx_host *host = &h->hosts[i];
		const struct mx_candidate *c = p->hosts;
		ASSERT(i == 0 || h->hosts[i - 1].preference <= host->preference);
		ASSERT(host->count > 0 && host->count <= MX_HOST_ADDRESSES_MAX);
		ASSERT(!span_eq(host->name, SPAN("me")) && host->name.size > 0);
		while (!span_eq(c->name, host->name))
			c++;
		ASSERT(p->dane || host->tlsa == NULL);
		ASSERT(!p->dane || !host->addresses_secure || host->tlsa != NULL);
		for (unsigned n = host->first; n < host->first + host->count; n++) {
			ASSERT(h->host_of[n] == i);
			ASSERT(answer_has(c->v4, &h->addresses[n]) ||
			       answer_has(c->v6, &h->addresses[n]));
			ASSERT(!mx_self_has_address(self, &h->addresses[n]));
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct span names[] = { { (const uint8_t *)"me", 2 } };
	static struct net_address addresses[1];
	static const struct mx_self self = { names, 1, addresses, 1 };
	static struct mx_plan plan;
	static struct mx_hosts hosts;
	static uint8_t memory[MX_TEXT_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	rest = span_of(data, size);
	net_address_of_ip("\x0a\x00\x03\x03", 4, 25, &addresses[0]);
	uint64_t chance = draw(256);
	struct dns_answer *mx = draw_answer(true);
	struct span domain = draw_name();
	mx_plan(&plan, domain.size > 0 ? domain : SPAN("example"), 25, mx, &self);
	ASSERT(plan.count <= MX_HOSTS_MAX && (plan.count > 0) == (plan.outcome == MX_FOUND));
	for (unsigned i = 0; i < plan.count; i++) {
		plan.hosts[i].v6 = draw(8) == 0 ? NULL : draw_answer(false);
		plan.hosts[i].v4 = draw(8) == 0 ? NULL : draw_answer(false);
	}
	draw_tlsa(&plan);
	mx_select(&plan, &self, chance, NOW_MS, &hosts, &text);
	ASSERT((hosts.outcome == MX_FOUND) == (hosts.host_count > 0));
	ASSERT((hosts.outcome == MX_FOUND) == (hosts.why.size == 0));
	ASSERT(hosts.expires_at_ms >= NOW_MS);
	if (hosts.outcome == MX_FOUND)
		check_found(&plan, &self, &hosts);
	for (unsigned i = 0; i < plan.count; i++) {
		if (plan.hosts[i].v6 != NULL)
			dns_answer_put(plan.hosts[i].v6);
		if (plan.hosts[i].v4 != NULL)
			dns_answer_put(plan.hosts[i].v4);
		if (plan.hosts[i].alias != NULL)
			dns_answer_put(plan.hosts[i].alias);
		if (plan.hosts[i].tlsa != NULL)
			dns_answer_put(plan.hosts[i].tlsa);
	}
	dns_answer_put(mx);
	return 0;
}
