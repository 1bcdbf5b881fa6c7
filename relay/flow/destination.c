/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/flow/destination.h"

#include <stdlib.h>
#include <string.h>

#include "relay/flow/dispatch.h"
#include "relay/flow/events.h"
#include "relay/flow/flow.h"
#include "relay/flow/outcome.h"

enum {
	SWEEP_MS = 30 * 1000,
	IDLE_MS = 5 * 60 * 1000, /* its answers are kept so long without a mail */
	CLAIM_AGAIN_MS = 1000,
	NAMED_AGAIN_MS = 60 * 1000,  /* hosts of a route are looked up again at most so often */
	STALE_MS = 10 * 1000,        /* a plan is used so long while another is looked for */
	POLICY_AGAIN_MS = 60 * 1000, /* none of its hosts is allowed: that is remembered so long */
	NUMBERS_STEP = 1024,
};

/* ---- the table ---- */

static void on_sweep(struct timer *t);
static void on_pump(struct task *t);
static void on_again(struct timer *t);

static uint32_t
bucket_of(enum site_kind kind, bool by_mx, struct span name)
{
	return (uint32_t)(span_hash_nocase(name, 2 * (uint64_t)kind + by_mx) % DESTINATION_BUCKETS);
}

static bool
take_number(struct destinations *t, uint32_t *number)
{
	if (t->free_count > 0) {
		*number = t->free[--t->free_count];
		return true;
	}
	if (t->next_free == t->numbers) {
		uint32_t more = t->numbers < NUMBERS_STEP ? NUMBERS_STEP : t->numbers * 2;
		if (more > DESTINATIONS_MAX)
			return false;
		struct destination **all = realloc(t->by_number, more * sizeof(void *));
		if (all == NULL)
			return false;
		t->by_number = all;
		uint32_t *unused = realloc(t->free, more * sizeof *unused);
		if (unused == NULL)
			return false;
		t->free = unused;
		t->numbers = more;
	}
	*number = t->next_free++;
	return true;
}

static struct destination *
destination_new(struct flow *f, enum site_kind kind, bool by_mx, struct span name,
		enum tls_need need)
{
	struct destinations *t = &f->destinations;
	struct destination *d = calloc(1, sizeof *d + name.size);
	uint32_t bucket = bucket_of(kind, by_mx, name);

	if (d == NULL)
		return NULL;
	if (!take_number(t, &d->id.number)) {
		free(d);
		return NULL;
	}
	d->magic = DESTINATION_MAGIC;
	d->flow = f;
	d->kind = kind;
	d->by_mx = by_mx;
	d->need = need;
	memcpy(d + 1, name.data, name.size);
	d->name = span_of(d + 1, name.size);
	d->used_at_ms = f->worker->now_ms;
	list_init(&d->resolving);
	list_init(&d->claim.items);
	task_init(&d->pump, on_pump);
	timer_init(&d->again, on_again);
	d->next = t->buckets[bucket];
	t->buckets[bucket] = d;
	t->by_number[d->id.number] = d;
	t->count++;
	list_append(&t->all, &d->link);
	return d;
}

static void
leave_site(struct destination *d)
{
	list_unlink(&d->hungry_link);
	if (d->site != NULL) {
		ASSERT(d->site->destinations > 0);
		d->site->destinations--;
	}
	d->site = NULL;
}

static void
drop_answers(struct destination *d)
{
	for (size_t i = 0; d->answers != NULL && i < d->target->hosts_count; i++) {
		if (d->answers[i] != NULL)
			mx_hosts_put(d->answers[i]);
	}
	free(d->answers);
	d->answers = NULL;
}

static void
stop_looking(struct destination *d)
{
	mx_lookup_cancel(&d->lookup);
	sts_forget(&d->sts);
	if (d->found != NULL)
		mx_hosts_put(d->found);
	d->found = NULL;
	d->looking = false;
	d->flow->destinations.looking--;
	drop_answers(d);
}

static void
destination_free(struct destination *d)
{
	struct destinations *t = &d->flow->destinations;
	struct destination **at = &t->buckets[bucket_of(d->kind, d->by_mx, d->name)];

	OBJ_FINI(d, DESTINATION_MAGIC);
	ASSERT(list_is_empty(&d->resolving) && !d->claiming);
	if (d->looking)
		stop_looking(d);
	sts_forget(&d->sts);
	timer_stop(&d->flow->worker->timers, &d->again);
	task_cancel(&d->pump);
	leave_site(d);
	drop_answers(d);
	if (d->plan != NULL)
		plan_put(d->plan);
	free(d->why);
	if (d->routing != NULL)
		routing_put(d->routing);
	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	list_unlink(&d->link);
	t->by_number[d->id.number] = NULL;
	t->free[t->free_count++] = d->id.number;
	t->count--;
	free(d);
}

bool
destinations_init(struct flow *f)
{
	list_init(&f->destinations.all);
	timer_init(&f->destinations.sweep, on_sweep);
	struct destination *nowhere =
		destination_new(f, SITE_NOWHERE, false, SPAN("nowhere"), TLS_NEED_NOTHING);
	if (nowhere == NULL)
		return false;
	ASSERT(nowhere->id.number == 0);
	/* For the queue, which files what it cannot place under this number. */
	nowhere->holders = 1;
	return true;
}

void
destinations_fini(struct flow *f)
{
	struct destinations *t = &f->destinations;
	struct list_node *n;

	timer_stop(&f->worker->timers, &t->sweep);
	while ((n = list_first(&t->all)) != NULL)
		destination_free(LIST_ITEM(n, struct destination, link));
	free(t->by_number);
	free(t->free);
}

static bool
is_unused(const struct destination *d)
{
	return d->holders == 0 && !d->queued && !d->claiming && list_is_empty(&d->resolving);
}

static void
on_sweep(struct timer *t)
{
	struct flow *f = CONTAINER_OF(t, struct flow, destinations.sweep);
	struct list_node *n = list_first(&f->destinations.all);

	while (n != NULL) {
		struct destination *d = LIST_ITEM(n, struct destination, link);
		n = list_next(&f->destinations.all, n);
		if (is_unused(d) && d->used_at_ms + IDLE_MS < f->worker->now_ms)
			destination_free(d);
	}
	sites_sweep(f);
	if (!f->draining)
		timer_set(&f->worker->timers, t, f->worker->now_ms + SWEEP_MS);
}

static struct destination *
find(const struct flow *f, enum site_kind kind, bool by_mx, struct span name, enum tls_need need)
{
	struct destination *d = f->destinations.buckets[bucket_of(kind, by_mx, name)];

	while (d != NULL && (d->kind != kind || d->by_mx != by_mx || d->need != need ||
			     !span_eq_nocase(d->name, name)))
		d = d->next;
	return d;
}

enum tls_need
destination_need(uint32_t mail_flags)
{
	if ((mail_flags & MAIL_TLS_REQUIRED) != 0)
		return TLS_NEED_REQUIRED;
	return (mail_flags & MAIL_TLS_OPTIONAL) != 0 ? TLS_NEED_OPTIONAL : TLS_NEED_NOTHING;
}

/* Where no connection is made there is nothing to protect. */
static enum tls_need
need_at(const struct routing_step *step, enum tls_need need)
{
	bool is_sent = step->kind == SITE_SMTP || step->kind == SITE_LMTP;

	return is_sent ? need : TLS_NEED_NOTHING;
}

static struct span
name_of(const struct routing_step *step)
{
	if (step->kind == SITE_NOWHERE)
		return SPAN("nowhere");
	return step->by_mx ? step->domain : step->way->name;
}

/* The configuration that its hosts stand in; a later one with the same text has the same hosts. */
static void
adopt_target(struct destination *d, const struct routing *r, const struct routing_step *step)
{
	if (d->routing == r || step->target == NULL || step->by_mx || d->looking)
		return;
	if (d->routing != NULL)
		routing_put(d->routing);
	d->routing = routing_get((struct routing *)(uintptr_t)r);
	d->target = step->target;
	d->way = step->way;
}

struct destination *
destination_of(struct flow *f, const struct routing *r, struct span address, enum tls_need need)
{
	struct routing_step step = routing_find(r, address);
	struct span name = name_of(&step);

	need = need_at(&step, need);
	struct destination *d = find(f, step.kind, step.by_mx, name, need);
	if (d == NULL)
		d = destination_new(f, step.kind, step.by_mx, name, need);
	if (d == NULL) {
		FLOW_LIMIT_HIT(f, DESTINATIONS);
		return NULL;
	}
	adopt_target(d, r, &step);
	d->used_at_ms = f->worker->now_ms;
	if (!timer_is_set(&f->destinations.sweep) && !f->draining)
		timer_set(&f->worker->timers, &f->destinations.sweep, f->worker->now_ms + SWEEP_MS);
	return d;
}

struct destination *
destination_at(const struct flow *f, struct site_id id)
{
	ASSERT(id.number < f->destinations.next_free);
	struct destination *d = f->destinations.by_number[id.number];
	ASSERT(d != NULL);
	OBJ_CHECK(d, DESTINATION_MAGIC);
	return d;
}

bool
destination_serves(const struct destination *d, const struct routing *r, struct span address,
		   enum tls_need need)
{
	struct routing_step step = routing_find(r, address);

	return d->kind == step.kind && d->by_mx == step.by_mx && d->need == need_at(&step, need) &&
	       span_eq_nocase(d->name, name_of(&step));
}

void
destination_hold(struct destination *d)
{
	d->holders++;
}

void
destination_release(struct destination *d)
{
	ASSERT(d->holders > 0);
	d->holders--;
	d->used_at_ms = d->flow->worker->now_ms;
}

void
destination_queued(struct destination *d)
{
	d->queued = true;
}

void
destination_unused(struct destination *d)
{
	d->queued = false;
	d->due = false;
	list_unlink(&d->hungry_link);
}

/* ---- hosts ---- */

/* Does the present plan, or the present failure, still hold? A domain's routes may ask for more, or
 * less, since they were read again. */
static bool
is_fresh(const struct destination *d)
{
	if (d->by_mx && d->looked_by != d->flow->routing)
		return false;
	return (d->plan != NULL || d->why != NULL) && d->expires_at_ms > d->flow->worker->now_ms;
}

/* What the routes want for the domain now. Where they lead it elsewhere by now, its mail is moved
 * when it is claimed, and what is on its way is protected as it may be. */
static struct tls_policy
policy_of_domain(const struct destination *d)
{
	struct routing_step step = routing_find_domain(d->flow->routing, d->name);
	struct tls_policy policy = { .level = TLS_MAY, .source = TLS_BY_DEFAULT };

	if (step.by_mx)
		policy = step.way->policy;
	tls_policy_take_need(&policy, d->need);
	return policy;
}

static struct tls_policy
policy_of_target(const struct destination *d)
{
	struct tls_policy policy = d->way->policy;

	tls_policy_take_need(&policy, d->need);
	return policy;
}

/* May its site be given mail? Also while a newer answer is awaited, but then not for long: what is
 * published about the way there (DANE) must not be ignored because nothing went there for hours. */
static bool
has_site(const struct destination *d)
{
	return d->site != NULL &&
	       (!d->looking || d->expires_at_ms + STALE_MS > d->flow->worker->now_ms);
}

static bool
has_failed(const struct destination *d)
{
	return d->site == NULL && d->why != NULL;
}

static void
join_site(struct destination *d, struct plan *p)
{
	struct site *s = site_of_plan(d->flow, p);

	if (d->plan != NULL)
		plan_put(d->plan);
	d->plan = p;
	if (s != d->site) {
		leave_site(d);
		d->site = s;
		if (s != NULL)
			s->destinations++;
	}
}

static void
settle_resolving(struct destination *d)
{
	struct list waiting;
	struct list_node *n;

	list_init(&waiting);
	list_take_all(&waiting, &d->resolving);
	d->resolving_count = 0;
	while ((n = list_shift(&waiting)) != NULL)
		destination_deliver(d, LIST_ITEM(n, struct job, resolving_link));
	destination_pump_soon(d);
}

/* It has no hosts that could be used. */
static void
note_failure(struct destination *d, enum mx_outcome outcome, struct span why)
{
	why = span_first(why, DESTINATION_WHY_MAX);
	free(d->why);
	d->why = malloc(why.size + 1);
	if (d->why != NULL) {
		memcpy(d->why, why.data, why.size);
		d->why[why.size] = '\0';
	}
	d->outcome = outcome;
	leave_site(d);
	if (d->plan != NULL)
		plan_put(d->plan);
	d->plan = NULL;
	flow_event_unresolved(d->flow, d);
}

/* `why`: of the hosts that the plan leaves out. */
static void
note_hosts(struct destination *d, struct plan *p, const struct buf *why)
{
	if (p != NULL && p->host_count == 0) {
		d->uncertain = p->uncertain || d->sts.uncertain;
		plan_put(p);
		note_failure(d, MX_UNPROTECTED, buf_span(why));
		return;
	}
	free(d->why);
	d->why = NULL;
	if (p != NULL)
		join_site(d, p);
	/* Without memory for it, it is looked for again. */
	if (p == NULL || d->site == NULL)
		d->expires_at_ms = 0;
}

/* What the domain itself publishes of its hosts' protection counts where the route leaves it so. */
static bool
wants_sts(const struct destination *d)
{
	return sts_is_on(d->flow) && d->name.data[0] != '[' &&
	       policy_of_domain(d).source == TLS_BY_DEFAULT;
}

/* The hosts that are left by the domain's policy, or why there is none. */
static void
note_domain(struct destination *d, const struct mx_hosts *found)
{
	struct tls_policy policy = policy_of_domain(d);
	struct sts_held *held = policy.source == TLS_BY_DEFAULT ? d->sts.policy : NULL;
	uint64_t again_ms = d->flow->worker->now_ms + POLICY_AGAIN_MS;
	struct mx_hosts left;
	uint8_t site_memory[STS_SITE_MAX], why_memory[DESTINATION_WHY_MAX];
	struct buf site = buf_of(site_memory, sizeof site_memory);
	struct buf why = buf_of(why_memory, sizeof why_memory);

	if (d->expires_at_ms > d->sts.expires_at_ms)
		d->expires_at_ms = d->sts.expires_at_ms;
	if (sts_apply(held, found, &policy, &left, &site, &why)) {
		note_hosts(d, plan_of_mx(&left, &policy, &why), &why);
		return;
	}
	if (d->expires_at_ms > again_ms)
		d->expires_at_ms = again_ms;
	flow_count_tls(d->flow, (struct tls_tally_row){
					.policy = TALLY_STS,
					.result = "validation-failure",
					.domain = d->name,
					.why = buf_span(&why),
					.sessions = 1,
				});
	d->uncertain = false;
	note_failure(d, MX_UNPROTECTED, buf_span(&why));
}

static void
count_bogus(struct destination *d, struct span host, struct span why)
{
	flow_count_tls(d->flow, (struct tls_tally_row){
					.policy = TALLY_TLSA,
					.result = "dnssec-invalid",
					.domain = d->name,
					.host = host,
					.why = why,
					.sessions = 1,
				});
}

/* An answer that DNSSEC finds forged, or spoiled, keeps mail from its way as a bad certificate
 * does, and the domain wants to know (RFC 8460 4.3.2.1). */
static void
count_dnssec(struct destination *d, const struct mx_hosts *found)
{
	struct tls_policy policy = policy_of_domain(d);

	if (policy.source != TLS_BY_DEFAULT)
		return;
	if (found->outcome == MX_BOGUS)
		count_bogus(d, span_none(), found->why);
	for (unsigned i = 0; found->outcome == MX_FOUND && i < found->host_count; i++) {
		const struct mx_host *host = &found->hosts[i];
		if (host->tlsa != NULL && host->tlsa->outcome == DNS_BOGUS)
			count_bogus(d, host->name, host->tlsa->why);
	}
}

/* All is known that was asked for. */
static void
finish_domain(struct destination *d, const struct mx_hosts *found)
{
	count_dnssec(d, found);
	d->looking = false;
	d->flow->destinations.looking--;
	d->expires_at_ms = found->expires_at_ms;
	if (found->outcome == MX_FOUND)
		note_domain(d, found);
	else
		note_failure(d, found->outcome, found->why);
	settle_resolving(d);
	flow_check_drained(d->flow);
}

static void on_domain_found(struct mx_lookup *l, struct mx_hosts *found);
static void on_policy_known(struct sts_lookup *l);

static void
ask_domain(struct destination *d, const struct tls_policy *policy)
{
	struct flow *f = d->flow;

	d->looked_by = f->routing;
	sts_forget(&d->sts);
	if (wants_sts(d)) {
		d->sts.on_done = on_policy_known;
		sts_look(&d->sts, f, d->name);
	}
	d->lookup.on_done = on_domain_found;
	d->lookup.dane = plan_wants_tlsa(policy);
	mx_lookup_domain(&d->lookup, f->worker->resolver, d->name, &f->routing->self);
}

static void
on_domain_found(struct mx_lookup *l, struct mx_hosts *found)
{
	struct destination *d = CONTAINER_OF(l, struct destination, lookup);

	OBJ_CHECK(d, DESTINATION_MAGIC);
	struct tls_policy policy = policy_of_domain(d);
	if (plan_wants_tlsa(&policy) && !l->dane) {
		ask_domain(d, &policy); /* the routes were read again meanwhile */
		return;
	}
	if (d->sts.pending && found->outcome == MX_FOUND) {
		d->found = mx_hosts_get(found);
		return;
	}
	if (d->sts.pending)
		sts_forget(&d->sts);
	finish_domain(d, found);
}

static void
on_policy_known(struct sts_lookup *l)
{
	struct destination *d = CONTAINER_OF(l, struct destination, sts);
	struct mx_hosts *found = d->found;

	OBJ_CHECK(d, DESTINATION_MAGIC);
	if (found == NULL)
		return;
	d->found = NULL;
	finish_domain(d, found);
	mx_hosts_put(found);
}

static void ask_next_host(struct destination *d);

/* The names of a route's list are asked for one after the other: they are few, and their answers
 * are at hand but for the first time. */
static void
on_host_found(struct mx_lookup *l, struct mx_hosts *found)
{
	struct destination *d = CONTAINER_OF(l, struct destination, lookup);

	OBJ_CHECK(d, DESTINATION_MAGIC);
	d->answers[d->asked++] = mx_hosts_get(found);
	ask_next_host(d);
}

/* The answers that there are hold for their least time, but addresses alone for a while at least;
 * what TLSA records say must not be older than they allow. */
static uint64_t
expiry_of_answers(const struct destination *d)
{
	uint64_t least_ms = UINT64_MAX;
	bool asked = false;

	for (size_t i = 0; i < d->target->hosts_count; i++) {
		const struct mx_hosts *found = d->answers[i];
		if (found == NULL)
			continue;
		least_ms = found->expires_at_ms < least_ms ? found->expires_at_ms : least_ms;
		asked |= found->outcome == MX_FOUND && found->hosts[0].tlsa != NULL;
	}
	uint64_t again_ms = d->flow->worker->now_ms + NAMED_AGAIN_MS;
	return asked || least_ms > again_ms ? least_ms : again_ms;
}

/* Without any host the last answer says why, unless they were left out. */
static void
finish_hosts(struct destination *d)
{
	uint8_t memory[DESTINATION_WHY_MAX];
	struct buf why = buf_of(memory, sizeof memory);
	struct tls_policy policy = policy_of_target(d);
	struct plan *p = plan_of_target(d->target, &policy, d->way->auth, d->answers, &why);
	const struct mx_hosts *last = NULL;

	for (size_t i = 0; i < d->target->hosts_count; i++) {
		if (d->answers[i] != NULL)
			last = d->answers[i];
	}
	ASSERT(last != NULL);
	d->looking = false;
	d->flow->destinations.looking--;
	d->expires_at_ms = expiry_of_answers(d);
	if (p != NULL && p->host_count == 0 && why.size == 0) {
		plan_put(p);
		note_failure(d, last->outcome, last->why);
	} else {
		note_hosts(d, p, &why);
	}
	drop_answers(d);
	settle_resolving(d);
	flow_check_drained(d->flow);
}

static void
ask_next_host(struct destination *d)
{
	const struct config_target *t = d->target;

	while (d->asked < t->hosts_count && t->hosts[d->asked].name.size == 0)
		d->asked++;
	if (d->asked == t->hosts_count) {
		finish_hosts(d);
		return;
	}
	d->lookup.on_done = on_host_found;
	struct tls_policy policy = policy_of_target(d);
	d->lookup.dane = d->kind == SITE_SMTP && plan_wants_tlsa(&policy);
	mx_lookup_host(&d->lookup, d->flow->worker->resolver, t->hosts[d->asked].name,
		       t->hosts[d->asked].port);
}

static bool
is_by_number(const struct config_target *t)
{
	for (size_t i = 0; i < t->hosts_count; i++) {
		if (t->hosts[i].name.size > 0)
			return false;
	}
	return true;
}

static void
take_numbers(struct destination *d)
{
	uint8_t memory[DESTINATION_WHY_MAX];
	struct buf why = buf_of(memory, sizeof memory);
	struct tls_policy policy = policy_of_target(d);
	struct plan *p = plan_of_target(d->target, &policy, d->way->auth, NULL, &why);

	d->expires_at_ms = p != NULL ? UINT64_MAX : 0;
	note_hosts(d, p, &why);
}

/* Begins to look, unless that is going on or there is no need. */
static void
look(struct destination *d)
{
	struct flow *f = d->flow;

	if (d->looking || is_fresh(d))
		return;
	if (!d->by_mx && is_by_number(d->target)) {
		take_numbers(d);
		return;
	}
	if (!d->by_mx) {
		d->answers = calloc(d->target->hosts_count, sizeof(void *));
		if (d->answers == NULL)
			return;
	}
	d->looking = true;
	f->destinations.looking++;
	d->asked = 0;
	if (!d->by_mx) {
		ask_next_host(d);
		return;
	}
	struct tls_policy policy = policy_of_domain(d);
	ask_domain(d, &policy);
}

/* ---- jobs ---- */

static void
refuse(struct destination *d, struct job *j)
{
	uint8_t memory[400];
	struct buf text = buf_of(memory, sizeof memory);
	/* A next hop that the operator names and that does not exist is a mistake to be mended. */
	bool mistake = !d->by_mx && !mx_outcome_is_temporary(d->outcome);
	/* RFC 8689 4.2.1: a mail that requires TLS fails where there is no way to have it. */
	bool no_way = d->need == TLS_NEED_REQUIRED && d->outcome == MX_UNPROTECTED && !d->uncertain;
	bool temporary = !no_way && (mistake || mx_outcome_is_temporary(d->outcome));

	buf_printf(&text, "%s %s %s",
		   temporary               ? "451"
		   : d->outcome == MX_NULL ? "556"
					   : "550",
		   no_way    ? "5.7.10"
		   : mistake ? "4.4.3"
			     : mx_outcome_status(d->outcome),
		   d->why);
	j->no_way = no_way;
	if (temporary)
		job_defer_rest(j, buf_span(&text));
	else
		job_resolve_all(j, RECIPIENT_FAILED, buf_span(&text));
	for (uint32_t i = 0; i < j->result_count; i++)
		j->phases[i] = JOB_PHASE_DNS;
	j->times.taken_ms = j->times.started_ms = j->times.done_ms = d->flow->worker->now_ms;
	j->times.taken_wall_ms = d->flow->worker->now_wall_ms;
	outcome_record(j);
}

void
destination_deliver(struct destination *d, struct job *j)
{
	look(d);
	if (has_site(d)) {
		dispatch_wait(d->site, j);
	} else if (d->looking) {
		list_append(&d->resolving, &j->resolving_link);
		d->resolving_count++;
	} else if (has_failed(d) && is_fresh(d)) {
		refuse(d, j);
	} else {
		dispatch_put_back(j, CLAIM_AGAIN_MS);
	}
}

bool
destination_has_room(const struct destination *d)
{
	if (has_site(d))
		return dispatch_site_has_room(d->site);
	return d->resolving_count < DESTINATION_RESOLVING_MAX;
}

void
destinations_drain(struct flow *f)
{
	for (struct list_node *n = list_first(&f->destinations.all); n != NULL;
	     n = list_next(&f->destinations.all, n)) {
		struct destination *d = LIST_ITEM(n, struct destination, link);
		struct list_node *w;
		if (d->looking)
			stop_looking(d);
		while ((w = list_shift(&d->resolving)) != NULL) {
			d->resolving_count--;
			dispatch_put_back(LIST_ITEM(w, struct job, resolving_link), 0);
		}
	}
}

bool
destination_is_busy(const struct destination *d)
{
	return d->claiming;
}

/* ---- claiming ---- */

static void
look_again_within(struct destination *d, uint64_t ms)
{
	uint64_t at_ms = d->flow->worker->now_ms + ms;

	if (!timer_is_set(&d->again) || d->again.deadline_ms > at_ms)
		timer_set(&d->flow->worker->timers, &d->again, at_ms);
}

static void
on_claimed(struct queue_claim *c, enum err e)
{
	struct destination *d = CONTAINER_OF(c, struct destination, claim);
	struct flow *f = d->flow;
	unsigned got = 0;

	d->claiming = false;
	if (d->claimed_for != NULL) {
		ASSERT(d->claimed_for->claiming > 0);
		d->claimed_for->claiming--;
		site_pump_soon(d->claimed_for);
	}
	d->claimed_for = NULL;
	for (struct list_node *n = list_first(&c->items); n != NULL; n = list_next(&c->items, n))
		got++;
	if (e != ERR_OK) {
		flow_event_claim_failed(f, d->name, e);
		d->claim_after_ms = f->worker->now_ms + CLAIM_AGAIN_MS;
	} else if (got < c->most) {
		d->due = false; /* on_due comes again for what falls due later */
	}
	dispatch_items(f, &c->items, 0);
	destination_pump_soon(d);
	flow_check_drained(f);
}

void
destination_claim(struct destination *d)
{
	struct flow *f = d->flow;

	ASSERT(d->due && !d->claiming);
	list_unlink(&d->hungry_link);
	d->claiming = true;
	d->claimed_for = d->site;
	if (d->site != NULL)
		d->site->claiming++;
	d->claim.site = d->id;
	d->claim.most = dispatch_claim_most(d->site, f);
	d->claim.with_bodies = d->site != NULL;
	d->claim.on_done = on_claimed;
	list_init(&d->claim.items);
	queue_claim(f->worker->queue, &d->claim);
}

/* What has no hosts, and what goes nowhere or is discarded, claims by itself; the rest stands in
 * the line of its site, which claims when it has room. */
static void
pump(struct destination *d)
{
	struct flow *f = d->flow;

	if (!d->due || d->claiming || f->draining || f->rests)
		return;
	if (d->kind == SITE_SMTP || d->kind == SITE_LMTP)
		look(d);
	if (d->looking && !has_site(d))
		return; /* settle_resolving comes back here */
	if (d->site != NULL) {
		if (!list_is_linked(&d->hungry_link))
			list_append(&d->site->hungry, &d->hungry_link);
		site_pump_soon(d->site);
		return;
	}
	if (d->claim_after_ms > f->worker->now_ms) {
		look_again_within(d, d->claim_after_ms - f->worker->now_ms);
		return;
	}
	if (!dispatch_may_claim(f) || !queue_may_deliver(f->worker->queue)) {
		look_again_within(d, CLAIM_AGAIN_MS);
		return;
	}
	destination_claim(d);
}

static void
on_pump(struct task *t)
{
	pump(CONTAINER_OF(t, struct destination, pump));
}

static void
on_again(struct timer *t)
{
	pump(CONTAINER_OF(t, struct destination, again));
}

void
destination_pump_soon(struct destination *d)
{
	OBJ_CHECK(d, DESTINATION_MAGIC);
	worker_soon(d->flow->worker, &d->pump);
}

void
destination_due(struct destination *d)
{
	d->due = true;
	destination_pump_soon(d);
}
