/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fault/sim_mx.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/assert.h"
#include "tests/fault/sim.h"

enum { TEXT_SIZE = 512, WORST_MS = 25000, SITES = 8 };

struct resolver {
	struct worker *worker;
	uint16_t first_port;
	unsigned under_way;
};

struct work {
	struct timer timer;
	struct mx_lookup *lookup;
	struct resolver *resolver;
	unsigned site; /* UINT_MAX: the domain does not exist */
	char domain[64];
};

struct answer {
	struct mx_hosts hosts; /* first */
	uint8_t text[TEXT_SIZE];
};

static bool calm;
static uint64_t lost_until_us[SITES];

struct resolver *
sim_resolver_new(struct worker *w, uint16_t first_port)
{
	struct resolver *r = calloc(1, sizeof *r);

	ASSERT(r != NULL);
	r->worker = w;
	r->first_port = first_port;
	calm = false;
	return r;
}

void
sim_resolver_free(struct resolver *r)
{
	ASSERT(r->under_way == 0);
	free(r);
}

struct worker *
sim_resolver_worker(struct resolver *r)
{
	return r->worker;
}

void
sim_resolver_count(struct resolver *r, bool begins)
{
	ASSERT(begins || r->under_way > 0);
	r->under_way += begins ? 1 : UINT32_MAX;
}

void
sim_resolver_calm(void)
{
	calm = true;
}

void
sim_resolver_lose(unsigned site, uint64_t until_us)
{
	ASSERT(site < SITES);
	lost_until_us[site] = until_us;
}

static enum mx_outcome
outcome_of(const struct work *w)
{
	if (w->site == UINT32_MAX)
		return MX_NO_DOMAIN;
	bool lost = strncmp(w->domain, "site", 4) == 0 && world->now_us < lost_until_us[w->site];
	if (!lost && (calm || !sim_chance(100)))
		return MX_FOUND;
	return sim_chance(300) ? MX_BOGUS : MX_FAILED;
}

struct mx_hosts *
mx_hosts_get(struct mx_hosts *h)
{
	atomic_fetch_add(&h->references, 1);
	return h;
}

void
mx_hosts_put(struct mx_hosts *h)
{
	if (atomic_fetch_sub(&h->references, 1) == 1)
		free(h);
}

const char *
mx_outcome_label(enum mx_outcome o)
{
	return o == MX_FAILED ? "failed" : o == MX_BOGUS ? "bogus" : "no_domain";
}

const char *
mx_outcome_status(enum mx_outcome o)
{
	return o == MX_FAILED ? "4.4.3" : o == MX_BOGUS ? "4.7.0" : "5.1.2";
}

bool
mx_outcome_is_temporary(enum mx_outcome o)
{
	return o == MX_FAILED || o == MX_BOGUS;
}

static void
fill_host(struct mx_hosts *h, struct work *w, struct buf *text)
{
	size_t at = text->size;
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)(w->resolver->first_port + w->site)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	buf_printf(text, "mx%u.example", w->site);
	h->site = span_of(text->data + at, text->size - at);
	h->host_count = h->address_count = 1;
	h->hosts[0] = (struct mx_host){ .name = h->site, .preference = 10, .count = 1 };
	h->addresses[0].size = sizeof address;
	memcpy(h->addresses[0].bytes, &address, sizeof address);
}

static void
on_answer(struct timer *t)
{
	struct work *w = CONTAINER_OF(t, struct work, timer);
	struct mx_lookup *l = w->lookup;
	struct answer *a = calloc(1, sizeof *a);

	ASSERT(a != NULL);
	struct mx_hosts *h = &a->hosts;
	struct buf text = buf_of(a->text, sizeof a->text);
	atomic_init(&h->references, 1);
	buf_append_string(&text, w->domain);
	h->domain = buf_span(&text);
	h->outcome = outcome_of(w);
	h->expires_at_ms = w->resolver->worker->now_ms + sim_between(1000, 300000);
	if (h->outcome == MX_FOUND)
		fill_host(h, w, &text);
	else
		h->why = SPAN("the modelled DNS says so");
	w->resolver->under_way--;
	l->work = NULL;
	free(w);
	l->on_done(l, h);
	mx_hosts_put(h);
}

void
mx_lookup_domain(struct mx_lookup *l, struct resolver *r, struct span domain,
		 const struct mx_self *self)
{
	struct work *w = calloc(1, sizeof *w);

	(void)self;
	ASSERT(w != NULL && l->work == NULL && domain.size < sizeof w->domain);
	w->lookup = l;
	w->resolver = r;
	memcpy(w->domain, domain.data, domain.size);
	if (sscanf(w->domain, "site%u.example", &w->site) != 1)
		w->site = strcmp(w->domain, "from.example") == 0 ? 0 : UINT32_MAX;
	timer_init(&w->timer, on_answer);
	uint64_t after_ms = calm || !sim_chance(50) ? sim_below(200) : sim_below(WORST_MS);
	timer_set(&r->worker->timers, &w->timer, r->worker->now_ms + after_ms);
	l->resolver = r;
	l->work = w;
	r->under_way++;
}

void
mx_lookup_host(struct mx_lookup *l, struct resolver *r, struct span name, uint16_t port)
{
	(void)port;
	mx_lookup_domain(l, r, name, NULL);
}

void
mx_lookup_cancel(struct mx_lookup *l)
{
	struct work *w = l->work;

	if (w == NULL)
		return;
	timer_stop(&l->resolver->worker->timers, &w->timer);
	l->resolver->under_way--;
	l->work = NULL;
	free(w);
}

/* There is no control thread that would know policies (MTA-STS), so no TXT record is asked for. */
void
resolver_ask(struct resolver *r, struct dns_query *q, struct span name, enum dns_type type)
{
	(void)r;
	(void)q;
	(void)name;
	(void)type;
	ASSERT(false);
}

void
resolver_cancel(struct dns_query *q)
{
	(void)q;
	ASSERT(false);
}
