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
#include "dns/mx.h"
#include "relay/control/admin_site.h"
#include "relay/control/control.h"
#include "relay/flow/routing.h"
#include "relay/smtp/address.h"

enum {
	TEXT_MAX = 1000,
	TEXTS_FIRST = 4096,
	TEXTS_MAX = 256 * 1024,
	STEPS_MAX = 8 + MX_HOSTS_MAX,
	CANCEL_CHECK_MS = 100,
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
	const struct routing *routing = c->admin->control->routing;
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

/* False where the domain has no hosts: all is said. */
static bool
explain_mx(struct explanation *e, const struct mx_hosts *found)
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
	for (unsigned i = 0; i < found->host_count && has_hosts; i++)
		add_step(e,
			 (struct admin_step){
				 .step = SPAN("host"),
				 .question = found->hosts[i].name,
				 .answer = addresses_text(e, found, i),
				 .security = security_word(found, found->hosts[i].addresses_secure),
			 });
	if (has_hosts)
		return true;
	bool again = mx_outcome_is_temporary(found->outcome);
	conclude(e, again ? SPAN("waits") : SPAN("fails"),
		 say(e, "%s %.*s", mx_outcome_status(found->outcome), SPAN_ARG(found->why)));
	return false;
}

struct lookup_run {
	struct ask ask; /* first */
	struct admin_client *client;
	struct ask_part part;
	struct span domain;
	struct mx_lookup lookup;
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

	run->client->found = mx_hosts_get(found);
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

static enum ask_step
lookup_slice(struct ask_part *p, uint64_t slice_us)
{
	struct lookup_run *run = CONTAINER_OF(p->ask, struct lookup_run, ask);
	struct worker *w = ask_worker(p);

	(void)slice_us;
	if (run->client->found != NULL || ask_is_cancelled(p))
		return ASK_DONE;
	ASSERT(!run->looking);
	run->looking = true;
	run->lookup.on_done = on_found;
	timer_init(&run->check, on_check);
	timer_set(&w->timers, &run->check, w->now_ms + CANCEL_CHECK_MS);
	mx_lookup_domain(&run->lookup, w->resolver, run->domain, &w->flow->routing->self);
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
	/* A reload since the question began may have changed the route. */
	bool leads_on = explain_up_to_route(&e, c, &to) &&
			(c->found == NULL || !to.by_mx || explain_mx(&e, c->found));
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

static void
on_looked(struct ask *a)
{
	struct lookup_run *run = CONTAINER_OF(a, struct lookup_run, ask);
	struct admin_client *c = run->client;
	bool go_on = admin_asked(c);

	free(run);
	if (!go_on)
		return;
	bool has_site = c->found->outcome == MX_FOUND;
	admin_ask_sites(c, span_none(), has_site ? c->found->site : SPAN(""), 1, on_reports);
}

static void
look_up(struct admin_client *c, struct span domain)
{
	struct lookup_run *run = calloc(1, sizeof *run);

	if (run == NULL) {
		admin_refuse(c, ADMIN_NO_MEMORY, NULL);
		return;
	}
	run->client = c;
	run->domain = domain;
	run->ask = (struct ask){
		.on_slice = lookup_slice,
		.on_done = on_looked,
		.parts = &run->part,
	};
	admin_ask(c, &run->ask, 0, 1);
}

void
admin_run_explain(struct admin_client *c)
{
	struct explanation e;
	struct routing_step to;

	begin(&e);
	if (!explain_up_to_route(&e, c, &to)) {
		answer(c, &e, NULL);
		return;
	}
	arena_reset(&e.texts);
	if (to.by_mx)
		look_up(c, to.domain);
	else
		admin_ask_sites(c, span_none(), to.way->name, 1, on_reports);
}
