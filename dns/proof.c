/* SPDX-License-Identifier: Apache-2.0
 *
 * resolver_prove(): whether validation works, seen by a question for the root.
 *
 * The states that are told apart: it works; there are no trust anchors; the anchors do not cover
 * the root; the answer is bogus, since forwarders drop DNSSEC records, the clock is wrong, or the
 * anchors are old; nobody answers. While it does not work it is asked again, less and less often.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "dns/inside.h"

enum {
	AGAIN_FIRST_MS = 20 * 1000, /* longer than a bogus answer is remembered */
	AGAIN_MOST_MS = 10 * 60 * 1000,
	WHY_MAX = 300,
};

enum proof_state { UNTOLD, WORKS, NO_ANCHORS, NOT_COVERED, BOGUS, NO_ANSWER };

struct proof {
	struct resolver *resolver;
	struct task begin;
	struct timer again;
	uint64_t again_ms;
	uint64_t asked_at_ms; /* monotonic */
	struct dns_query query;
	enum proof_state told;
};

static const struct {
	const char *means;
	const char *remedy;
} words[] = {
	[NO_ANCHORS] = { "nothing is validated; DANE is off: TLSA records are not asked for",
			 "install dns-root-data, or name a file in dns.trust_anchors" },
	[NOT_COVERED] = { "DANE is off but for what is below the trust anchors that there are",
			  "add the root's to the file of dns.trust_anchors, unless that is meant" },
	[BOGUS] = { "mail to domains below the trust anchors waits: what cannot be validated is "
		    "not believed",
		    "name resolvers in dns.forwarders that hand on DNSSEC records, or none; see "
		    "that the clock is right and the trust anchors are not old; or give up "
		    "validation, and DANE, with dns.trust_anchors: none" },
	[NO_ANSWER] = { "mail to domains waits, whose hosts cannot be found",
			"see that the resolvers in dns.forwarders (or those of this host) can be "
			"reached" },
};

static void
tell(struct proof *p, enum proof_state state, struct span why)
{
	struct worker *w = p->resolver->worker;

	if (p->told == state)
		return;
	p->told = state;
	if (w->log == NULL)
		return;
	if (state == WORKS)
		event_dnssec_works(w->log, &(struct event_dnssec_works){
						   .duration = w->now_ms - p->asked_at_ms });
	else
		event_dnssec_fails(w->log, &(struct event_dnssec_fails){
						   .why = span_first(why, WHY_MAX),
						   .means = span_of_string(words[state].means),
						   .remedy = span_of_string(words[state].remedy),
						   .again = state == NO_ANCHORS ? 0 : p->again_ms,
					   });
}

static void
on_done(struct dns_query *q, struct dns_answer *a)
{
	struct proof *p = CONTAINER_OF(q, struct proof, query);
	struct worker *w = p->resolver->worker;
	bool secure = a->security == DNS_SECURE;

	if (a->outcome == DNS_FOUND && secure)
		tell(p, WORKS, span_none());
	else if (a->outcome == DNS_BOGUS)
		tell(p, BOGUS, a->why);
	else if (a->outcome == DNS_FAILED)
		tell(p, NO_ANSWER, a->why);
	else
		tell(p, NOT_COVERED, SPAN("the root is not below a trust anchor"));
	if (p->told == WORKS)
		return;
	timer_set(&w->timers, &p->again, w->now_ms + p->again_ms);
	p->again_ms = 2 * p->again_ms < AGAIN_MOST_MS ? 2 * p->again_ms : AGAIN_MOST_MS;
}

static void
ask(struct proof *p)
{
	struct resolver *r = p->resolver;

	p->asked_at_ms = r->worker->now_ms;
	if (r->validates)
		resolver_ask(r, &p->query, SPAN("."), DNS_SOA);
	else
		tell(p, NO_ANCHORS, SPAN("there are no trust anchors (dns.trust_anchors)"));
}

static void
on_begin(struct task *t)
{
	ask(CONTAINER_OF(t, struct proof, begin));
}

static void
on_again(struct timer *t)
{
	ask(CONTAINER_OF(t, struct proof, again));
}

void
resolver_prove(struct resolver *r)
{
	struct proof *p = r->proof == NULL ? calloc(1, sizeof *p) : NULL;

	if (p == NULL)
		return;
	p->resolver = r;
	p->again_ms = AGAIN_FIRST_MS;
	p->query.on_done = on_done;
	task_init(&p->begin, on_begin);
	timer_init(&p->again, on_again);
	r->proof = p;
	worker_soon(r->worker, &p->begin);
}

void
proof_stop(struct resolver *r)
{
	struct proof *p = r->proof;

	if (p == NULL)
		return;
	task_cancel(&p->begin);
	timer_stop(&r->worker->timers, &p->again);
	if (p->query.resolver != NULL)
		resolver_cancel(&p->query);
}

void
proof_free(struct resolver *r)
{
	free(r->proof);
	r->proof = NULL;
}
