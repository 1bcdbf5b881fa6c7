/* SPDX-License-Identifier: Apache-2.0
 *
 * What SPF costs a mail once its records are known: a record with an include, a and mx, of which
 * the last matches nothing, so that all three lookups are made, and five answers are needed.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench/micro/rows.h"
#include "core/base/assert.h"
#include "dns/answer.h"
#include "dns/inside.h"
#include "dns/spf_check.h"
#include "dns/spf_record.h"

enum { DOMAINS = 1000, NAME_SIZE = 32, WHY_SIZE = 256, LIFE_MS = 1 << 30 };

static const char included[] =
	"v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.0/25 ip4:203.0.113.128/26 ip6:2001:db8:1::/48 "
	"ip6:2001:db8:2::/48 ip4:198.18.0.0/20 ip4:198.18.64.0/20 ip4:198.18.128.0/20 ~all";

void
measure_spf_record(struct micro_run *run)
{
	struct dns_record record = { .data = { (const uint8_t *)included, sizeof included - 1 } };
	struct dns_answer a = { .outcome = DNS_FOUND, .count = 1, .records = &record };

	run->bytes = sizeof included - 1;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct spf_record *r = spf_record_new(&a);
		ASSERT(r != NULL && r->kind == SPF_RECORD_FOUND && r->count == 9);
		micro_use(r);
		spf_record_put(r);
	}
	micro_stop(run);
}

/* A worker whose resolver knows what the records of DOMAINS domains need. */
struct known {
	struct worker worker;
	struct worker *peers[1];
	struct resolver *resolver;
	char domains[DOMAINS][NAME_SIZE];
	struct spf_check check;
	unsigned failed;
};

static void
on_checked(struct spf_check *c, const struct spf_outcome *o)
{
	struct known *k = CONTAINER_OF(c, struct known, check);

	ASSERT(o->result == SPF_FAIL && o->lookups == 3);
	k->failed++;
}

static void
know(struct known *k, const char *name, enum dns_type type, struct dns_record record)
{
	struct dns_answer from = { .outcome = DNS_FOUND,
				   .expires_at_ms = k->worker.now_ms + LIFE_MS,
				   .name = span_of_string(name),
				   .count = 1,
				   .records = &record };
	struct dns_answer *a = answer_new(&from);

	cache_put(k->resolver->answers, from.name, type, a, answer_bytes(a), a->expires_at_ms);
}

static void
know_domain(struct known *k, unsigned number)
{
	char text[128];
	struct dns_record address = { 0 };

	snprintf(k->domains[number], NAME_SIZE, "domain%u.example", number);
	int size = snprintf(text, sizeof text, "v=spf1 include:_spf%u.example a mx -all", number);
	know(k, k->domains[number], DNS_TXT,
	     (struct dns_record){ .data = span_of(text, (size_t)size) });
	net_address_of_ip("\xcb\x00\x71\x01", 4, 0, &address.address);
	know(k, k->domains[number], DNS_A, address);
	know(k, k->domains[number], DNS_MX,
	     (struct dns_record){ .preference = 10, .name = SPAN("mx.example") });
	snprintf(text, sizeof text, "_spf%u.example", number);
	know(k, text, DNS_TXT, (struct dns_record){ .data = span_of_string(included) });
}

static void
check(struct known *k, unsigned number)
{
	struct spf_inputs in = { .helo = SPAN("mail.example.org"),
				 .local = SPAN("bounces"),
				 .domain = span_of_string(k->domains[number]),
				 .receiver = SPAN("mx1.example.net") };
	unsigned before = k->failed;
	struct list_node *node;

	net_address_of_ip("\xc0\x00\x02\x01", 4, 0, &in.client);
	spf_check_start(&k->check, k->resolver, &in);
	/* The tasks of a turn, without the ring. */
	while ((node = list_shift(&k->worker.tasks)) != NULL) {
		struct task *t = LIST_ITEM(node, struct task, node);
		t->on_run(t);
	}
	ASSERT(k->failed == before + 1);
}

static struct known *
known_new(void)
{
	struct worker_options options = { .mailbox_places = 8 };
	struct resolver_options dns = {
		.queries_max = 64, .waiting_max = 64, .cache_bytes = 64 << 20, .deadline_ms = 20000
	};
	char text[WHY_SIZE];
	struct buf why = buf_of(text, sizeof text);
	struct known *k = calloc(1, sizeof *k);
	struct dns_record address = { 0 };

	ASSERT(k != NULL);
	k->peers[0] = &k->worker;
	worker_init(&k->worker, 0, 1, k->peers, &options);
	k->resolver = resolver_new(&k->worker, &dns, 1, &why);
	ASSERT(k->resolver != NULL);
	k->check.on_done = on_checked;
	net_address_of_ip("\xcb\x00\x71\x02", 4, 0, &address.address);
	know(k, "mx.example", DNS_A, address);
	for (unsigned i = 0; i < DOMAINS; i++) {
		know_domain(k, i);
		check(k, i);
	}
	return k;
}

void
measure_spf_warm(struct micro_run *run)
{
	struct known *k = known_new();

	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++)
		check(k, (unsigned)(i % DOMAINS));
	micro_stop(run);
	resolver_free(k->resolver);
	worker_close(&k->worker);
	free(k);
}
