/* SPDX-License-Identifier: Apache-2.0
 *
 * The modelled DNS of sim_mx.h behind the symbols of dns/spf_check.h and dns/iprev.h: each check
 * ends after a random virtual time, with any result.
 */
#include <stdlib.h>

#include "core/base/assert.h"
#include "dns/iprev.h"
#include "dns/spf_check.h"
#include "tests/fault/sim.h"
#include "tests/fault/sim_mx.h"

enum { WORST_MS = 30000 };

struct work {
	struct timer timer;
	struct spf_check *check;
	struct iprev *iprev;
	struct resolver *resolver;
	enum spf_identity identity;
};

static struct work *
begin(struct resolver *r, void (*on_answer)(struct timer *t))
{
	struct work *w = calloc(1, sizeof *w);
	struct worker *worker = sim_resolver_worker(r);
	uint64_t after_ms = sim_chance(50) ? sim_below(WORST_MS) : sim_below(200);

	ASSERT(w != NULL);
	w->resolver = r;
	timer_init(&w->timer, on_answer);
	timer_set(&worker->timers, &w->timer, worker->now_ms + after_ms);
	sim_resolver_count(r, true);
	return w;
}

static void
end(struct work *w)
{
	timer_stop(&sim_resolver_worker(w->resolver)->timers, &w->timer);
	sim_resolver_count(w->resolver, false);
	free(w);
}

static struct spf_outcome
outcome(enum spf_identity identity)
{
	return (struct spf_outcome){
		.result = (enum spf_result)sim_below(SPF_PERMERROR + 1),
		.identity = identity,
		.domain = SPAN("from.example"),
		.mechanism = SPAN("-all"),
		.mechanism_domain = SPAN("from.example"),
		.explanation = SPAN("the modelled DNS says so"),
	};
}

static void
on_checked(struct timer *t)
{
	struct work *w = CONTAINER_OF(t, struct work, timer);
	struct spf_check *c = w->check;
	struct spf_outcome o = outcome(w->identity);

	c->work = NULL;
	end(w);
	c->on_done(c, &o);
}

void
spf_check_start(struct spf_check *c, struct resolver *r, const struct spf_inputs *in)
{
	struct work *w = begin(r, on_checked);

	ASSERT(c->work == NULL);
	w->check = c;
	w->identity = in->domain.size == 0 ? SPF_HELO : in->identity;
	c->resolver = r;
	c->work = w;
}

/* Sometimes all is at hand, as it is for most in the world. */
const struct spf_outcome *
spf_check_try(struct spf_check *c, struct resolver *r, const struct spf_inputs *in)
{
	static struct spf_outcome o;

	if (sim_chance(500)) {
		spf_check_start(c, r, in);
		return NULL;
	}
	o = outcome(in->domain.size == 0 ? SPF_HELO : in->identity);
	return &o;
}

void
spf_check_cancel(struct spf_check *c)
{
	if (c->work == NULL)
		return;
	end(c->work);
	c->work = NULL;
}

const char *
iprev_result_label(enum iprev_result r)
{
	return r == IPREV_PASS ? "pass" : r == IPREV_FAIL ? "fail" : "temperror";
}

static void
on_named(struct timer *t)
{
	struct work *w = CONTAINER_OF(t, struct work, timer);
	struct iprev *i = w->iprev;
	struct iprev_outcome o = { .result = (enum iprev_result)sim_below(IPREV_PERMERROR + 1) };

	if (o.result == IPREV_PASS)
		o.name = SPAN("client.example");
	i->is_open = false;
	i->work = NULL;
	end(w);
	i->on_done(i, &o);
}

const struct iprev_outcome *
iprev_start(struct iprev *i, struct resolver *r, const struct net_address *client)
{
	struct work *w = begin(r, on_named);

	(void)client;
	ASSERT(!i->is_open);
	w->iprev = i;
	i->resolver = r;
	i->is_open = true;
	i->work = w;
	return NULL;
}

void
iprev_cancel(struct iprev *i)
{
	if (!i->is_open)
		return;
	i->is_open = false;
	end(i->work);
	i->work = NULL;
}
