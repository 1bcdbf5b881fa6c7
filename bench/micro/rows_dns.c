/* SPDX-License-Identifier: Apache-2.0
 *
 * What is measured of dns: reading answers, and what is at hand already. No question leaves the
 * process: the library answers by itself for everything below localhost.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench/micro/rows.h"
#include "core/base/assert.h"
#include "dns/mx.h"
#include "dns/packet.h"
#include "dns/resolver.h"

enum { DOMAINS = 1000, DOMAIN_SIZE = 32, WHY_SIZE = 256 };

/* example.org: five MX hosts below it, and an answer of two addresses. */
#define HEADER(answers) "\x12\x34\x81\x80\x00\x01\x00" answers "\x00\x00\x00\x00"
#define NAME          \
	"\x07"        \
	"example\x03" \
	"org\x00"
#define MX(number) \
	"\xc0\x0c\x00\x0f\x00\x01\x00\x00\x0e\x10\x00\x08\x00\x0a\x03mx" number "\xc0\x0c"
#define A(number) "\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc0\x00\x02" number

static const char mx_packet[] =
	HEADER("\x05") NAME "\x00\x0f\x00\x01" MX("1") MX("2") MX("3") MX("4") MX("5");
static const char a_packet[] = HEADER("\x02") NAME "\x00\x01\x00\x01" A("\x01") A("\x02");

void
measure_packet(struct micro_run *run)
{
	static struct packet packet;
	bool is_mx = run->row->number != 0;
	struct span in = is_mx ? span_of(mx_packet, sizeof mx_packet - 1)
			       : span_of(a_packet, sizeof a_packet - 1);

	run->bytes = in.size;
	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		bool good = packet_parse(in, SPAN("example.org"), is_mx ? DNS_MX : DNS_A, &packet);
		micro_use(&packet);
		ASSERT(good && packet.count == (is_mx ? 5 : 2));
	}
	micro_stop(run);
}

/* A resolver that knows the hosts of DOMAINS domains. */
struct warm {
	struct worker worker;
	struct worker *peers[1];
	struct resolver *resolver;
	char domains[DOMAINS][DOMAIN_SIZE];
	struct mx_lookup lookup;
	unsigned addresses; /* found by now */
};

static void
on_hosts(struct mx_lookup *l, struct mx_hosts *h)
{
	struct warm *warm = CONTAINER_OF(l, struct warm, lookup);

	ASSERT(h->outcome == MX_FOUND);
	warm->addresses += h->address_count;
}

/* The tasks of a turn, without the ring. */
static void
run_tasks(struct worker *w)
{
	struct list_node *node;

	while ((node = list_shift(&w->tasks)) != NULL) {
		struct task *t = LIST_ITEM(node, struct task, node);
		t->on_run(t);
	}
}

static void
look_up(struct warm *warm, unsigned number)
{
	unsigned before = warm->addresses;

	mx_lookup_domain(&warm->lookup, warm->resolver, span_of_string(warm->domains[number]),
			 NULL);
	run_tasks(&warm->worker);
	ASSERT(warm->addresses > before);
}

static struct warm *
warm_new(void)
{
	struct worker_options options = { .mailbox_places = 8 };
	struct resolver_options dns = {
		.queries_max = 64, .waiting_max = 64, .cache_bytes = 64 << 20, .deadline_ms = 20000
	};
	char text[WHY_SIZE];
	struct buf why = buf_of(text, sizeof text);
	struct warm *warm = calloc(1, sizeof *warm);

	ASSERT(warm != NULL);
	warm->peers[0] = &warm->worker;
	worker_init(&warm->worker, 0, 1, warm->peers, &options);
	warm->resolver = resolver_new(&warm->worker, &dns, 1, &why);
	ASSERT(warm->resolver != NULL);
	warm->lookup.on_done = on_hosts;
	for (unsigned i = 0; i < DOMAINS; i++) {
		snprintf(warm->domains[i], DOMAIN_SIZE, "domain%u.localhost", i);
		look_up(warm, i);
	}
	return warm;
}

static void
warm_free(struct warm *warm)
{
	resolver_free(warm->resolver);
	worker_close(&warm->worker);
	free(warm);
}

void
measure_mx_warm(struct micro_run *run)
{
	struct warm *warm = warm_new();

	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++)
		look_up(warm, (unsigned)(i % DOMAINS));
	micro_stop(run);
	warm_free(warm);
}

void
measure_answer_warm(struct micro_run *run)
{
	struct warm *warm = warm_new();

	micro_go(run);
	for (uint64_t i = 0; i < run->operations; i++) {
		struct span name = span_of_string(warm->domains[i % DOMAINS]);
		struct dns_answer *a = resolver_peek(warm->resolver, name, DNS_A);
		ASSERT(a != NULL && a->count == 1);
		dns_answer_put(a);
	}
	micro_stop(run);
	warm_free(warm);
}
