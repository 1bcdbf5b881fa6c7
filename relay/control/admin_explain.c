/* SPDX-License-Identifier: Apache-2.0
 *
 * The command explain: the way of mail for an address through the configuration in effect and the
 * DNS to its site, and what would happen there now. Each question is a step; answers from the DNS
 * carry their security. A worker asks the DNS, with its own cache, as it would for a mail.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/config.h"
#include "dns/mx_select.h"
#include "relay/control/admin_site.h"
#include "relay/control/control.h"
#include "relay/flow/routing.h"
#include "relay/smtp/address.h"
#include "tls/dane.h"

enum {
	TEXT_MAX = 1000,
	TEXTS_FIRST = 4096,
	TEXTS_MAX = 256 * 1024,
	STEPS_MAX = 8 + 3 * 64, /* hosts of a route */
	CANCEL_CHECK_MS = 100,
	ADDRESS_TEXT_MAX = 128,
	SMTP_PORT = 25,
};

struct explanation {
	struct admin_explanation whole;
	struct arena texts;
	struct admin_step steps[STEPS_MAX];
	unsigned step_count;
};

/* A text that lives as long as the explanation; nothing where there is no memory. */
static struct span __attribute__((format(printf, 2, 3)))
say(struct explanation *e, const char *format, ...)
{
	char text[TEXT_MAX];
	va_list arguments;

	va_start(arguments, format);
	int size = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (size < 0)
		return span_none();
	size_t whole = (size_t)size < sizeof text ? (size_t)size : sizeof text - 1;
	return arena_copy(&e->texts, span_of(text, whole));
}

static void
begin(struct explanation *e)
{
	*e = (struct explanation){ 0 };
	arena_init(&e->texts, TEXTS_FIRST, TEXTS_MAX);
}

static void
add_step(struct explanation *e, struct admin_step step)
{
	ASSERT(e->step_count < STEPS_MAX);
	e->steps[e->step_count++] = step;
}

static void
conclude(struct explanation *e, struct span verdict, struct span why)
{
	e->whole.verdict = verdict;
	e->whole.why = why;
}

/* The end of it. */
static void
answer(struct admin_client *c, struct explanation *e, const struct report_set *site)
{
	admin_object(c, ADMIN_SHAPE_explanation, &e->whole);
	admin_rows(c, "steps");
	for (unsigned i = 0; i < e->step_count; i++)
		admin_row(c, ADMIN_SHAPE_step, &e->steps[i]);
	admin_rows_end(c);
	if (site != NULL)
		admin_write_hosts(c, site);
	arena_reset(&e->texts);
	admin_done(c);
}

/* ---- what the configuration says ---- */

/* False: it is no address. */
static bool
explain_address(struct explanation *e, const struct config *config, struct span text)
{
	struct address address;

	e->whole.address = text;
	if (span_eq_nocase(text, SPAN("postmaster"))) {
		add_step(e, (struct admin_step){
				    .step = SPAN("address"),
				    .question = text,
				    .answer = config->hostname,
				    .why = SPAN("a postmaster without a domain is this host's"),
			    });
		return true;
	}
	bool is_address = address_parse_mailbox(text, &address) == ADDRESS_OK;
	add_step(e, (struct admin_step){
			    .step = SPAN("address"),
			    .question = text,
			    .answer = is_address ? address.domain : SPAN("none"),
			    .why = is_address ? SPAN("the domain decides")
					      : SPAN("it is not local@domain of RFC 5321"),
		    });
	if (!is_address)
		conclude(e, SPAN("refuses"), SPAN("it is no address"));
	return is_address;
}

static void
explain_relay(struct explanation *e, const struct config *config, struct span domain)
{
	const struct config_domain *row = config_domain_find(config, domain);

	add_step(e,
		 (struct admin_step){
			 .step = SPAN("relay"),
			 .question = SPAN("who may send there?"),
			 .answer = row != NULL ? SPAN("anyone") : SPAN("relay.networks only"),
			 .why = row != NULL ? say(e, "relay.domains has %.*s", SPAN_ARG(row->name))
					    : SPAN("relay.domains does not have it"),
		 });
}

/* False where no host is to be found: the explanation is complete. */
static bool
explain_route(struct explanation *e, const struct config *config, const struct routing_step *to)
{
	const struct config_route *row = config_route_find(config, to->domain);

	if (to->kind == SITE_NOWHERE || row == NULL) {
		add_step(e, (struct admin_step){ .step = SPAN("route"),
						 .question = to->domain,
						 .answer = SPAN("none"),
						 .why = SPAN("no row of routes covers it") });
		conclude(
			e, SPAN("refuses"),
			SPAN("no route leads there; such a recipient is refused, and mail that was "
			     "taken before waits"));
		return false;
	}
	add_step(e, (struct admin_step){
			    .step = SPAN("route"),
			    .question = to->domain,
			    .answer = to->by_mx ? SPAN("its MX hosts") : to->target->text,
			    .why = say(e, "the row with domain %.*s", SPAN_ARG(row->domain)),
		    });
	if (to->kind == SITE_DISCARD)
		conclude(e, SPAN("discards"),
			 SPAN("the route says so; each recipient has an event"));
	return to->kind != SITE_DISCARD;
}

/* The steps up to the route; where that leads, or false where all is said. */
static bool
explain_up_to_route(struct explanation *e, const struct admin_client *c, struct routing_step *to)
{
	const struct routing *routing = c->routing;
	struct span text = c->request.texts[ADMIN_ARG_ADDRESS];

	if (!explain_address(e, routing->config, text))
		return false;
	*to = routing_find(routing, text);
	explain_relay(e, routing->config, to->domain);
	return explain_route(e, routing->config, to);
}

/* ---- what the DNS says ---- */

static struct span
security_word(const struct mx_hosts *found, bool secure)
{
	if (found->is_literal)
		return span_none();
	if (found->outcome == MX_BOGUS)
		return SPAN("bogus");
	return secure ? SPAN("secure") : SPAN("insecure");
}

static struct span
hosts_text(struct explanation *e, const struct mx_hosts *found)
{
	uint8_t memory[TEXT_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	for (unsigned i = 0; i < found->host_count; i++)
		buf_printf(&text, "%s%u %.*s", i == 0 ? "" : ", ",
			   (unsigned)found->hosts[i].preference, SPAN_ARG(found->hosts[i].name));
	return arena_copy(&e->texts, buf_span(&text));
}

static struct span
addresses_text(struct explanation *e, const struct mx_hosts *found, unsigned host)
{
	uint8_t memory[TEXT_MAX];
	struct buf text = buf_of(memory, sizeof memory);

	for (unsigned i = 0; i < found->address_count; i++) {
		if (found->host_of[i] != host)
			continue;
		buf_append_string(&text, text.size == 0 ? "" : ", ");
		net_address_show_ip(&found->addresses[i], &text);
	}
	return text.size == 0 ? SPAN("none") : arena_copy(&e->texts, buf_span(&text));
}

static void
append_records(const struct dns_answer *a, struct buf *out)
{
	for (unsigned i = 0; i < a->count && buf_room(out) > 0; i++) {
		struct span rdata = a->records[i].data;
		buf_append_string(out, i == 0 ? ": " : ", ");
		if (rdata.size < 3)
			buf_append_string(out, "(malformed)");
		else
			tlsa_show(&(struct tlsa){ rdata.data[0], rdata.data[1], rdata.data[2],
						  span_after(rdata, 3) },
				  out);
	}
}

/* What is known of the TLSA records of a host. */
static void
explain_tlsa(struct explanation *e, const struct mx_host *h, uint16_t port)
{
	static const char *const words[] = {
		[DANE_NOT_ASKED] = "the way there is not secure, so they would prove nothing",
		[DANE_NONE] = "there are none",
		[DANE_USABLE] = "one of them must match the host's certificate",
		[DANE_UNUSABLE] = "none of them can be used, which demands TLS all the same",
		[DANE_FAILED] = "without an answer the host is not used",
	};
	struct tlsa records[DNS_RECORDS_MAX];
	size_t count = 0;
	enum dane_verdict verdict = dane_select(h->tlsa, records, &count);
	uint8_t memory[TEXT_MAX], name_memory[DNS_NAME_MAX + 16];
	struct buf text = buf_of(memory, sizeof memory);
	struct buf name = buf_of(name_memory, sizeof name_memory);

	buf_append_string(&text, dane_verdict_label(verdict));
	if (h->tlsa != NULL)
		append_records(h->tlsa, &text);
	mx_tlsa_name(h->tlsa != NULL ? h->tlsa_base : h->name, port, &name);
	add_step(e, (struct admin_step){
			    .step = SPAN("tlsa"),
			    .question = arena_copy(&e->texts, buf_span(&name)),
			    .answer = arena_copy(&e->texts, buf_span(&text)),
			    .security = h->tlsa == NULL                   ? span_none()
					: h->tlsa->outcome == DNS_BOGUS   ? SPAN("bogus")
					: h->tlsa->security == DNS_SECURE ? SPAN("secure")
									  : SPAN("insecure"),
			    .why = verdict == DANE_FAILED ? say(e, "%s: %.*s", words[verdict],
								SPAN_ARG(h->tlsa->why))
							  : span_of_string(words[verdict]),
		    });
}

/* What a host must do before it is given mail; one by number is known by that. */
static void
explain_tls(struct explanation *e, const struct plan *plan, struct span name,
	    const struct net_address *number)
{
	static const char *const words[] = {
		[TLS_NONE] = "TLS is not used",
		[TLS_MAY] = "TLS where it is offered, whatever the certificate",
		[TLS_ENCRYPT] = "TLS, whatever the certificate",
		[TLS_VERIFY] = "TLS, with a certificate that a CA vouches for",
		[TLS_DANE] = "TLS, with a certificate that matches a TLSA record",
		[TLS_FINGERPRINT] = "TLS, with a certificate of the route's fingerprints",
	};
	static const char *const by[] = {
		[TLS_BY_DEFAULT] = "nothing more is published",
		[TLS_BY_ROUTE] = "the route says so",
		[TLS_BY_DANE] = "by its TLSA records",
		[TLS_BY_STS] = "by the domain's MTA-STS policy",
		[TLS_BY_MAIL] = "the mail's sender wants it so",
	};
	unsigned i = 0;
	enum tls_source source;

	while (i < plan->host_count &&
	       (number != NULL ? !net_address_eq(&plan->hosts[i].address, number)
			       : !span_eq(plan->hosts[i].name, name)))
		i++;
	if (i == plan->host_count) {
		add_step(e, (struct admin_step){ .step = SPAN("tls"),
						 .question = name,
						 .answer = SPAN("not used"),
						 .why = SPAN("the way to it cannot be protected as "
							     "it must be, now") });
		return;
	}
	enum tls_level level = plan_host_level(&plan->policy, &plan->hosts[i], &source);
	add_step(e, (struct admin_step){
			    .step = SPAN("tls"),
			    .question = name,
			    .answer = span_of_string(tls_level_label(level)),
			    .why = say(e, "%s (%s)", words[level], by[source]),
		    });
}

static void
conclude_unprotected(struct explanation *e)
{
	conclude(e, SPAN("waits"),
		 say(e, "%s there is no host to which the way can be protected as it must be",
		     mx_outcome_status(MX_UNPROTECTED)));
}

static unsigned long long
age_s(uint64_t now_ms, uint64_t then_ms)
{
	return now_ms > then_ms ? (now_ms - then_ms) / 1000 : 0;
}

/* The policy that is known of the domain, where the route leaves it to that; NULL: none. */
static struct sts_held *
find_policy(const struct admin_client *c, const struct routing_step *to)
{
	if (!c->routing->config->sts.enabled || to->way->policy.source != TLS_BY_DEFAULT)
		return NULL;
	return policies_find(&c->admin->control->policies, to->domain);
}

static void
explain_policy(struct explanation *e, const struct admin_client *c, const struct routing_step *to)
{
	const struct sts_held *h = find_policy(c, to);
	uint64_t now_ms = c->admin->worker->now_wall_ms;
	uint8_t memory[TEXT_MAX];
	struct buf hosts = buf_of(memory, sizeof memory);

	if (!c->routing->config->sts.enabled || to->way->policy.source != TLS_BY_DEFAULT)
		return;
	for (unsigned i = 0; h != NULL && i < h->pattern_count && buf_room(&hosts) > 0; i++) {
		buf_append_string(&hosts, i == 0 ? "" : ", ");
		buf_append(&hosts, h->patterns[i]);
	}
	add_step(e, (struct admin_step){
			    .step = SPAN("mta-sts"),
			    .question = to->domain,
			    .answer = h == NULL ? SPAN("none is known")
						: say(e, "%s, id %.*s", sts_mode_label(h->mode),
						      SPAN_ARG(h->id)),
			    .why = h == NULL ? SPAN("the first mail asks for it")
					     : say(e,
						   "fetched %llu s ago, holds for %llu s more; its "
						   "hosts: %.*s",
						   age_s(now_ms, h->fetched_at_ms),
						   age_s(h->expires_at_ms, now_ms),
						   SPAN_ARG(buf_span(&hosts))),
		    });
}

/* False where the domain has no hosts that could be used: all is said. */
static bool
explain_mx(struct explanation *e, const struct mx_hosts *found, const struct plan *plan)
{
	bool has_hosts = found->outcome == MX_FOUND;
	const char *label = mx_outcome_label(found->outcome);

	add_step(e, (struct admin_step){
			    .step = SPAN("mx"),
			    .question = found->domain,
			    .answer = has_hosts ? hosts_text(e, found) : span_of_string(label),
			    .security = security_word(found, found->mx_secure),
			    .why = !has_hosts           ? found->why
				   : found->is_literal  ? SPAN("an address literal")
				   : found->is_implicit ? SPAN("no MX records: the domain's own "
							       "addresses")
							: SPAN("its MX records, by preference"),
		    });
	for (unsigned i = 0; i < found->host_count && has_hosts; i++) {
		const struct mx_host *host = &found->hosts[i];
		add_step(e, (struct admin_step){
				    .step = SPAN("host"),
				    .question = host->name,
				    .answer = addresses_text(e, found, i),
				    .security = security_word(found, host->addresses_secure),
			    });
		if (plan_wants_tlsa(&plan->policy) && !found->is_literal)
			explain_tlsa(e, host, SMTP_PORT);
		explain_tls(e, plan, host->name, NULL);
	}
	if (has_hosts && plan->host_count > 0)
		return true;
	if (has_hosts) {
		conclude_unprotected(e);
		return false;
	}
	bool again = mx_outcome_is_temporary(found->outcome);
	conclude(e, again ? SPAN("waits") : SPAN("fails"),
		 say(e, "%s %.*s", mx_outcome_status(found->outcome), SPAN_ARG(found->why)));
	return false;
}

/* A host of a route's target. */
static void
explain_target_host(struct explanation *e, const struct config_host *host,
		    const struct mx_hosts *found, const struct plan *plan)
{
	uint8_t memory[ADDRESS_TEXT_MAX];
	struct buf number = buf_of(memory, sizeof memory);
	bool is_found = found != NULL && found->outcome == MX_FOUND;

	if (host->name.size == 0) {
		net_address_show(&host->address, &number);
		explain_tls(e, plan, arena_copy(&e->texts, buf_span(&number)), &host->address);
		return;
	}
	add_step(e, (struct admin_step){
			    .step = SPAN("host"),
			    .question = host->name,
			    .answer = is_found ? addresses_text(e, found, 0)
				      : found != NULL
					      ? span_of_string(mx_outcome_label(found->outcome))
					      : SPAN("none"),
			    .security = is_found ? security_word(found,
								 found->hosts[0].addresses_secure)
						 : span_none(),
			    .why = found == NULL || is_found ? span_none() : found->why,
		    });
	if (!is_found)
		return;
	if (plan_wants_tlsa(&plan->policy) && plan->kind == SITE_SMTP && !found->is_literal)
		explain_tlsa(e, &found->hosts[0], host->port);
	explain_tls(e, plan, host->name, NULL);
}

/* False where none of the hosts can be used: all is said. */
static bool
explain_target(struct explanation *e, const struct admin_client *c, const struct routing_step *to)
{
	const struct config_target *target = to->target;
	bool is_unprotected = false;

	for (size_t i = 0; i < target->hosts_count; i++) {
		const struct mx_hosts *found = c->answers[i];
		explain_target_host(e, &target->hosts[i], found, c->plan);
		is_unprotected |= target->hosts[i].name.size == 0 ||
				  (found != NULL && found->outcome == MX_FOUND);
	}
	if (c->plan->host_count > 0)
		return true;
	if (is_unprotected)
		conclude_unprotected(e);
	else
		conclude(e, SPAN("waits"), SPAN("none of the hosts can be found"));
	return false;
}

struct lookup_run {
	struct ask ask; /* first */
	struct admin_client *client;
	struct ask_part part;
	struct routing_step to; /* lent by client->routing */
	struct mx_lookup lookup;
	size_t next; /* answer */
	bool looking;
	struct timer check; /* whether it was cancelled; the worker's */
};

static void
end_lookup(struct lookup_run *run)
{
	run->looking = false;
	timer_stop(&ask_worker(&run->part)->timers, &run->check);
	ask_resume(&run->part);
}

static void
on_found(struct mx_lookup *l, struct mx_hosts *found)
{
	struct lookup_run *run = CONTAINER_OF(l, struct lookup_run, lookup);

	run->client->answers[run->next++] = mx_hosts_get(found);
	end_lookup(run);
}

/* A relay that ends does not wait for the DNS. */
static void
on_check(struct timer *t)
{
	struct lookup_run *run = CONTAINER_OF(t, struct lookup_run, check);
	struct worker *w = ask_worker(&run->part);

	if (ask_is_cancelled(&run->part)) {
		mx_lookup_cancel(&run->lookup);
		end_lookup(run);
		return;
	}
	timer_set(&w->timers, t, w->now_ms + CANCEL_CHECK_MS);
}

/* The next that is to be asked for; false where there is none. */
static bool
has_next(struct lookup_run *run)
{
	const struct config_target *target = run->to.target;

	while (!run->to.by_mx && run->next < target->hosts_count &&
	       target->hosts[run->next].name.size == 0)
		run->next++;
	return run->next < run->client->answer_count;
}

static enum ask_step
lookup_slice(struct ask_part *p, uint64_t slice_us)
{
	struct lookup_run *run = CONTAINER_OF(p->ask, struct lookup_run, ask);
	struct worker *w = ask_worker(p);

	(void)slice_us;
	if (ask_is_cancelled(p) || !has_next(run))
		return ASK_DONE;
	ASSERT(!run->looking);
	run->looking = true;
	run->lookup = (struct mx_lookup){
		.on_done = on_found,
		.dane = run->to.kind == SITE_SMTP && plan_wants_tlsa(&run->to.way->policy),
	};
	timer_init(&run->check, on_check);
	timer_set(&w->timers, &run->check, w->now_ms + CANCEL_CHECK_MS);
	if (run->to.by_mx) {
		mx_lookup_domain(&run->lookup, w->resolver, run->to.domain,
				 &run->client->routing->self);
	} else {
		const struct config_host *host = &run->to.target->hosts[run->next];
		mx_lookup_host(&run->lookup, w->resolver, host->name, host->port);
	}
	return ASK_WAIT;
}

/* ---- what the site says ---- */

static void
explain_connection(struct explanation *e, const struct site_report *r)
{
	bool full = r->busy >= r->limit;

	add_step(e, (struct admin_step){
			    .step = SPAN("connection"),
			    .question = SPAN("is there one for a mail?"),
			    .answer = full ? SPAN("not now") : SPAN("yes"),
			    .why = say(e,
				       "%u of at most %u connections are busy (by %.*s), %u mails "
				       "wait for one",
				       r->busy, r->limit, (int)r->source_size,
				       (const char *)r->source, r->waiting),
		    });
	if (full)
		conclude(e, SPAN("waits"), SPAN("all connections of the site are in use"));
	else
		conclude(e, SPAN("delivers"), SPAN("a connection can be had"));
}

/* What the site would do with one mail more. */
static void
explain_site(struct explanation *e, const struct site_report *r)
{
	bool down = r->hosts > 0 && r->hosts_failed == r->hosts;
	bool failed = r->failure.at_ms != 0;

	add_step(e, (struct admin_step){
			    .step = SPAN("site"),
			    .question = SPAN("can a host be reached?"),
			    .answer = down ? SPAN("not now") : SPAN("so it seems"),
			    .why = say(e, "%u of %u hosts failed a short while ago%s%.*s",
				       r->hosts_failed, r->hosts,
				       failed ? "; the last failure was: " : "",
				       failed ? (int)r->failure.size : 0,
				       (const char *)r->failure.text),
		    });
	explain_connection(e, r);
	if (down)
		conclude(e, SPAN("waits"),
			 SPAN("all hosts of the site failed a short while ago; it "
			      "is tried again soon"));
}

static void
on_reports(struct admin_client *c, const struct report_set *r)
{
	struct explanation e;
	struct routing_step to;

	begin(&e);
	bool leads_on = explain_up_to_route(&e, c, &to);
	if (leads_on && to.by_mx)
		explain_policy(&e, c, &to);
	if (leads_on)
		leads_on = to.by_mx ? explain_mx(&e, c->answers[0], c->plan)
				    : explain_target(&e, c, &to);
	if (!leads_on) {
		answer(c, &e, NULL);
		return;
	}
	struct span name = r->only;
	bool suspended = suspended_find(&c->admin->suspended, name) != NULL;
	e.whole.site = name;
	add_step(&e, (struct admin_step){ .step = SPAN("suspension"),
					  .question = SPAN("did an operator suspend the site?"),
					  .answer = suspended ? SPAN("yes") : SPAN("no") });
	if (r->count > 0)
		explain_site(&e, r->reports[0]);
	else
		conclude(&e, SPAN("delivers"), SPAN("nothing has gone there lately"));
	if (suspended)
		conclude(&e, SPAN("waits"), SPAN("the site is suspended; see site resume"));
	if (c->admin->control->draining)
		conclude(&e, SPAN("waits"), SPAN("the relay is shutting down"));
	answer(c, &e, r);
}

/* As a destination makes it of its MX hosts and its policy. */
static struct plan *
plan_of_domain(const struct admin_client *c, const struct routing_step *to)
{
	struct tls_policy policy = to->way->policy;
	struct mx_hosts left;
	uint8_t site_memory[STS_SITE_MAX], why_memory[TEXT_MAX];
	struct buf site = buf_of(site_memory, sizeof site_memory);
	struct buf why = buf_of(why_memory, sizeof why_memory);

	sts_apply(find_policy(c, to), c->answers[0], &policy, &left, &site, &why);
	return plan_of_mx(&left, &policy, NULL);
}

/* Of what was found; NULL without memory, and where a domain has no hosts. */
static struct plan *
make_plan(const struct admin_client *c, const struct routing_step *to)
{
	const struct tls_policy *policy = &to->way->policy;

	if (!to->by_mx)
		return plan_of_target(to->target, policy, to->way->auth, c->answers, NULL);
	return c->answers[0]->outcome == MX_FOUND ? plan_of_domain(c, to) : NULL;
}

static void
on_looked(struct ask *a)
{
	struct lookup_run *run = CONTAINER_OF(a, struct lookup_run, ask);
	struct admin_client *c = run->client;
	struct routing_step to = run->to;
	bool go_on = admin_asked(c);

	free(run);
	if (!go_on)
		return;
	c->plan = make_plan(c, &to);
	if (c->plan == NULL && (!to.by_mx || c->answers[0]->outcome == MX_FOUND)) {
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	admin_ask_sites(c, span_none(), c->plan != NULL ? c->plan->name : SPAN(""), 1, on_reports);
}

static void
look_up(struct admin_client *c, const struct routing_step *to)
{
	struct lookup_run *run = calloc(1, sizeof *run);

	c->answer_count = to->by_mx ? 1 : to->target->hosts_count;
	c->answers = calloc(c->answer_count, sizeof(void *));
	if (run == NULL || c->answers == NULL) {
		free(run);
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	run->client = c;
	run->to = *to;
	run->ask = (struct ask){
		.on_slice = lookup_slice,
		.on_done = on_looked,
		.parts = &run->part,
	};
	admin_ask(c, &run->ask, 0, 1);
}

void
admin_explain_end(struct admin_client *c)
{
	for (size_t i = 0; c->answers != NULL && i < c->answer_count; i++) {
		if (c->answers[i] != NULL)
			mx_hosts_put(c->answers[i]);
	}
	free(c->answers);
	if (c->plan != NULL)
		plan_put(c->plan);
	if (c->routing != NULL)
		routing_put(c->routing);
	c->answers = NULL;
	c->answer_count = 0;
	c->plan = NULL;
	c->routing = NULL;
}

void
admin_run_explain(struct admin_client *c)
{
	struct explanation e;
	struct routing_step to;

	c->routing = routing_get(c->admin->control->routing);
	begin(&e);
	if (!explain_up_to_route(&e, c, &to)) {
		answer(c, &e, NULL);
		return;
	}
	arena_reset(&e.texts);
	look_up(c, &to);
}
